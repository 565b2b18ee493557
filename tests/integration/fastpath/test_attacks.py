"""Packets of somebody who means harm: the kernel forwards none of them, and counts why."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path as FilePath

import pytest

from bpf.packets import Path, ip, udp
from fastrelay.client import Client
from fastrelay.fastpath.layout import CLONE_MARK
from fastrelay.local import netns
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_22, Draft
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import (
    Member,
    Scene,
    Wire,
    connection_of,
    endpoint_of,
    engine_of,
    port_of,
    rebind,
    until,
)
from integration.harness import Certificate

PUBLISHERS_ALIAS = 0
STRANGERS_PORT = 9
MOVES = 20


@dataclass
class Stage:
    """Streams and datagrams of one publisher's, which rests while somebody attacks."""

    relay: FastRelay
    scene: Scene
    datagrams: Scene
    publisher: Client
    wire: Wire
    member: Member

    def path(self, client: Client) -> Path:
        """From a client to the relay."""
        sock = endpoint_of(client)._socket
        assert sock is not None
        host, port = sock.address[:2]
        pod = self.relay.stack
        own = pod.relay.ipv6 if ":" in host else pod.relay.ipv4
        return Path(host, own, port, pod.port)

    def inject(self, path: Path, payloads: list[bytes]) -> None:
        """Packets that claim to come from there."""
        family = socket.AF_INET if path.family == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for payload in payloads:
                raw.sendto(ip(path, udp(path, payload)), (path.destination, 0))

    async def rest(self) -> None:
        """Nobody publishes, and what was published has been forwarded and settled."""
        await self.scene.source.rest()
        await self.datagrams.source.rest()
        for scene in (self.scene, self.datagrams):
            group = scene.source.group
            await asyncio.gather(*(member.reach(group) for member in scene.members))

    async def attack(self, path: Path, payloads: list[bytes], *reasons: str) -> dict[str, int]:
        """While the publisher rests. Each is counted under one of these, nothing is forwarded."""
        await self.rest()
        before = self.relay.counters()

        def counted() -> dict[str, int]:
            now = self.relay.counters()
            return {name: now[name] - before.get(name, 0) for name in now}

        self.inject(path, payloads)
        await until(
            lambda: sum(counted().get(reason, 0) for reason in reasons) >= len(payloads),
            f"{reasons}, only {counted()}",
        )
        new = counted()
        for name in ("A_FORWARDED", "A_CLONES", "B_SENT"):
            assert not new.get(name), new
        assert not new.get("A_UNKNOWN_TRACK") or "A_UNKNOWN_TRACK" in reasons, new
        self.scene.source.go_on()
        self.datagrams.source.go_on()
        return new

    async def goes_on(self) -> None:
        """Media do, by the kernel, and everybody has everything."""

        async def both() -> None:
            await self.scene.complete(8)
            await self.datagrams.complete(8)

        await self.scene.work_by_the_kernel(both, *self.scene.members)


@pytest.fixture
async def stage(
    scripted: FastRelay, certificate: Certificate, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    name = request.node.name
    ipv6 = getattr(request, "param", False)
    scene = Scene(scripted, certificate, f"{name}-streams", ipv6=ipv6)
    datagrams = Scene(scripted, certificate, f"{name}-datagrams", datagrams=True, ipv6=ipv6)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written())
        wire = Wire(publisher)
        datagrams.source.add(publisher)
        await publisher.publish_namespace(datagrams.source.track.namespace)
        await stack.enter_async_context(datagrams.writing())
        members = [
            await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
            for i in range(2)
        ]
        await stack.enter_async_context(datagrams.member())
        await scene.complete(3)
        await datagrams.complete(3)
        yield Stage(scripted, scene, datagrams, publisher, wire, members[0])


both_families = pytest.mark.parametrize("stage", [False, True], ids=["ipv4", "ipv6"], indirect=True)


def flip(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


@both_families
async def test_bad_tags(stage: Stage) -> None:
    """Of the publisher's packets that have just passed, with a bit changed somewhere."""
    await stage.rest()
    chance = random.Random(3)
    packets = [each for each in stage.wire.sent[-60:] if len(each) > 200][-20:]
    changed = [flip(each, chance.randrange(40, len(each))) for each in packets]
    changed += [flip(each, len(each) - 1) for each in packets]
    changed += [each[:-1] for each in packets]
    await stage.attack(stage.path(stage.publisher), changed, "A_BAD_TAG")
    await stage.goes_on()


async def test_changed_headers(stage: Stage) -> None:
    """Bits of the first byte and of the packet number: other number, other phase, or no sense."""
    await stage.rest()
    packets = [each for each in stage.wire.sent[-40:] if len(each) > 200][-10:]
    changed = [flip(each, 9) for each in packets] + [flip(each, 10) for each in packets]
    changed += [bytes([each[0] ^ bit]) + each[1:] for each in packets for bit in (1, 2, 4, 8, 16)]
    await stage.attack(
        stage.path(stage.publisher), changed, "A_BAD_TAG", "A_NO_KEY", "A_RESERVED_BITS"
    )
    await stage.goes_on()


@both_families
async def test_replays(stage: Stage) -> None:
    """Streams and datagrams: all that the publisher has sent, once more, in any order."""
    await stage.rest()
    packets = [each for each in stage.wire.sent if not each[0] & 0x80]
    assert len(packets) > 50
    random.Random(4).shuffle(packets)
    new = await stage.attack(stage.path(stage.publisher), packets, "A_REPLAY", "A_OLD_NUMBER")
    assert new["A_REPLAY"] > 20
    await stage.goes_on()


async def test_replays_while_media_go_on(stage: Stage) -> None:
    for _ in range(10):
        await stage.scene.complete(1)
        stage.inject(stage.path(stage.publisher), stage.wire.sent[-40:])
    await stage.goes_on()


@both_families
@pytest.mark.parametrize("who", ["member", "stranger"])
async def test_the_publishers_packets_from_elsewhere(stage: Stage, who: str) -> None:
    """Authentic ones, from another address."""
    await stage.rest()
    path = stage.path(stage.publisher)
    port = port_of(stage.member.client) if who == "member" else STRANGERS_PORT
    forged = Path(path.source, path.destination, port, path.destination_port)
    await stage.attack(forged, stage.wire.sent[-30:], "A_WRONG_PATH")
    await stage.goes_on()


@both_families
async def test_garbage_from_members_addresses(stage: Stage) -> None:
    chance = random.Random(5)
    cid = engine_of(stage.member.client)._peer_cid.cid
    payloads = [b"\x41" + cid + chance.randbytes(chance.randint(30, 1100)) for _ in range(50)]
    await stage.attack(stage.path(stage.member.client), payloads, "A_BAD_TAG", "A_NO_KEY")
    await stage.goes_on()


async def test_short_headers_with_random_connection_ids(stage: Stage) -> None:
    chance = random.Random(6)
    payloads = [b"\x41" + chance.randbytes(chance.randint(40, 1100)) for _ in range(50)]
    await stage.attack(stage.path(stage.publisher), payloads, "A_UNKNOWN_CONNECTION")
    await stage.goes_on()


async def test_long_headers(stage: Stage) -> None:
    """Initial packets and others, with ids that the relay has issued, and with none."""
    chance = random.Random(7)
    cid = engine_of(stage.publisher)._peer_cid.cid
    payloads = []
    for first in (0xC1, 0xD1, 0xE1, 0xF1):
        for target in (cid, chance.randbytes(8)):
            head = bytes([first]) + struct.pack("!I", 1) + b"\x08" + target + b"\x08" + bytes(8)
            payloads.append(head + chance.randbytes(1100))
    await stage.attack(stage.path(stage.publisher), payloads, "C_LONG_INITIAL", "C_LONG_OTHER")
    await stage.goes_on()


async def test_short_and_cut_packets(stage: Stage) -> None:
    await stage.rest()
    packet = next(each for each in reversed(stage.wire.sent) if len(each) > 200)
    payloads = [packet[:size] for size in range(9, 29)]
    await stage.attack(
        stage.path(stage.publisher), payloads, "A_TRUNCATED", "A_BAD_TAG", "A_NO_KEY"
    )
    await stage.goes_on()


async def test_a_member_sends_as_if_it_were_the_publisher(stage: Stage) -> None:
    """Streams and datagrams of the track's alias, on its own connection, properly encrypted."""
    await stage.rest()
    transport = stage.member.client.transport
    group = stage.scene.source.group + 5
    before = stage.relay.counters()

    def new(reason: str) -> int:
        return stage.relay.counters().get(reason, 0) - before.get(reason, 0)

    # SUBGROUP_HEADER and OBJECT_DATAGRAM of draft 18, each with an object.
    for number in range(10):
        stream_id = transport.open_stream(unidirectional=True)
        head = bytes([0x10, PUBLISHERS_ALIAS, group & 0x3F, 128])
        transport.send(stream_id, head + b"\x00\x05wrong", fin=True)
        datagram = bytes([0x00, PUBLISHERS_ALIAS, group & 0x3F, number, 128])
        transport.send_datagram(datagram + b"wrong")
        connection_of(stage.member.client).touch()
        await until(
            lambda number=number: new("A_UNKNOWN_TRACK") >= 2 * number + 2, "they are looked at"
        )
    assert new("A_FORWARDED") == new("B_SENT") == 0
    stage.scene.source.go_on()
    stage.datagrams.source.go_on()
    await stage.goes_on()


# Addresses


@pytest.mark.parametrize("draft", [DRAFT_16, DRAFT_22], ids=str)
async def test_a_member_that_is_always_elsewhere(
    scripted: FastRelay, certificate: Certificate, draft: Draft
) -> None:
    """Its port changes more quickly than paths are validated. When it stays, it gets everything,
    from the kernel again; another one has noticed nothing."""
    scene = Scene(scripted, certificate, f"elsewhere-{draft.number}")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written(draft=draft))
        nomad = await stack.enter_async_context(scene.member(draft=draft))
        settled = await stack.enter_async_context(scene.member(draft=draft))
        await scene.complete(3)

        async def move() -> None:
            for _ in range(MOVES):
                rebind(nomad.client)
                engine_of(nomad.client).send_ping(0)
                connection_of(nomad.client).touch()
                await scene.complete(1, settled)

        await scene.work_by_the_kernel(move, settled)
        await scene.complete(3)
        await until(lambda: scene.is_fast(nomad), "the kernel serves it again")
        await scene.by_the_kernel(8)


# Marks


def send_marked(relay: FastRelay, host: str, port: int, count: int) -> None:
    """From the relay's pod, with SO_MARK as on the kernel's own clones."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", CLONE_MARK))
            for number in range(count):
                sock.sendto(b"%d" % number + bytes(60), (host, port))

    netns.inside(relay.stack.relay.namespace, send)


@pytest.mark.parametrize("end", ["Host", "Pod"])
async def test_our_mark_on_packets_of_a_pod(
    certificate: Certificate,
    tmp_path: FilePath,
    request: pytest.FixtureRequest,
    end: str,
) -> None:
    """They pass as they are, and are taken for nothing else; the media go on."""
    spec = {"fastPath": {"attach": "Pod"}}
    if end == "Host":
        await _mark(request.getfixturevalue("scripted"), certificate, end)
        return
    with fast_relay(certificate, tmp_path / "relay", spec=spec) as relay:
        await _mark(relay, certificate, end)


async def _mark(relay: FastRelay, certificate: Certificate, end: str) -> None:
    scene = Scene(relay, certificate, f"marks-{end}")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        async with AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(scene.written())
            members = [await stack.enter_async_context(scene.member()) for _ in range(2)]
            await scene.complete(3)
            sock = endpoint_of(publisher)._socket
            assert sock is not None
            listener.bind((sock.address[0], 0))
            sent = 0

            async def send() -> None:
                nonlocal sent
                for _ in range(5):
                    send_marked(relay, *listener.getsockname(), 10)
                    sent += 10
                    for number in range(10):
                        async with asyncio.timeout(60):
                            arrived = await loop.sock_recv(listener, 200)
                        assert arrived == b"%d" % number + bytes(60)
                    await scene.complete(2)

            before = relay.counters()
            await scene.work_by_the_kernel(send, *members)
            # The mark does not leave the pod, so that only there anybody is deceived by it.
            forged = relay.counters().get("B_FORGED", 0) - before.get("B_FORGED", 0)
            assert forged == (sent if end == "Pod" else 0)
