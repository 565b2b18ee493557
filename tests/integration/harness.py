"""Real processes for the integration tests: relays and third-party clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrelay import client
from fastrelay.api.spec import API_VERSION, KIND
from fastrelay.client import Client
from fastrelay.quic.certificates import make_self_signed
from fastrelay.quic.options import QuicOptions

THIRD_PARTY = Path(__file__).parent / "third_party"
START_TIMEOUT = 90.0
BUSY_SECONDS = 90.0
"""Within which there is a window as wanted, whatever else the machine does."""
PORTS = 10_000, 30_000
"""Below those that Linux gives to who wants any."""
SHARES = 20
"""Of the ports: processes that begin together have one each."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of a PEM certificate for localhost and its key, and its hash."""

    certificate: Path
    private_key: Path
    sha256: bytes

    @classmethod
    def make(cls, directory: Path) -> Certificate:
        """A new one, with its files in a directory."""
        made = make_self_signed()
        paths = directory / "certificate.pem", directory / "key.pem"
        made.write(*paths)
        return cls(*paths, made.sha256)

    @property
    def client_options(self) -> QuicOptions:
        """For our own clients: accept this certificate and no other."""
        return QuicOptions(certificate_sha256=self.sha256, handshake_timeout=START_TIMEOUT)


def connect(url: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Client]:
    """As ``fastrelay.client.connect``, on a machine with much else to do."""
    return client.connect(url, connect_timeout=START_TIMEOUT, **options)


async def becomes_so(window: Callable[[], Awaitable[str]]) -> None:
    """Go through windows until one is as wanted: on a busy machine that takes a while.

    ``window``: goes through one, and says what was not as wanted of it: in a short line, with
    more in further lines; "": nothing.

    :raises AssertionError: there was none in time; beginning with that line of the last one.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    faults: list[str] = []
    while fault := await window():
        faults.append(fault)
        if time.monotonic() > deadline:
            lines = [each.partition("\n")[0] for each in faults]
            raise AssertionError("\n".join((fault, f"all {len(lines)} windows:", *lines)))


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port of the loopback addresses that nobody uses now, and that nobody is given who wants
    any, nor by another of the processes that run tests: it stays free until it is used, also
    between two relays."""
    share = range(*PORTS)[os.getpid() % SHARES :: SHARES]
    while True:
        port = random.choice(share)
        with socket.socket(socket.AF_INET6, kind) as sock, contextlib.suppress(OSError):
            sock.bind(("::", port))
            return port


def host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@dataclass(slots=True)
class RelayProcess:
    """A running ``fastrelay relay``."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    status_port: int
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, *, webtransport: bool = False) -> str:
        scheme = "https" if webtransport else "moqt"
        return f"{scheme}://{host_in_url(self.host)}:{self.port}" + ("/" if webtransport else "")

    def page(self, path: str) -> bytes:
        """What the status port answers.

        :raises OSError: nothing does, or the status is an error's.
        """
        url = f"http://127.0.0.1:{self.status_port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.page("/statusz")))

    def stop(self, grace: float = 60.0) -> int:
        """SIGINT, so that it does not drain, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def relay_command(
    certificate: Certificate,
    listen: str,
    status: str,
    *,
    drafts: Sequence[int] = (18, 22, 16),
    upstreams: Sequence[str] = (),
    grace: int = 0,
    arguments: Sequence[str] = (),
) -> list[str]:
    """The command line of a relay."""
    return [
        *(sys.executable, "-m", "fastrelay.cli", "relay"),
        *("--listen", listen, "--metrics", status),
        *("--certificate", str(certificate.certificate)),
        *("--private-key", str(certificate.private_key)),
        *("--drafts", ",".join(map(str, drafts)), "--grace", str(grace)),
        *("--log-format", "console"),
        *(part for url in upstreams for part in ("--upstream", url)),
        *arguments,
    ]


def moqrelay(spec: Mapping[str, Any]) -> str:
    """A manifest. ``spec``: by its JSON names."""
    metadata = {"name": "relay"}
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})


@contextlib.contextmanager
def running_relay(
    certificate: Certificate,
    log: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    spec: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
    **options: Any,
) -> Iterator[RelayProcess]:
    """A relay that is ready; at the end it must stop cleanly, without a traceback in its log.

    ``spec``: of its MoQRelay, by its JSON names. The other options are those of
    :func:`relay_command`.
    """
    if spec is not None:
        manifest = log.with_suffix(".json")
        manifest.write_text(moqrelay(spec))
        arguments = (*arguments, "-f", str(manifest))
    port, status_port = port or free_port(), free_port(socket.SOCK_STREAM)
    command = relay_command(
        certificate,
        f"{host_in_url(host)}:{port}",
        f"127.0.0.1:{status_port}",
        arguments=arguments,
        **options,
    )
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    relay = RelayProcess(process, host, port, status_port, log)
    try:
        wait_ready(relay)
        yield relay
    finally:
        code = relay.stop()
    assert code == 0, f"the relay ended with {code}:\n{tail(log)}"
    assert "Traceback" not in log.read_text(), f"the relay logged an error:\n{tail(log, 60)}"


def wait_ready(relay: RelayProcess) -> None:
    """Until /readyz says so.

    :raises AssertionError: it ended, or took too long.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        assert relay.process.poll() is None, f"the relay did not start:\n{tail(relay.log)}"
        assert time.monotonic() < deadline, f"the relay is not ready:\n{tail(relay.log)}"
        try:
            relay.page("/readyz")
        except OSError:
            time.sleep(0.05)
        else:
            return


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def third_party_python() -> str:
    """The Python that has aiomoqt and moq-rs, prepared by scripts/third-party.sh.

    :raises AssertionError: the variable is not set: the tests never skip.
    """
    python = os.environ.get("FASTRELAY_THIRD_PARTY_PYTHON", "")
    assert python, (
        "FASTRELAY_THIRD_PARTY_PYTHON is not set; run 'make test', or "
        "FASTRELAY_THIRD_PARTY_PYTHON=$(scripts/third-party.sh) pytest tests/integration"
    )
    return python


@dataclass(frozen=True, slots=True)
class Finished:
    """What a third-party program did."""

    code: int
    output: str
    errors: str


async def third_party(*arguments: str, seconds: float) -> Finished:
    """Run a program under the third-party Python to its end.

    :raises AssertionError: it takes longer than so many seconds.
    """
    process = await start_third_party(*arguments)
    communicating = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(seconds):
            output, errors = await asyncio.shield(communicating)
    except TimeoutError:
        process.kill()
        output, errors = await communicating
        raise AssertionError(
            f"{' '.join(arguments)} took more than {seconds:g} s:\n"
            f"{output.decode()[-2000:]}\n{errors.decode()[-4000:]}"
        ) from None
    code = process.returncode
    assert code is not None
    return Finished(code, output.decode(), errors.decode())


async def start_third_party(*arguments: str) -> asyncio.subprocess.Process:
    """Start a program under the third-party Python; its standard input is a pipe."""
    return await asyncio.create_subprocess_exec(
        third_party_python(),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )


async def end(process: asyncio.subprocess.Process) -> str:
    """Close the program's standard input, which ends it, or kill it; what it said."""
    assert process.stdin is not None
    process.stdin.close()
    communicating = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(5):
            _, errors = await asyncio.shield(communicating)
    except TimeoutError:
        process.kill()
        _, errors = await communicating
    return errors.decode()
