"""``fastrelay relay`` as a process: its life, its signals, its files, its pages."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from socket import SOCK_STREAM
from typing import IO, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fastrelay.client import (
    Client,
    ConnectFailedError,
    ReceivedObject,
    RequestFailedError,
    Subscription,
)
from fastrelay.moqt.codes import RequestErrorCode, SessionError
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic.certificates import make_self_signed
from fastrelay.quic.options import QuicOptions
from integration.harness import (
    Certificate,
    RelayProcess,
    connect,
    free_port,
    relay_command,
    running_relay,
    tail,
    wait_ready,
)

TRACK = FullTrackName((b"live", b"process"), b"video")
TIMEOUT = 60.0


def metric(relay: RelayProcess, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    families = text_string_to_metric_families(relay.page("/metrics").decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def reached(relay: RelayProcess, name: str, value: float) -> Callable[[], bool]:
    return lambda: metric(relay, name) >= value


async def until(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again, in a thread as the question may block."""
    try:
        async with asyncio.timeout(TIMEOUT):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"in {TIMEOUT:g} s it did not come true: {what}") from None


def not_ready(relay: RelayProcess) -> str:
    """Why it is not; empty if it is."""
    try:
        relay.page("/readyz")
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {error.read().decode().strip()}"
    return ""


async def next_payload(subscription: Subscription) -> bytes:
    async with asyncio.timeout(TIMEOUT):
        async for item in subscription:
            if isinstance(item, ReceivedObject):
                return item.payload
    raise AssertionError(f"the subscription ended: {subscription.done}")


def start(command: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stderr=errors)


async def ended(process: subprocess.Popen[bytes]) -> int:
    async with asyncio.timeout(TIMEOUT):
        return await asyncio.to_thread(process.wait)


# -- the end


async def test_sigterm_drains(certificate: Certificate, tmp_path: Path) -> None:
    """GOAWAY to all, nobody new, and those who are there go on until they leave."""
    options = certificate.client_options
    with running_relay(certificate, tmp_path / "log", arguments=["--grace", "60"]) as relay:
        async with (
            connect(relay.url(), options=options) as publisher,
            connect(relay.url(webtransport=True), options=options) as subscriber,
        ):
            track = publisher.add_track(TRACK)
            await publisher.publish_namespace(TRACK.namespace)
            async with await subscriber.subscribe(TRACK) as subscription:
                await track.wait_subscribed()
                subgroup = track.open_subgroup(0)
                subgroup.write(b"before")
                assert await next_payload(subscription) == b"before"

                relay.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(TIMEOUT):
                    for client in (publisher, subscriber):
                        assert (await client.wait_goaway()).timeout == 60_000
                assert await asyncio.to_thread(not_ready, relay) == "503 draining"
                assert metric(relay, "fastrelay_draining") == 1
                with pytest.raises(ConnectFailedError):
                    async with connect(relay.url(), options=options):
                        pass

                subgroup.write(b"after")
                assert await next_payload(subscription) == b"after"
            assert relay.process.poll() is None
        assert await ended(relay.process) == 0


async def test_who_stays_beyond_the_grace_period_is_closed(
    certificate: Certificate, tmp_path: Path
) -> None:
    with running_relay(certificate, tmp_path / "log", arguments=["--grace", "1"]) as relay:
        async with connect(relay.url(), options=certificate.client_options) as client:
            relay.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT):
                closed = await client.wait_closed()
            assert closed.code == SessionError.GOAWAY_TIMEOUT
        assert await ended(relay.process) == 0


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_does_not_wait(
    certificate: Certificate, tmp_path: Path, second: signal.Signals, code: int
) -> None:
    log, port, pages = tmp_path / "log", free_port(), free_port(SOCK_STREAM)
    command = relay_command(
        certificate, f"127.0.0.1:{port}", f"127.0.0.1:{pages}", arguments=["--grace", "600"]
    )
    with log.open("wb") as output, start(command, output) as process:
        relay = RelayProcess(process, "127.0.0.1", port, pages, log)
        await asyncio.to_thread(wait_ready, relay)
        async with connect(relay.url(), options=certificate.client_options) as client:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT):
                await client.wait_goaway()
            process.send_signal(second)
            assert await ended(process) == code
    assert "Traceback" not in log.read_text()


# -- the start


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a relay that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "fastrelay.cli", "relay", *arguments],
        capture_output=True,
        timeout=TIMEOUT,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def identity(certificate: Certificate) -> list[str]:
    return [
        *("--certificate", str(certificate.certificate)),
        *("--private-key", str(certificate.private_key)),
    ]


def test_ports_in_use(relay: RelayProcess, certificate: Certificate) -> None:
    code, text = refused("--listen", f"127.0.0.1:{relay.port}", *identity(certificate))
    assert code == 69
    assert f"127.0.0.1:{relay.port}: the port is in use; stop what listens there" in text
    code, text = refused(
        *("--listen", f"127.0.0.1:{free_port()}", *identity(certificate)),
        *("--metrics", f"127.0.0.1:{relay.status_port}"),
    )
    assert code == 69
    assert f"127.0.0.1:{relay.status_port}: the port is in use" in text


def test_addresses_of_others(certificate: Certificate) -> None:
    code, text = refused("--listen", "192.0.2.1:4443", *identity(certificate))
    assert code == 69
    assert "192.0.2.1:4443: this machine does not have that address" in text


def resource(path: Path, spec: dict[str, Any]) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "fastrelay.io/v1alpha1",
                "kind": "MoQRelay",
                "metadata": {"name": "test"},
                "spec": spec,
            }
        )
    )
    return path


def test_wrong_resources(tmp_path: Path) -> None:
    path = resource(tmp_path / "relay.yaml", {"listen": {"port": 70000}})
    code, text = refused("-f", str(path))
    assert code == 65
    assert f"{path}:7: spec.listen.port: 70000 is too large; write a number from 1 to" in text
    secret = {"name": "a", "secretKeyRef": {"name": "s"}}
    rule = {"prefix": "live", "tokens": [secret]}
    path = resource(
        tmp_path / "relay.yaml",
        {
            "authorization": {"rules": [rule]},
            "tls": {"files": {"certificate": "c", "privateKey": "k"}},
        },
    )
    code, text = refused("-f", str(path))
    assert code == 78
    assert "Secrets can be read in a cluster only; write file instead" in text


async def test_a_resource_from_a_file(certificate: Certificate, tmp_path: Path) -> None:
    """Its policy holds, and its log is JSON."""
    (tmp_path / "token").write_text("open sesame\n")
    token = {"name": "studio", "file": str(tmp_path / "token")}
    path = resource(
        tmp_path / "relay.yaml",
        {"authorization": {"rules": [{"prefix": "live", "tokens": [token]}]}},
    )
    log = tmp_path / "log"
    options = certificate.client_options
    arguments = ["-f", str(path), "--log-format", "json"]
    with running_relay(certificate, log, arguments=arguments) as relay:
        async with connect(relay.url(), options=options) as client:
            await client.publish_namespace((b"free",))
            with pytest.raises(RequestFailedError) as caught:
                await client.publish_namespace(TRACK.namespace)
            assert caught.value.code == RequestErrorCode.UNAUTHORIZED
        for words, allowed in ((b"open sesame", True), (b"open", False)):
            async with connect(relay.url(), options=options, token=words) as client:
                if allowed:
                    await client.publish_namespace(TRACK.namespace)
                else:
                    with pytest.raises(RequestFailedError):
                        await client.publish_namespace(TRACK.namespace)
        rejected = metric(relay, "fastrelay_requests_rejected_total", code="UNAUTHORIZED")
        assert rejected == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0]["event"] == "ready"
    assert lines[-1]["event"] == "closed"
    assert "sesame" not in log.read_text()


# -- while it runs


async def test_both_families_on_one_port(certificate: Certificate, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["--listen", f":{port}"]
    with running_relay(certificate, tmp_path / "log", arguments=arguments):
        for host in ("127.0.0.1", "[::1]"):
            for url in (f"moqt://{host}:{port}", f"https://{host}:{port}/"):
                async with connect(url, options=certificate.client_options) as client:
                    assert not client.closed


async def test_certificates_are_reloaded(tmp_path: Path) -> None:
    """New connections get the new one, those that are there stay."""
    first, second = make_self_signed(), make_self_signed()
    paths = tmp_path / "c.pem", tmp_path / "k.pem"
    first.write(*paths)

    def shown() -> str:
        return str(relay.status()["process"]["certificate"]["sha256"])

    def pinned(sha256: bytes) -> QuicOptions:
        return QuicOptions(certificate_sha256=sha256)

    with running_relay(Certificate(*paths, first.sha256), tmp_path / "log") as relay:
        assert shown() == first.sha256.hex()
        async with connect(relay.url(), options=pinned(first.sha256)) as client:
            paths[0].write_bytes(second.certificate)
            paths[1].write_bytes(second.private_key)
            await until(lambda: shown() == second.sha256.hex(), "the new certificate is in use")
            async with connect(relay.url(), options=pinned(second.sha256)):
                pass
            with pytest.raises(ConnectFailedError):
                async with connect(relay.url(), options=pinned(first.sha256)):
                    pass
            await client.publish_namespace(TRACK.namespace)


async def test_pages_tell_what_happens(relay: RelayProcess, certificate: Certificate) -> None:
    options = certificate.client_options
    assert relay.page("/healthz") == b"ok\n"
    async with (
        connect(relay.url(), options=options) as publisher,
        connect(relay.url(webtransport=True), options=options) as subscriber,
    ):
        await exchange(publisher, subscriber)
        for name, at_least in (
            ("fastrelay_objects_received_total", 3),
            ("fastrelay_objects_sent_total", 3),
            ("fastrelay_object_bytes_sent_total", 300),
            ("fastrelay_tracks", 1),
            ("fastrelay_join_seconds_count", 1),
            ("fastrelay_handshakes_completed_total", 2),
            ("fastrelay_udp_datagrams_sent_total", 10),
        ):
            assert metric(relay, name) >= at_least, name
        assert metric(relay, "fastrelay_sessions", transport="quic") == 1
        assert metric(relay, "fastrelay_sessions", transport="webtransport") == 1
        for name, at_least in (
            ("fastrelay_subscriptions", 1),
            ("fastrelay_upstream_subscriptions", 1),
            ("fastrelay_round_trip_seconds_count", 2),
            ("fastrelay_round_trip_jitter_seconds_count", 2),
        ):
            await until(reached(relay, name, at_least), name)
        status = relay.status()
        assert status["process"]["ready"] is True
        assert len(status["sessions"]) == 2
        assert {session["draft"] for session in status["sessions"]} == {18}
        assert any("video" in json.dumps(track) for track in status["tracks"])
    await until(lambda: metric(relay, "fastrelay_sessions") == 0, "both sessions are gone")
    assert metric(relay, "fastrelay_sessions_closed_total", code="NO_ERROR") == 2
    with pytest.raises(urllib.error.HTTPError) as caught:
        relay.page("/nothing")
    with caught.value as answer:
        assert answer.code == 404
        assert b"/statusz" in answer.read()


async def exchange(publisher: Client, subscriber: Client) -> None:
    """Three objects of 100 bytes from one to the other."""
    track = publisher.add_track(TRACK)
    await publisher.publish_namespace(TRACK.namespace)
    subscription = await subscriber.subscribe(TRACK)
    await track.wait_subscribed()
    subgroup = track.open_subgroup(0)
    for number in range(3):
        subgroup.write(bytes([number]) * 100)
        assert await next_payload(subscription) == bytes([number]) * 100


async def test_traces_for_investigations(certificate: Certificate, tmp_path: Path) -> None:
    keys, qlogs = tmp_path / "keys", tmp_path / "qlogs"
    arguments = ["--key-log", str(keys), "--qlog", str(qlogs), "--log-level", "debug"]
    with running_relay(certificate, tmp_path / "log", arguments=arguments) as relay:
        async with connect(relay.url(), options=certificate.client_options):
            pass
    assert "SERVER_TRAFFIC_SECRET_0" in keys.read_text()
    assert keys.stat().st_mode & 0o077 == 0, "only its owner may read it"
    (qlog,) = qlogs.glob("*.qlog")
    assert json.loads(qlog.read_text())["traces"]


async def test_relays_in_a_chain(certificate: Certificate, tmp_path: Path) -> None:
    """What is published at one relay is found through the other, also after it came back."""
    port = free_port()
    origin_arguments = ["--listen", f"127.0.0.1:{port}"]
    edge_arguments = ["--upstream-insecure"]
    origin_url = f"moqt://127.0.0.1:{port}"
    options = certificate.client_options
    with running_relay(
        certificate, tmp_path / "edge", upstreams=[origin_url], arguments=edge_arguments
    ) as edge:
        for _ in range(2):
            with running_relay(certificate, tmp_path / "origin", arguments=origin_arguments):
                await until(
                    lambda: metric(edge, "fastrelay_upstream_connected") == 1, "it is connected"
                )
                async with (
                    connect(origin_url, options=options) as publisher,
                    connect(edge.url(), options=options) as subscriber,
                ):
                    await exchange(publisher, subscriber)
            await until(lambda: metric(edge, "fastrelay_upstream_connected") == 0, "it has left")
        assert not await asyncio.to_thread(not_ready, edge), tail(edge.log)
