"""Packets get lost and come late: streams are repaired, datagrams are not, nobody else notices."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from statistics import median

import pytest

from fastrelay.client import Client
from fastrelay.local import netns, topology
from fastrelay.local.stack import RELAY
from fastrelay.moqt.codes import StreamError
from fastrelay.quic import udp
from integration.fastpath.conftest import FAR
from integration.fastpath.echo import echoes
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import (
    OBJECTS,
    Member,
    Scene,
    Wire,
    forwarding_rules,
    losing,
    port_of,
    until,
)
from integration.harness import Certificate, becomes_so

pytestmark = pytest.mark.quiet
GROUPS = 40
SLOWER = 3.0
"""By how much the others' median may grow on a machine that does other things, too."""
LATE = 0.05
"""Seconds; far beyond what an object takes, and below what a lost packet's repair does."""


@asynccontextmanager
async def audience(scene: Scene, *, webtransport: bool = False) -> AsyncIterator[list[Member]]:
    """A publisher and three members, the last of which is to suffer."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written())
        members = [
            await stack.enter_async_context(scene.member(webtransport=kind))
            for kind in (False, True, webtransport)
        ]
        await scene.complete(3)
        yield members


@pytest.mark.parametrize("percent", [1, 5, 10, 20])
async def test_one_member_loses(
    scripted: FastRelay, certificate: Certificate, percent: int
) -> None:
    scene = Scene(scripted, certificate, f"loss-{percent}")
    source = scene.source
    async with audience(scene, webtransport=percent in (5, 20)) as (near, web, sufferer):
        others = [near, web]

        async def window() -> str:
            """What the others noticed."""
            first = source.group + 1
            await scene.complete(GROUPS)
            quiet = [m.latencies(first, first + GROUPS - 1) for m in others]
            first = source.group + 1
            with losing(scripted, port_of(sufferer.client), percent / 100) as dropped:
                await scene.by_the_kernel(GROUPS, *others)
                loud = [m.latencies(first, first + GROUPS - 1) for m in others]
                # Chance may spare it: of 600 packets, one percent is none in one run of 400.
                while not dropped():
                    await scene.complete(1)
                # Whatever is missing comes, while it goes on.
                await sufferer.reach(source.group)
            faults = []
            for before, during in zip(quiet, loud, strict=True):
                assert len(during) == GROUPS * OBJECTS
                late = sum(each > LATE for each in during) - sum(each > LATE for each in before)
                if median(during) >= SLOWER * median(before) + 0.002 or late >= len(during) / 20:
                    took = f"{median(during):.4f} s instead of {median(before):.4f} s"
                    faults.append(f"an object took {took}; {late} more are late")
            return "; ".join(faults)

        lost_before = scripted.status()["fast_path"]["lost_packets"]
        await becomes_so(window)
        if percent >= 5:
            assert scripted.status()["fast_path"]["lost_packets"] > lost_before
        await scene.complete(5)


async def test_datagrams_are_not_sent_again(scripted: FastRelay, certificate: Certificate) -> None:
    scene = Scene(scripted, certificate, "loss-datagrams", datagrams=True)
    source = scene.source
    async with audience(scene) as (near, web, sufferer):
        groups = 50
        sent = groups * OBJECTS

        async def window() -> str:
            first, written = source.group + 1, len(source.sent)
            with losing(scripted, port_of(sufferer.client), 0.2), scripted.counting() as counted:
                await scene.complete(groups, near, web)
                written = len(source.sent) - written
            arrived = sufferer.objects(first, first + groups - 1)
            if counted.kernel + counted.user > 3 * (written + OBJECTS):
                return f"more than {written} datagrams: {counted}"  # of before, at most for once
            assert arrived < sent - 25, f"{arrived} of {sent} datagrams arrived"
            # 60 of 300 are lost on the way on average, with a deviation of 7; the window, which
            # shrinks meanwhile, holds back some more.
            if arrived > sent - 200 and counted.share > 0.8:
                return ""
            return f"{arrived} of {sent} datagrams arrived; {counted}"

        await becomes_so(window)
        assert not sufferer.fault, sufferer.fault


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
async def test_loss_and_reordering_upstream(
    scripted: FastRelay, certificate: Certificate, webtransport: bool
) -> None:
    """Of what the publisher sends, and of what the relay says to it."""
    scene = Scene(scripted, certificate, f"upstream-{webtransport}")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written(webtransport=webtransport))
        for kind in (False, True, False):
            await stack.enter_async_context(scene.member(webtransport=kind))
        await scene.complete(3)
        wire = Wire(publisher, loss=0.05, late=0.1)

        async def window() -> str:
            with scripted.counting() as counted:
                await scene.complete(50)
            return "" if counted.share > 0.5 else str(counted)

        with losing(scripted, port_of(publisher), 0.02):
            await becomes_so(window)
        assert wire.lost > 5
        assert wire.delayed > 10


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
async def test_a_delivery_timeout_ends_what_does_not_arrive(
    scripted: FastRelay, certificate: Certificate, webtransport: bool
) -> None:
    """Nothing reaches a member for a while. It is told that what the kernel had begun to send is
    too late, and gets what follows; another gets all."""
    scene = Scene(scripted, certificate, f"late-{webtransport}")
    source = scene.source
    async with (
        scene.written(),
        scene.member(webtransport=not webtransport) as other,
        scene.member({"subgroup_delivery_timeout": 200}, webtransport=webtransport) as timed,
    ):
        port = port_of(timed.client)
        nothing = f"udp dport {port} counter drop", f"udp sport {port} drop"

        async def window() -> str:
            await until(lambda: scene.is_fast(timed), "a seat in the kernel")
            begun, first = scene.kernel_streams(timed)[0], source.group
            with forwarding_rules(scripted, *nothing) as dropped:
                await other.complete(20)
                lost = dropped()
            begun = scene.kernel_streams(timed)[0] - begun
            last = source.group
            await until(lambda: any(timed.has(g) for g in range(last, source.group)), "a group")
            late = {g for g, code in timed.resets.items() if code == StreamError.DELIVERY_TIMEOUT}
            told = len(late & set(range(first, last)))
            return "" if begun and told else f"{begun} streams, {told} resets, {lost} lost"

        await becomes_so(window)
        assert not other.resets


async def test_loss_everywhere(scripted: FastRelay, certificate: Certificate) -> None:
    """5 % on every link, both ways, and reordering upstream."""
    scene = Scene(scripted, certificate, "everywhere")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written())
        members = [
            await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
            for i in range(3)
        ]
        await scene.complete(3)
        Wire(publisher, late=0.05)
        with ExitStack() as losses:
            for client in (publisher, *(member.client for member in members)):
                losses.enter_context(losing(scripted, port_of(client), 0.05))
            await scene.complete(40)
        await scene.complete(3)


@asynccontextmanager
async def far_member(scene: Scene, pod: str) -> AsyncIterator[Member]:
    """Behind a delay line."""
    namespace = topology.namespace_of(scene.relay.name, pod)
    connect = udp.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            udp, "connect", lambda *a, **k: netns.inside(namespace, lambda: connect(*a, **k))
        )
        member = await (context := scene.member()).__aenter__()
    try:
        yield member
    finally:
        await context.__aexit__(None, None, None)


@contextmanager
def at_once() -> Iterator[None]:
    """Nobody makes this thread wait, where it may ask for that."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.parametrize("pod", FAR)
async def test_the_round_trip_time_is_the_true_one(
    scripted: FastRelay, certificate: Certificate, pod: str
) -> None:
    """Measured by packets that the kernel sent, which the relay never saw, and by acknowledgements
    that waited in its socket. The truth is what echoes need at the same time. What a client waits
    for a processor counts as far as it is more than max_ack_delay (RFC 9002 section 5.3), or comes
    between saying how long it waited and sending that: so it does not wait, there are several
    tries, and two values of eight are enough."""
    scene = Scene(scripted, certificate, pod)
    namespace = topology.namespace_of(scripted.name, pod)
    relay = scripted.stack.state.pods[RELAY].ipv4
    async with (
        scene.written(),
        far_member(scene, pod) as member,
        scene.member(),
        echoes(namespace, relay) as true,
    ):
        await scene.complete(3)

        async def window() -> str:
            stated = []

            async def ask() -> None:
                true.clear()
                stated.clear()
                with at_once():
                    for _ in range(8):
                        await scene.complete(4)
                        stated.append(rtt_of(scene, member.client))

            await scene.work_by_the_kernel(ask, member)
            truth = median(true) * 1000
            assert truth > 2 * FAR[pod] * 1000 * 0.99
            close = sum(abs(each - truth) < truth / 10 for each in stated)
            return "" if close >= 2 else f"{stated} ms instead of {truth:g}"

        await becomes_so(window)


def rtt_of(scene: Scene, client: Client) -> float:
    """Milliseconds, as the relay has it on its status page."""
    session = scene.session(client)
    assert session is not None
    return float(session["path"]["rtt_ms"])
