"""The shell around the core, on real sockets of the loopback."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fastrelay.api.spec import RelaySpec
from fastrelay.cli import members, statuspage
from fastrelay.client import (
    Client,
    ConnectFailedError,
    FeedbackTrack,
    PublishedTrack,
    ReceivedObject,
    RequestFailedError,
    connect,
)
from fastrelay.moqt.codes import RequestErrorCode, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic.certificates import certificate_sha256, make_self_signed
from fastrelay.quic.connection import Connection
from fastrelay.quic.endpoint import connect as connect_quic
from fastrelay.quic.options import QuicOptions, Retry
from fastrelay.relay import member_metrics, status
from fastrelay.relay import server as server_module
from fastrelay.relay.configuration import (
    ConfigurationError,
    CredentialFiles,
    Credentials,
    ServerOptions,
    UpstreamOptions,
    server_options,
)
from fastrelay.relay.options import PolicyRule, RelayOptions
from fastrelay.relay.quota import Limit, QuotaOptions
from fastrelay.relay.rate import Rate
from fastrelay.relay.server import Server, check_period, serve

INSECURE = QuicOptions(insecure=True)
TRACK = FullTrackName((b"live",), b"video")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("identity")
    paths = directory / "c.pem", directory / "k.pem"
    make_self_signed(["localhost"]).write(*paths)
    return paths


@pytest.fixture
def options(identity: tuple[Path, Path]) -> ServerOptions:
    certificate, private_key = identity
    return ServerOptions(
        host="127.0.0.1",
        port=0,
        quic=QuicOptions(certificate=certificate, private_key=private_key),
        relay=RelayOptions(),
        session=SessionLimits(),
        upstreams=(),
        monitoring=("127.0.0.1", 0),
        grace_period_seconds=30.0,
        redirect="moqt://elsewhere:4443",
    )


@asynccontextmanager
async def running(options: ServerOptions) -> AsyncIterator[Server]:
    server = Server(options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def url(server: Server, scheme: str = "moqt") -> str:
    return f"{scheme}://127.0.0.1:{server.endpoint.address[1]}/"


class Mute:
    """A client's side that says nothing."""

    def __init__(self) -> None:
        self.code = asyncio.get_running_loop().create_future()

    def stream_data(self, *_: object) -> None: ...
    def stream_reset(self, *_: object) -> None: ...
    def stream_stopped(self, *_: object) -> None: ...
    def datagram(self, _: bytes) -> None: ...
    def writable(self) -> None: ...
    def closed(self, code: int, _reason: str) -> None:
        self.code.set_result(code)


async def page(server: Server, path: str) -> tuple[int, bytes]:
    """Status and body."""
    assert server.pages.address is not None
    host, port = server.pages.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def statusz(server: Server) -> dict[str, Any]:
    code, body = await page(server, "/statusz")
    assert code == 200
    return dict(json.loads(body))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (what changes is in other tasks)
            await asyncio.sleep(0.005)


async def test_pages(options: ServerOptions) -> None:
    server = Server(options)
    await server.pages.listen("127.0.0.1", 0)
    assert await page(server, "/healthz") == (200, b"ok\n")
    assert await page(server, "/readyz") == (503, b"not listening yet\n")
    assert await page(server, "/servingz") == (503, b"not listening yet\n")
    await server.pages.close()
    async with running(options) as server:
        assert await page(server, "/readyz") == (200, b"ready\n")
        code, text = await page(server, "/metrics")
        assert code == 200
        assert b"fastrelay_build_info" in text
        document = await statusz(server)
        assert document["process"]["listen"] == list(server.endpoint.address)
        assert document["process"]["ready"] is True
        assert document["sessions"] == []


@pytest.mark.parametrize("scheme", ["moqt", "https"])
async def test_who_leaves_does_not_wait_for_the_closing_time(
    options: ServerOptions, scheme: str
) -> None:
    """Three probe timeouts, here of hours: a round trip had taken long."""
    async with running(options) as server:
        async with asyncio.timeout(60), connect(url(server, scheme), options=INSECURE) as client:
            connection = client.transport._carrier  # type: ignore[attr-defined]
            connection.engine._recovery._rtt_smoothed = 3600.0
        assert client.closed
        assert not connection._closed.done()
        await until(lambda: not server.sessions)


async def test_a_program_that_ends_within_a_session_says_so(options: ServerOptions) -> None:
    async with running(options) as server:
        left: list[Any] = []

        async def visit(inside: asyncio.Event) -> None:
            async with connect(url(server), options=INSECURE) as client:
                left.append(client.transport)
                inside.set()
                await asyncio.Event().wait()

        async def program() -> None:
            inside = asyncio.Event()
            visiting = asyncio.create_task(visit(inside))
            await inside.wait()
            assert not visiting.done()

        thread = threading.Thread(target=asyncio.run, args=(program(),))
        thread.start()
        await until(lambda: not thread.is_alive())
        assert left[0]._carrier._endpoint._socket is None
        await until(lambda: not server.sessions)


async def test_sessions_are_told_and_counted(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "SLICE", 1)
    async with running(options) as server:
        async with (
            connect(url(server), options=INSECURE, drafts=(DRAFT_16,)),
            connect(url(server, "https"), options=INSECURE),
        ):
            assert len(server.sessions) == 2
            first, second = (await statusz(server))["sessions"]
            assert (first["draft"], second["transport"]) == (16, "webtransport")
            assert first["path"]["cipher"] == "CHACHA20_POLY1305_SHA256"
            assert first["path"]["congestion_window"] > 0
            assert first["path"]["address"] == first["address"]
        await until(lambda: not server.sessions)
        metrics = server.metrics
        assert metrics.sessions_opened == {("16", "quic"): 1, ("18", "webtransport"): 1}
        assert metrics.sessions_closed == {"NO_ERROR": 2}
        assert server.transports == {}


async def test_packets_with_media_are_counted_for_each_session(options: ServerOptions) -> None:
    async with (
        running(options) as server,
        connect(url(server), options=INSECURE) as publisher,
        connect(url(server), options=INSECURE) as subscriber,
    ):
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: bool(server.relay.namespaces))
        subscription = await subscriber.subscribe(TRACK)
        track = await publishing

        async def counted() -> list[int]:
            return [each["user_packets"] for each in (await statusz(server))["sessions"]]

        first, second = await counted()
        for obj in range(3):
            track.send_datagram(0, obj, b"x" * 700)
            await anext(subscription.inbox)
        assert await counted() == [first, second + 3]
        assert server.endpoint.counters.media_packets == first + second + 3


async def test_strange_codes_get_no_label_of_their_own(options: ServerOptions) -> None:
    async with running(options) as server:
        async with connect(url(server), options=INSECURE) as client:
            client.session.transport.close(0x1234, "")
            await until(lambda: not server.sessions)
        assert server.metrics.sessions_closed == {"OTHER": 1}


async def test_at_the_limit_of_sessions(options: ServerOptions) -> None:
    limits = replace(options.relay.limits, sessions=1)
    options = replace(options, relay=replace(options.relay, limits=limits))
    async with running(options) as server, connect(url(server), options=INSECURE):
        assert await page(server, "/readyz") == (503, b"at the limit of sessions\n")
        assert await page(server, "/servingz") == (200, b"serving\n")


async def test_drain_waits_for_those_who_are_there(options: ServerOptions) -> None:
    async with running(options) as server:
        async with connect(url(server), options=INSECURE) as client:
            drain = asyncio.create_task(server.drain())
            goaway = await client.wait_goaway()
            assert (goaway.new_session_uri, goaway.timeout) == ("moqt://elsewhere:4443", 30_000)
            assert await page(server, "/readyz") == (503, b"draining\n")
            assert await page(server, "/servingz") == (200, b"serving\n")
            with pytest.raises(ConnectFailedError):
                async with connect(url(server), options=INSECURE):
                    pass
            assert not drain.done()
            await server.drain()
        async with asyncio.timeout(25):  # less than the grace period
            await drain


async def test_drain_with_nobody_there(options: ServerOptions) -> None:
    async with running(options) as server, asyncio.timeout(25):
        await server.drain()


async def test_drain_ends_with_the_grace_period(options: ServerOptions) -> None:
    async with (
        running(replace(options, grace_period_seconds=0.02)) as server,
        connect(url(server), options=INSECURE) as client,
    ):
        await server.drain()
        assert not client.closed
        await server.close()
        assert (await client.wait_closed()).code == SessionError.GOAWAY_TIMEOUT


def chain(origin: Server, options: ServerOptions, token: bytes | None) -> ServerOptions:
    upstream = UpstreamOptions(
        url=url(origin),
        quic=INSECURE,
        prefixes=(),
        token=token,
        reconnect_max_seconds=1.0,
    )
    return replace(options, upstreams=(upstream,), grace_period_seconds=0.0)


async def publish(client: Client) -> PublishedTrack:
    """The track, once somebody wants it."""
    track = client.add_track(TRACK)
    await client.publish_namespace(TRACK.namespace)
    await track.wait_subscribed()
    return track


@pytest.mark.parametrize("token", [b"open sesame", None])
async def test_upstreams_are_asked_with_their_token(
    options: ServerOptions, token: bytes | None
) -> None:
    rule = PolicyRule((), subscribe=(b"open sesame",))
    guarded = replace(options, relay=replace(options.relay, policy=(rule,)))
    async with (
        running(guarded) as origin,
        running(chain(origin, options, token)) as edge,
        connect(url(origin), options=INSECURE) as publisher,
        connect(url(edge), options=INSECURE) as subscriber,
    ):
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: edge.upstreams.connected == {url(origin): True})
        assert (await statusz(edge))["process"]["upstreams"][0]["connected"] is True
        if token is None:
            with pytest.raises(RequestFailedError):
                await subscriber.subscribe(TRACK)
        else:
            await subscriber.subscribe(TRACK)
            await publishing
        publishing.cancel()


async def test_an_upstream_that_drains_is_dialled_again(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    async with (
        running(options) as origin,
        running(chain(origin, options, None)) as edge,
    ):
        await until(lambda: edge.upstreams.connected == {url(origin): True})
        monkeypatch.setattr(edge.upstreams, "leaving", lambda *words: seen.put_nowait(words))
        drain = asyncio.create_task(origin.drain())
        async with asyncio.timeout(60):
            assert await seen.get() == (url(origin), "moqt://elsewhere:4443")
        drain.cancel()


async def test_a_draining_relay_still_serves_from_its_upstream(options: ServerOptions) -> None:
    async with (
        running(options) as origin,
        running(replace(chain(origin, options, None), grace_period_seconds=30.0)) as edge,
        connect(url(origin), options=INSECURE) as publisher,
        connect(url(edge), options=INSECURE) as subscriber,
    ):
        await until(lambda: edge.upstreams.connected == {url(origin): True})
        publishing = asyncio.create_task(publish(publisher))
        subscription = await subscriber.subscribe(TRACK)
        track = await publishing
        drain = asyncio.create_task(edge.drain())
        goaway = await subscriber.wait_goaway()
        assert goaway.new_session_uri == "moqt://elsewhere:4443"
        track.open_subgroup(1).write(b"still here")
        async with asyncio.timeout(60):
            async for item in subscription:
                if isinstance(item, ReceivedObject):
                    assert item.payload == b"still here"
                    break
        assert edge.upstreams.connected == {url(origin): True}
        drain.cancel()


async def test_upstreams_that_are_not_there(options: ServerOptions) -> None:
    """The answer is what the draft says, not silence."""
    nobody = UpstreamOptions("moqt://127.0.0.1:9", INSECURE, (), None, 1.0)
    async with (
        running(replace(options, upstreams=(nobody,))) as server,
        connect(url(server), options=INSECURE) as client,
    ):
        async with asyncio.timeout(60):
            with pytest.raises(RequestFailedError) as caught:
                await client.subscribe(TRACK)
        assert caught.value.code == RequestErrorCode.DOES_NOT_EXIST


async def test_what_peers_owe_is_looked_after(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session without SETUP does not stay."""
    monkeypatch.setattr(server_module, "EXPIRE_INTERVAL", 0.01)
    options = replace(options, session=SessionLimits(setup_timeout=0.02))

    async with running(options) as server:
        mute = Mute()
        connection = await connect_quic(url(server), (DRAFT_18,), INSECURE, lambda *_: mute)
        async with asyncio.timeout(60):
            assert await mute.code == SessionError.CONTROL_MESSAGE_TIMEOUT
        await connection.close()


async def test_a_timer_that_fails_stops_no_other(options: ServerOptions) -> None:
    async with running(options) as server:
        reached = asyncio.Event()

        def fail() -> None:
            raise RuntimeError("on purpose")

        server.relay.timers.after(0.0, fail)
        server.relay.timers.after(0.001, reached.set)
        async with asyncio.timeout(60):
            await reached.wait()


async def test_a_session_that_fails_is_closed_alone(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "EXPIRE_INTERVAL", 0.005)
    async with (
        running(options) as server,
        connect(url(server), options=INSECURE) as victim,
        connect(url(server), options=INSECURE) as other,
    ):

        def fail(_now: float) -> None:
            raise RuntimeError("on purpose")

        session = next(iter(server.sessions))
        monkeypatch.setattr(session, "expire", fail)
        assert (await victim.wait_closed()).code == SessionError.INTERNAL_ERROR
        await other.publish_namespace(TRACK.namespace)


def test_certificates_out_of_their_time() -> None:
    certificate = x509.load_pem_x509_certificate(make_self_signed(days=10).certificate)
    begin, second = certificate.not_valid_before_utc, datetime.timedelta(seconds=1)
    check_period(certificate, begin)
    check_period(certificate, certificate.not_valid_after_utc)
    with pytest.raises(ConfigurationError, match=rf"expired at .*{begin.year}.*; renew it"):
        check_period(certificate, certificate.not_valid_after_utc + second)
    with pytest.raises(ConfigurationError, match=r"valid only from .*; check the clock"):
        check_period(certificate, begin - second)


async def test_addresses_that_cannot_be_had(options: ServerOptions) -> None:
    async with running(options) as first:
        host, port = first.endpoint.address
        second = Server(replace(options, host=host, port=port))
        with pytest.raises(OSError, match="in use") as caught:
            await second.start()
        assert caught.value.filename == f"{host}:{port}"
        await second.close()


# -- serve()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """Those that serve() has made and started."""
    made: list[Server] = []

    class Seen(Server):
        async def start(self) -> None:
            await super().start()
            made.append(self)

    monkeypatch.setattr(server_module, "Server", Seen)
    return made


async def test_a_signal_ends_it_in_good_order(
    options: ServerOptions, servers: list[Server]
) -> None:
    task = asyncio.create_task(serve(options))
    await until(lambda: bool(servers))
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await task is None


async def test_a_second_signal_ends_it_at_once(
    options: ServerOptions, servers: list[Server]
) -> None:
    task = asyncio.create_task(serve(options))
    await until(lambda: bool(servers))
    async with connect(url(servers[0]), options=INSECURE) as client:
        os.kill(os.getpid(), signal.SIGINT)
        await client.wait_goaway()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await task is signal.SIGTERM
            assert (await client.wait_closed()).code == SessionError.GOAWAY_TIMEOUT


async def test_files_are_looked_at_when_it_is_told_to(
    options: ServerOptions, servers: list[Server], tmp_path: Path
) -> None:
    """SIGHUP: what is wrong then is not used, and what was used before stays."""
    paths = tmp_path / "c.pem", tmp_path / "k.pem"
    make_self_signed().write(*paths)
    quic = replace(options.quic, certificate=paths[0], private_key=paths[1], reload_interval=3600.0)
    token = tmp_path / "token"
    token.write_text("old")
    rule = {"prefix": "live", "tokens": [{"name": "a", "file": str(token)}]}
    files = {"certificate": str(paths[0]), "privateKey": str(paths[1])}
    spec = RelaySpec.model_validate({"tls": {"files": files}, "authorization": {"rules": [rule]}})
    told = server_options(spec)
    task = asyncio.create_task(
        serve(
            replace(
                options,
                quic=quic,
                relay=replace(options.relay, policy=told.relay.policy),
                credential_files=told.credential_files,
            )
        )
    )
    await until(lambda: bool(servers))
    (server,) = servers

    def allows(word: bytes) -> bool:
        return server.relay.policy.may_publish((b"live",), ((0, word),))

    assert allows(b"old")
    later = make_self_signed()
    later.write(*paths)
    token.write_text(" ")  # nothing: a mistake
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: _sha256(server) == later.sha256)
    assert allows(b"old")
    token.write_text("newer")
    paths[1].write_bytes(make_self_signed().private_key)  # not this certificate's
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: allows(b"newer"))
    assert not allows(b"old")
    assert _sha256(server) == later.sha256
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await task is None


def _sha256(server: Server) -> bytes:
    assert server.endpoint.certificate is not None
    return certificate_sha256(server.endpoint.certificate)


async def test_an_upstream_is_shown_the_new_token(
    options: ServerOptions,
) -> None:
    rule = PolicyRule((), subscribe=(b"new",))
    guarded = replace(options, relay=replace(options.relay, policy=(rule,)))
    async with running(guarded) as origin:
        chained = chain(origin, options, b"old")
        files = CredentialFiles((), lambda: Credentials((), (b"new",)))
        async with running(replace(chained, credential_files=files)) as edge:
            await until(lambda: edge.upstreams.connected == {url(origin): True})
            edge._read_credentials()
            (old,) = edge.sessions
            old.close()
            await until(
                lambda: (
                    bool(edge.sessions.keys() - {old})
                    and edge.upstreams.connected == {url(origin): True}
                )
            )
            async with (
                connect(url(origin), options=INSECURE) as publisher,
                connect(url(edge), options=INSECURE) as subscriber,
            ):
                publisher.add_track(TRACK)
                await publisher.publish_namespace(TRACK.namespace)
                await subscriber.subscribe(TRACK)


async def test_a_wrong_key_is_a_wrong_configuration(options: ServerOptions, tmp_path: Path) -> None:
    make_self_signed().write(tmp_path / "c.pem", tmp_path / "k.pem")
    quic = replace(options.quic, private_key=tmp_path / "k.pem")
    with pytest.raises(ConfigurationError, match="is not the key of the certificate"):
        await serve(replace(options, quic=quic))


def few(options: ServerOptions, connections: int, retry: Retry = Retry.AUTO) -> ServerOptions:
    plenty = Rate(1000, 1000)
    limit = Limit(connections, plenty)
    quota = QuotaOptions(per_address=limit, per_prefix=limit, total=100, attempts=plenty)
    return replace(options, quota=quota, quic=replace(options.quic, retry=retry))


@pytest.mark.parametrize("retry", [Retry.ALWAYS, Retry.NEVER])
async def test_the_quota_counts_who_is_there(options: ServerOptions, retry: Retry) -> None:
    async with running(few(options, 2, retry)) as server:
        assert server.door is not None
        first = await connect_quic(url(server), (DRAFT_18,), INSECURE, lambda *_: Mute())
        async with connect(url(server, "https"), options=INSECURE):
            await until(lambda: len(server.sessions) == 2)
            assert server.door.quota.connections == 2
            with pytest.raises(ConnectFailedError, match=r"ended with CONNECTION_REFUSED$"):
                await connect(url(server), options=INSECURE).__aenter__()
            assert (await statusz(server))["quota"]["connections"] == 2
            _, text = await page(server, "/metrics")
            assert b'fastrelay_quota_refused_total{reason="address_connections"}' in text
            assert b"fastrelay_quota_connections 2.0" in text
        await first.close()
        quota = server.door.quota
        await until(lambda: not quota.connections)
        async with connect(url(server), options=INSECURE):
            assert quota.connections == 1
    assert quota.accounts() == {}


async def test_who_came_too_late_with_others_has_to_go_again(options: ServerOptions) -> None:
    """All are let in while nobody has finished; then the quota holds nevertheless."""
    async with running(few(options, 2, Retry.NEVER)) as server:
        attempts = [
            connect_quic(url(server), (DRAFT_18,), INSECURE, lambda *_: Mute()) for _ in range(5)
        ]
        made = await asyncio.gather(*attempts, return_exceptions=True)
        assert server.door is not None
        await until(lambda: server.endpoint.half_open == 0)
        await until(lambda: len(server.endpoint.connections) == 2)
        assert server.door.quota.connections == len(server.sessions) == 2
        assert server.endpoint.counters.connections_refused >= 3
        for each in made:
            if isinstance(each, Connection):
                await each.close()
        await until(lambda: server.door is not None and not server.door.quota.connections)


async def test_limits_are_set_through_the_control_socket(
    options: ServerOptions, tmp_path: Path
) -> None:
    socket = tmp_path / "control.sock"
    async with (
        running(replace(options, control=socket)) as server,
        connect(url(server), options=INSECURE) as publisher,
        connect(url(server), options=INSECURE) as subscriber,
    ):
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: bool(server.relay.namespaces))
        await subscriber.subscribe(TRACK)
        await publishing
        changed, problem = await asyncio.to_thread(
            statuspage.set_limits, str(socket), {"member": "all", "rate": 2_000_000}
        )
        assert (len(changed), problem) == (1, "")
        document = await asyncio.to_thread(statuspage.status_page, str(socket))
        (member,) = members.members(document)
        assert member.member == changed[0]
        assert (member.rate_by_hand, member.why) == (2_000_000, "hand")
        assert (await page(server, "/limits"))[0] == 404
        changed, problem = await asyncio.to_thread(
            statuspage.set_limits, str(socket), {"member": "nobody", "rate": None}
        )
        assert (changed, problem) == ([], "there is no session of nobody")


async def test_our_own_client_tells_when_objects_arrive(options: ServerOptions) -> None:
    async with (
        running(options) as server,
        connect(url(server), options=INSECURE) as publisher,
        connect(url(server), options=INSECURE) as subscriber,
    ):
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: bool(server.relay.namespaces))
        feedback = await FeedbackTrack.begin(subscriber)
        subscription = await subscriber.subscribe(TRACK)
        track = await publishing
        peer = next(peer for peer in server.relay.peers if peer.feedback is not None)
        assert peer.feedback is not None
        told = peer.feedback
        for group in range(3):
            subgroup = track.open_subgroup(group)
            subgroup.write(b"x" * 700)
            subgroup.close()
            item = await anext(subscription.inbox)
            while not isinstance(item, ReceivedObject):
                item = await anext(subscription.inbox)
            feedback.arrived(subscription.established.track_alias, item)
        await until(lambda: told.delays.objects == 3)
        found = told.delays.statistics()
        assert found is not None
        assert 0 < found.latest < 60
        feedback.close()
        await until(lambda: peer.feedback is None)


@pytest.mark.parametrize(("block", "seen"), [("127.0.0.0/8", True), ("10.0.0.0/8", False)])
async def test_who_was_asked_for_has_metrics_of_its_own(
    options: ServerOptions, block: str, seen: bool
) -> None:
    asked = replace(options, member_blocks=(ip_network(block),))
    async with (
        running(asked) as server,
        connect(url(server), options=INSECURE) as publisher,
        connect(url(server), options=INSECURE) as subscriber,
    ):
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: bool(server.relay.namespaces))
        await subscriber.subscribe(TRACK)
        await publishing
        _, body = await page(server, "/metrics")
        lines = [line for line in body.decode().splitlines() if 'member="' in line]
        assert bool(lines) == seen
        if seen:
            (address,) = {line.partition('member="')[2].split('"')[0] for line in lines}
            assert address.startswith("127.0.0.1:")
            assert any(line.startswith("fastrelay_member_band_bytes_total{") for line in lines)
            assert not any("fastrelay_member_delay" in line for line in lines)


async def test_no_more_members_than_there_is_room_for(
    options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_metrics, "MAX_MEMBERS", 0)
    blocks = (ip_network("127.0.0.0/8"),)
    async with running(options) as server, connect(url(server), options=INSECURE) as client:
        await client.publish_namespace(TRACK.namespace)
        assert member_metrics.watched(server._members(), blocks) == []
