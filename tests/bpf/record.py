"""Records what publishers of other QUIC stacks send to a relay: packets, and the keys to them.

    FASTRELAY_THIRD_PARTY_PYTHON=$(scripts/third-party.sh) PYTHONPATH=tests python -m bpf.record

writes tests/bpf/recorded/LIBRARY.json, which test_recorded.py gives to the programs. The relay is
ours, in this interpreter, where it can be asked for its keys; programs take no part.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from bpf.libraries import keys_of
from fastrelay.quic.certificates import make_self_signed
from integration.harness import Certificate, RelayProcess, free_port, relay_command, wait_ready
from integration.matrix import Cell, Pair

RECORDED = Path(__file__).with_name("recorded")
LIBRARIES = {"aiomoqt": "picoquic", "moqrs": "quinn"}
"""The clients, and the QUIC stacks below them."""
DRAFT = 18
PACKETS = 40
"""That are recorded; the first of a connection with a short header, and those after it."""
HOST = "127.0.0.1"


class Recorder:
    """Of all connections of a relay; the first with enough packets is the publisher's."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._heads: dict[int, dict[str, Any]] = {}
        self._packets: defaultdict[int, list[str]] = defaultdict(list)

    def take(self, connection: Any, datagram: bytes) -> None:
        crypto = connection._one_rtt
        if crypto is None or datagram[0] & 0x80 or self._target.exists():
            return
        if datagram[1:9] != connection.host_cid:
            return
        key = id(connection)
        if key not in self._heads:
            keys = keys_of(crypto.recv)
            self._heads[key] = {
                "cid": connection.host_cid.hex(),
                "hp": keys.hp.hex(),
                "keys": [[part.hex() for part in pair] for pair in keys.ring],
                "largest": max(0, connection._application.expected_packet_number - 1),
            }
        packets = self._packets[key]
        packets.append(base64.b64encode(datagram).decode())
        if len(packets) == PACKETS and sum(map(len, packets)) > PACKETS * 500:
            draft = self._target.with_suffix(".new")
            text = json.dumps(self._heads[key] | {"packets": packets}, indent=1)
            draft.write_text(text + "\n")
            draft.rename(self._target)


def relay(target: Path, arguments: list[str]) -> None:
    """The relay's command, with the recorder in it."""
    from fastrelay import cli
    from fastrelay.quic.aioquic_private.receiving import Receiving

    recorder, receive = Recorder(target), Receiving.receive_datagram

    def receive_datagram(connection: Any, data: bytes, addr: Any, now: float) -> None:
        recorder.take(connection, data)
        receive(connection, data, addr, now)

    Receiving.receive_datagram = receive_datagram  # type: ignore[method-assign]
    sys.argv = ["fastrelay", *arguments]
    cli.main()


async def record(library: str) -> None:
    target = RECORDED / f"{LIBRARIES[library]}.json"
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        made = make_self_signed()
        certificate = Certificate(directory / "cert.pem", directory / "key.pem", made.sha256)
        certificate.certificate.write_bytes(made.certificate)
        certificate.private_key.write_bytes(made.private_key)
        port, status_port = free_port(), free_port(socket.SOCK_STREAM)
        addresses = f"{HOST}:{port}", f"{HOST}:{status_port}"
        _, _, _, *arguments = relay_command(certificate, *addresses, drafts=[DRAFT])
        log = directory / "relay.log"
        process = _start(log, [sys.executable, "-m", "bpf.record", str(target), *arguments])
        running = RelayProcess(process, HOST, port, status_port, log)
        try:
            wait_ready(running)
            cell = Cell(Pair(library, "aiomoqt"), running)
            async with cell.at_work(DRAFT, webtransport=False):
                await cell.until(lambda _: target.exists(), f"{PACKETS} packets are recorded")
        finally:
            running.stop()


def _start(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


async def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    for library in LIBRARIES:
        await record(library)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        relay(Path(sys.argv[1]), sys.argv[2:])
    else:
        asyncio.run(main())
