"""What an endpoint does beside carrying sessions: limits, time-outs, trust, reloads, logs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastrelay.quic.certificates import make_self_signed
from fastrelay.quic.connection import ConnectError
from fastrelay.quic.endpoint import Endpoint, connect
from fastrelay.quic.options import QuicOptions, Retry
from unit.quic.peers import Acceptor, Identity, Recorder, serving, session_pair, write_identity
from unit.quic.test_certificates import touch


def url_of(endpoint: Endpoint, scheme: str = "moqt") -> str:
    return f"{scheme}://127.0.0.1:{endpoint.address[1]}/"


@pytest.mark.parametrize("scheme", ["moqt", "https"])
async def test_retry(options: QuicOptions, scheme: str) -> None:
    async with session_pair(replace(options, retry=Retry.ALWAYS), scheme) as pair:
        assert pair.endpoint.counters.retries_sent == 1
        assert pair.endpoint.counters.handshakes_completed == 1


async def test_retry_only_under_load(options: QuicOptions) -> None:
    loaded = replace(options, retry=Retry.AUTO, retry_threshold=3)
    async with serving(loaded, Acceptor()) as endpoint:
        with silent_clients(endpoint, options, 3):
            await until(lambda: endpoint.half_open == 3)
            assert endpoint.counters.retries_sent == 0
            theirs = replace(options, insecure=True)
            connection = await connect(url_of(endpoint), theirs.drafts, theirs, Acceptor())
            assert endpoint.counters.retries_sent == 1
            await connection.close()


async def test_unfinished_handshakes_are_given_up(options: QuicOptions) -> None:
    hasty = replace(options, handshake_timeout=0.5)
    async with serving(hasty, Acceptor()) as endpoint:
        with silent_clients(endpoint, options, 2):
            await until(lambda: endpoint.half_open == 2)
            await until(lambda: endpoint.half_open == 0)


async def test_a_client_gives_up_a_silent_server(options: QuicOptions) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        theirs = replace(options, insecure=True, handshake_timeout=0.1)
        with pytest.raises(ConnectError, match="timeout"):
            await connect(
                f"moqt://127.0.0.1:{silent.getsockname()[1]}", theirs.drafts, theirs, Acceptor()
            )


async def test_a_client_hears_that_nobody_listens(options: QuicOptions) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectError, match="refused"):
        await connect(f"moqt://127.0.0.1:{port}", options.drafts, options, Acceptor())


async def test_no_common_draft(options: QuicOptions) -> None:
    async with serving(replace(options, drafts=options.drafts[:1]), Acceptor()) as endpoint:
        theirs = replace(options, insecure=True)
        for scheme in ("moqt", "https"):
            with pytest.raises(ConnectError):
                await connect(url_of(endpoint, scheme), options.drafts[1:], theirs, Acceptor())


async def test_only_raw_or_only_webtransport(options: QuicOptions) -> None:
    theirs = replace(options, insecure=True)
    for refused, only in (
        ("https", replace(options, webtransport=False)),
        ("moqt", replace(options, raw=False)),
    ):
        async with serving(only, Acceptor()) as endpoint:
            with pytest.raises(ConnectError):
                await connect(url_of(endpoint, refused), theirs.drafts, theirs, Acceptor())


async def test_too_many_connections_are_refused(options: QuicOptions) -> None:
    async with session_pair(replace(options, max_connections=1)) as pair:
        theirs = replace(options, insecure=True)
        with pytest.raises(ConnectError, match="CONNECTION_REFUSED"):
            await connect(url_of(pair.endpoint), theirs.drafts, theirs, Acceptor())
        assert pair.endpoint.counters.connections_refused == 1


async def test_draining_refuses_new_connections_only(options: QuicOptions) -> None:
    async with session_pair(options, "https") as pair:
        pair.endpoint.drain()
        theirs = replace(options, insecure=True)
        with pytest.raises(ConnectError, match="CONNECTION_REFUSED"):
            await connect(url_of(pair.endpoint), theirs.drafts, theirs, Acceptor())
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, b"still here", fin=True)
        await pair.server.wait(lambda: stream in pair.server.finished)


async def test_unknown_versions_are_negotiated_and_noise_is_ignored(options: QuicOptions) -> None:
    async with serving(options, Acceptor()) as endpoint:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", endpoint.address[1]))
            client.setblocking(False)
            initial = b"\xc0" + b"\x1a\x2a\x3a\x4a" + b"\x08destinat" + b"\x06source" + bytes(1180)
            noise = [b"", b"\x00", b"\x40" * 20, b"\xc0", initial[:100]]
            noise.append(b"\xc0\x00\x00\x00\x01\x08destinat\x06source" + bytes(1200))
            for data in [*noise, initial]:
                client.send(data)
            loop = asyncio.get_running_loop()
            answer = await asyncio.wait_for(loop.sock_recv(client, 2000), 60)
            assert answer[1:5] == bytes(4)
            assert answer[5:12] == b"\x06source"
            assert endpoint.counters.versions_negotiated == 1
            assert endpoint.counters.datagrams_sent == 1
            assert endpoint.connections == ()


async def test_idle_connections_end(options: QuicOptions) -> None:
    async with session_pair(replace(options, idle_timeout=0.3)) as pair:
        await pair.server.wait(lambda: pair.server.end)
        assert pair.server.end == (1, "Idle timeout")


@pytest.mark.parametrize(
    ("client", "datagrams"),
    [({"keep_alive": 0.3}, 7), ({"keep_alive": 20.0, "idle_timeout": 60.0}, 3)],
    ids=["own", "peer"],
)
async def test_keep_alive_keeps_an_idle_connection(
    options: QuicOptions, client: dict[str, float], datagrams: int
) -> None:
    """Whichever side's idle timeout is the smaller one (RFC 9000 section 10.1)."""
    async with session_pair(replace(options, idle_timeout=2.0), client=client) as pair:
        before = pair.endpoint.counters.datagrams_received
        await until(lambda: pair.endpoint.counters.datagrams_received > before + datagrams)
        assert pair.server.end is None


async def test_closing_the_endpoint_tells_everybody(options: QuicOptions) -> None:
    for scheme in ("moqt", "https"):
        async with session_pair(options, scheme) as pair:
            await pair.endpoint.close(4, "going away")
            await pair.client.wait(lambda: pair.client.end)
            assert pair.client.end == (4, "going away")
            assert pair.server.end == (4, "going away")


async def test_a_lost_close_is_repeated(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.server.transport.close(3, "bye")
        connection = pair.endpoint.connections[0]
        datagrams = connection.flush(asyncio.get_running_loop().time())
        assert datagrams, "these are lost"
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, b"anybody there?")
        await pair.client.wait(lambda: pair.client.end)
        assert pair.client.end == (3, "bye")


async def test_a_failing_session_ends_alone(
    options: QuicOptions, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
            raise RuntimeError("a bug")

    sessions: list[Recorder] = []

    def accept(negotiated: object, transport: object) -> Recorder:
        kind = Recorder if sessions else Failing
        sessions.append(kind(negotiated, transport))  # type: ignore[arg-type]
        return sessions[-1]

    async with serving(options, accept) as endpoint:
        theirs, clients = replace(options, insecure=True), Acceptor()
        connections = [
            await connect(url_of(endpoint), theirs.drafts, theirs, clients) for _ in range(2)
        ]
        one, two = clients.sessions.get_nowait(), clients.sessions.get_nowait()
        with caplog.at_level(logging.CRITICAL, "fastrelay.quic.connection"):
            for client in (one, two):
                stream = client.transport.open_stream(unidirectional=True)
                client.transport.send(stream, b"data", fin=True)
            await one.wait(lambda: one.end)
        assert one.end == (1, "internal error")
        await sessions[1].wait(lambda: sessions[1].finished)
        assert two.end is None
        for connection in connections:
            await connection.close()


@pytest.mark.parametrize("step", ["receive_datagram", "datagrams_to_send", "handle_timer"])
async def test_a_failing_engine_ends_alone(
    options: QuicOptions, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers, clients = Acceptor(), Acceptor()
    async with serving(options, servers) as endpoint:
        theirs = replace(options, insecure=True)
        connections = [
            await connect(url_of(endpoint), theirs.drafts, theirs, clients) for _ in range(2)
        ]
        bad, good = servers.sessions.get_nowait(), servers.sessions.get_nowait()

        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        engine: Any = endpoint.connections[0].engine
        setattr(engine, step, fail)
        if step == "handle_timer":
            engine.get_timer = lambda: 0.0  # due: acknowledgements could forestall it
        with caplog.at_level(logging.CRITICAL, "fastrelay.quic.connection"):
            for client in (clients.sessions.get_nowait(), clients.sessions.get_nowait()):
                stream = client.transport.open_stream(unidirectional=True)
                client.transport.send(stream, b"data", fin=True)
            bad.transport.send(bad.transport.open_stream(unidirectional=True), b"unheard")
            await bad.wait(lambda: bad.end)
        await good.wait(lambda: good.finished)
        assert bad.end is not None
        assert bad.end[0] == 1
        assert good.end is None
        assert len(endpoint.connections) == 1
        for connection in connections:
            await connection.close()


async def test_trust(options: QuicOptions, identity: Identity, tmp_path: Path) -> None:
    other = make_self_signed().sha256
    async with serving(options, Acceptor()) as endpoint:
        for good in (
            {"ca_file": identity.certificate},
            {"certificate_sha256": identity.made.sha256},
            {"insecure": True},
        ):
            theirs = replace(options, **good)
            connection = await connect(url_of(endpoint), theirs.drafts, theirs, Acceptor())
            await connection.close()
        stranger = write_identity(tmp_path)
        for bad in ({}, {"ca_file": stranger.certificate}, {"certificate_sha256": other}):
            theirs = replace(options, **bad)
            with pytest.raises(ConnectError):
                await connect(url_of(endpoint), theirs.drafts, theirs, Acceptor())


async def test_new_handshakes_use_a_new_certificate(options: QuicOptions, tmp_path: Path) -> None:
    current = write_identity(tmp_path)
    live = replace(
        options,
        certificate=current.certificate,
        private_key=current.private_key,
        reload_interval=0.02,
    )
    async with session_pair(live) as pair:
        assert pair.endpoint.certificate is not None
        before = pair.endpoint.certificate.serial_number
        later = make_self_signed()
        later.write(current.certificate, current.private_key)
        touch(current.certificate)
        await until(lambda: pair.endpoint.certificate.serial_number != before)  # type: ignore[union-attr]
        theirs = replace(options, certificate_sha256=later.sha256)
        connection = await connect(url_of(pair.endpoint), theirs.drafts, theirs, Acceptor())
        await connection.close()
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, b"the old connection lives", fin=True)
        await pair.server.wait(lambda: stream in pair.server.finished)


async def test_a_server_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        await Endpoint(QuicOptions(), Acceptor()).listen("127.0.0.1", 0)


async def test_an_address_in_use_is_an_error(options: QuicOptions) -> None:
    async with serving(options, Acceptor()) as endpoint:
        with pytest.raises(OSError, match="in use"):
            await Endpoint(options, Acceptor()).listen("127.0.0.1", endpoint.address[1])


async def test_key_log_and_qlog(options: QuicOptions, tmp_path: Path) -> None:
    logged = replace(options, key_log=tmp_path / "keys", qlog_directory=tmp_path / "qlog")
    theirs = {"qlog_directory": tmp_path / "qlog" / "client"}  # both ends give it one name
    async with session_pair(logged, client=theirs) as pair:
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, bytes(100_000), fin=True)
        await pair.server.wait(lambda: stream in pair.server.finished)
        answer = pair.server.transport.open_stream(unidirectional=True)
        pair.server.transport.send(answer, b"begin")
        await pair.client.wait(lambda: answer in pair.client.streams)
        pair.client.transport.stop(answer, 2)
        await pair.server.wait(lambda: answer in pair.server.stops)
        assert pair.client.transport.backlog == 0
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()
    files = list((tmp_path / "qlog").rglob("*.qlog"))
    assert len(files) == 2
    assert all(json.loads(file.read_text())["traces"][0]["events"] for file in files)


# -- helpers


class silent_clients:  # noqa: N801 - used like a function
    """So many clients that send their first datagram and nothing more."""

    def __init__(self, endpoint: Endpoint, options: QuicOptions, count: int) -> None:
        from fastrelay.quic.aioquic_private import Engine
        from fastrelay.quic.configuration import client_configuration
        from fastrelay.quic.url import parse_url

        self._sockets = []
        for _ in range(count):
            target = parse_url(url_of(endpoint))
            engine = Engine(
                client_configuration(options, target),
                max_streams_unidirectional=1,
                max_streams_bidirectional=1,
            )
            engine.connect(("127.0.0.1", endpoint.address[1]), 0.0)
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for data, address in engine.datagrams_to_send(0.0):
                client.sendto(data, address)
            self._sockets.append(client)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        for client in self._sockets:
            client.close()


async def until(condition: object) -> None:
    """Give way until something that no event announces has happened."""
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
