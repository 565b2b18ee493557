"""Without encryption, for the laboratory: only where the manifest and the client both say so."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from struct import unpack_from

import pytest

from fastrelay.api.conditions import PLAINTEXT_WARNING
from fastrelay.local import hostlink
from fastrelay.moqt.drafts import DRAFT_18, DRAFT_22
from integration.fastpath.broadcast import Broadcast
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import until
from integration.harness import Certificate
from integration.third_party.content import payload

GROUPS = 20
LARGE = 5
"""The object of every group that fills packets by itself."""
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
IPV4_AND_UDP = 28
FULL = 1000
PART = slice(200, 232)
"""Of a full packet: media and nothing else. Several of one sender may come as one packet."""


@pytest.fixture(scope="module")
def laboratory(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    spec = {"fastPath": {"encryption": "Disabled", "insecureLaboratory": True}}
    with fast_relay(certificate, tmp_path_factory.mktemp("laboratory"), spec=spec) as relay:
        yield relay


class Capture:
    """Full UDP payloads on the way to and from the relay, by the client's port."""

    def __init__(self) -> None:
        self.packets: dict[int, list[bytes]] = defaultdict(list)

    def read(self, tap: socket.socket, port: int) -> None:
        """All that has been captured by now."""
        with suppress(BlockingIOError):
            while True:
                self._take(tap.recv(1 << 17), port)

    def _take(self, frame: bytes, port: int) -> None:
        ip = frame[14:]
        if ip[0] != 0x45 or ip[9] != socket.IPPROTO_UDP or len(ip) < IPV4_AND_UDP + FULL:
            return
        ports = set(unpack_from("!2H", ip, 20)) - {port}
        self.packets[ports.pop()].append(ip[IPV4_AND_UDP:])

    def readable(self, port: int, groups: int) -> int:
        """Packets of a client's that show media to everybody."""
        media = b"".join(payload("video", group, LARGE) for group in range(groups))
        return sum(packet[PART] in media for packet in self.packets[port])


@contextmanager
def captured(relay: FastRelay) -> Iterator[Capture]:
    network = relay.stack.state.network
    assert network is not None
    loop, capture = asyncio.get_running_loop(), Capture()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        tap.bind((hostlink.device_of(network), ETH_P_ALL))
        tap.setblocking(False)
        loop.add_reader(tap, capture.read, tap, relay.stack.port)
        try:
            yield capture
            capture.read(tap, relay.stack.port)
        finally:
            loop.remove_reader(tap)


def ciphers(relay: FastRelay) -> dict[int, str]:
    """By the client's port."""
    return {
        int(session["address"].rpartition(":")[2]): session["path"]["cipher"]
        for session in relay.status()["sessions"]
    }


async def run(
    relay: FastRelay, certificate: Certificate, name: str, publisher: bool, subscribers: list[bool]
) -> int:
    """A broadcast; who asks to do without encryption. Content is compared, and the kernel's share.

    :returns: how many connections had no encryption.
    """
    plain = Broadcast(name, relay, certificate, encryption=False)
    protected = Broadcast(name, relay, certificate)
    by_wish = {True: plain, False: protected}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(by_wish[publisher].published(DRAFT_18))
        watchers = [
            await stack.enter_async_context(
                by_wish[wish].watched(DRAFT_22 if at % 2 else DRAFT_18, webtransport=at == 3)
            )
            for at, wish in enumerate(subscribers)
        ]
        await asyncio.gather(*(watcher.complete(3) for watcher in watchers))
        wishes = [publisher, *subscribers]
        # Who was there before may not be missed yet.
        await until(lambda: len(ciphers(relay)) == len(wishes), "nobody else has a session")
        expected = ciphers(relay)
        with captured(relay) as capture:
            await relay.mostly_in_kernel(
                lambda: asyncio.gather(*(watcher.complete(GROUPS) for watcher in watchers))
            )
        for port, cipher in expected.items():
            found = capture.readable(port, by_wish[publisher].groups)
            seen = f"of {port}, {cipher}: {len(capture.packets[port])} packets, {found} readable"
            assert len(capture.packets[port]) >= GROUPS / 2, seen
            assert (found >= GROUPS / 2) if cipher == "NONE" else not found, seen
        return sum(cipher == "NONE" for cipher in expected.values())


@pytest.mark.parametrize("publisher", [False, True])
@pytest.mark.parametrize(
    "subscribers", [[True, True], [False, False], [True, False, False, True]], ids=str
)
async def test_every_mixture(
    laboratory: FastRelay, certificate: Certificate, publisher: bool, subscribers: list[bool]
) -> None:
    name = f"{publisher}-{'-'.join(map(str, subscribers))}"
    plain = await run(laboratory, certificate, name, publisher, subscribers)
    assert plain == sum([publisher, *subscribers])


async def test_it_says_so(laboratory: FastRelay) -> None:
    assert laboratory.status()["process"]["warnings"] == [PLAINTEXT_WARNING]
    assert PLAINTEXT_WARNING in laboratory.log.read_text()


async def test_never_without_the_manifest(certificate: Certificate, tmp_path: Path) -> None:
    """Whatever clients ask for."""
    with fast_relay(certificate, tmp_path) as relay:
        plain = await run(relay, certificate, "asked", True, [True, False])
        assert plain == 0
        assert relay.status()["process"]["warnings"] == []
