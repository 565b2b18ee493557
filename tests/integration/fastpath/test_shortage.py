"""The kernel runs short of something: what it cannot do user space does, and nobody else notices.

Each shortage is real or made by what the kernel itself looks at, is counted by its reason, and is
over at the end: the kernel forwards again.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastrelay.agent import programs, syscalls
from fastrelay.agent.programs import AttachType
from fastrelay.fastpath import layout
from fastrelay.local import links, netns, topology
from fastrelay.local.topology import NODE
from integration.fastpath.crowd import AHEAD, Crowd, members
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import Scene, until
from integration.harness import Certificate

SUBSCRIBERS = 6
STOPPED = 1.0
"""Seconds that the relay stands still."""
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def relay(shared_fast_relay: FastRelay) -> FastRelay:
    """One for all: whoever falls short of something leaves it as it was."""
    return shared_fast_relay


@asynccontextmanager
async def crowd_of(
    relay: FastRelay, certificate: Certificate, name: str, *, every_datagram: bool
) -> AsyncIterator[Crowd]:
    """At the end everybody has everything, by the kernel."""
    crowd = Crowd(relay, certificate, name)
    async with crowd.gathered(members(SUBSCRIBERS, bad=False), every_datagram=every_datagram):
        await crowd.settle()
        yield crowd
        await crowd.settle()
        await relay.mostly_in_kernel(crowd.settle)


@contextmanager
def stopped(crowd: Crowd) -> Iterator[None]:
    """The relay's process stands still; who writes does not wait for it."""
    crowd.writer.ahead = 1 << 30
    crowd.relay.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        crowd.relay.process.send_signal(signal.SIGCONT)
        crowd.writer.ahead = AHEAD


@contextmanager
def full(relay: FastRelay, ring: str, size: int) -> Iterator[None]:
    """The ring seems to hold as much as it can, unread; its reader must stand still."""
    fd = syscalls.get(relay.maps / ring)
    try:
        consumer = mmap.mmap(fd, mmap.PAGESIZE)
        producer = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
    finally:
        os.close(fd)
    (read,) = struct.unpack_from("=Q", consumer)
    (written,) = struct.unpack_from("=Q", producer)
    struct.pack_into("=Q", consumer, 0, (written - size) % (1 << 64))
    try:
        yield
    finally:
        struct.pack_into("=Q", consumer, 0, read)


def more(relay: FastRelay, reason: str, count: int) -> Callable[[], bool]:
    """Whether it has been counted so many times more from now on."""
    before = relay.counters().get(reason, 0)
    return lambda: relay.counters().get(reason, 0) >= before + count


def dropper(one_in: int) -> bytes:
    """Instructions: of the packets with our mark one in so many, a power of two, is dropped."""

    def instruction(code: int, registers: int, offset: int, value: int) -> bytes:
        return struct.pack("=BBhI", code, registers, offset, value)

    mark = 8  # in struct __sk_buff
    return b"".join(
        (
            instruction(0x61, 0x12, mark, 0),  # r2 = mark
            instruction(0x54, 0x02, 0, layout.CLONE_MARK_MASK),  # w2 &= mask
            instruction(0x56, 0x02, 5, layout.CLONE_MARK),  # if w2 != ours: pass
            instruction(0x85, 0x00, 0, 7),  # call bpf_get_prandom_u32
            instruction(0x54, 0x00, 0, one_in - 1),  # w0 &= one_in - 1
            instruction(0x56, 0x00, 2, 0),  # if w0 != 0: pass
            instruction(0xB4, 0x00, 0, 2),  # w0 = TC_ACT_SHOT
            instruction(0x95, 0x00, 0, 0),
            instruction(0xB4, 0x00, 0, 0xFFFFFFFF),  # pass: w0 = TC_ACT_UNSPEC
            instruction(0x95, 0x00, 0, 0),
        )
    )


@contextmanager
def losing_copies(relay: FastRelay, one_in: int) -> Iterator[None]:
    """A program that runs before ours drops some of the copies, at random."""
    program = programs.load("dropper", dropper(one_in))
    namespace = topology.namespace_of(relay.name, NODE)

    def attach() -> int:
        return programs.create_link(program, index, AttachType.TCX_INGRESS)

    index = netns.netlink(namespace, lambda ipr: links.index_of(ipr, "relay"))
    link = netns.inside(namespace, attach)
    try:
        yield
    finally:
        programs.detach_link(link)
        os.close(link)
        os.close(program)


async def test_copies_are_lost_before_anybody_claims_them(
    relay: FastRelay, certificate: Certificate
) -> None:
    async with crowd_of(relay, certificate, "copies", every_datagram=True) as crowd:
        before = relay.status()["fast_path"]["refused"].get("claimed", 0)
        with losing_copies(relay, 8):
            await crowd.writer.pass_by(100)
        claimed = relay.status()["fast_path"]["refused"]["claimed"] - before
        assert claimed > 100 * SUBSCRIBERS / 16


@pytest.mark.parametrize(
    ("ring", "size", "reason"),
    [
        ("intents", layout.INTENTS_BYTES, "A_RING_FULL"),
        ("reports", layout.REPORTS_BYTES, "B_RING_FULL"),
    ],
)
async def test_a_ring_is_full_while_the_relay_stands_still(
    relay: FastRelay, certificate: Certificate, ring: str, size: int, reason: str
) -> None:
    async with crowd_of(relay, certificate, ring, every_datagram=False) as crowd:
        with stopped(crowd), full(relay, ring, size):
            enough = more(relay, reason, 20)
            await asyncio.sleep(STOPPED)  # the relay's pause, nothing else waits for it
            await until(enough, f"{reason} is counted")


@contextmanager
def no_slots(relay: FastRelay) -> Iterator[None]:
    """All slots seem to be in use; who frees them must stand still."""
    fd = syscalls.get(relay.maps / "shared")
    try:
        memory = mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)
    shared = np.frombuffer(memory, layout.SHARED.dtype, 1)[0]
    limit = int(shared["slot_limit"])
    shared["slot_limit"] = shared["slot_next"]
    try:
        yield
    finally:
        shared["slot_limit"] = limit


async def test_no_slot_is_free_while_the_relay_stands_still(
    relay: FastRelay, certificate: Certificate
) -> None:
    async with crowd_of(relay, certificate, "slots", every_datagram=False) as crowd:
        enough = more(relay, "A_NO_SLOT", 20)
        with stopped(crowd), no_slots(relay):
            await until(enough, "A_NO_SLOT is counted")


async def test_more_subscribers_than_the_kernel_may_serve(
    certificate: Certificate, tmp_path: Path
) -> None:
    most, count = 8, 12
    with fast_relay(
        certificate, tmp_path / "relay", spec={"fastPath": {"maxMembers": most}}
    ) as relay:
        scene = Scene(relay, certificate, "many")
        async with scene.written(), AsyncExitStack() as stack:
            for number in range(count - 1):
                await stack.enter_async_context(scene.member(webtransport=bool(number % 2)))
            await scene.complete(3)
            # Whoever comes next finds no place.
            async with scene.member() as late:
                await scene.complete(3)
                full = f"the kernel serves {most} subscribers of a track at most"
                reasons = Counter(scene.subscription(m)["fast_path"] for m in scene.members)
                assert reasons == {"": most, full: count - most}
                assert scene.subscription(late)["fast_path"] == full
                await scene.by_the_kernel(10, *filter(scene.is_fast, scene.members))
                assert scene.kernel_streams(late)[0] == 0
                await leave_and_be_followed(scene, stack, most)


async def leave_and_be_followed(scene: Scene, stack: AsyncExitStack, most: int) -> None:
    """Those whom the kernel serves go; others take their places."""
    slow = [member for member in scene.members if not scene.is_fast(member)]
    fast = [member for member in scene.members if scene.is_fast(member)]
    for member in fast[: len(slow)]:
        await member.stop()
        scene.members.remove(member)
        stack.callback(scene.members.append, member)
        member.subscription.close()
    await until(lambda: all(map(scene.is_fast, slow)), "they take the places of who left")
    await scene.complete(3)
    await scene.by_the_kernel(10, *slow)


async def test_the_relay_stands_still(relay: FastRelay, certificate: Certificate) -> None:
    """The kernel goes on forwarding meanwhile, as far as there is credit."""
    async with crowd_of(relay, certificate, "stopped", every_datagram=False) as crowd:
        for _ in range(3):
            with stopped(crowd):
                goes_on = more(relay, "B_SENT", 10 * SUBSCRIBERS)
                await asyncio.sleep(STOPPED)  # the relay's pause, nothing else waits for it
                await until(goes_on, "the kernel forwards without the relay")
            await crowd.settle()


async def test_more_streams_are_open_than_the_kernel_has_places_for(
    relay: FastRelay, certificate: Certificate
) -> None:
    async with crowd_of(relay, certificate, "streams", every_datagram=True) as crowd:
        too_many = more(relay, "A_NO_STREAM_SLOT", 50)
        opened = crowd.writer.open_short(layout.STREAMS + 100)
        await until(too_many, "there is no place for another stream")
        await crowd.arrived()
        crowd.writer.close_short(opened)
