"""Forwarding in the kernel comes and goes under load; nobody misses a byte."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fastrelay.moqt.drafts import DRAFT_18
from integration.fastpath.broadcast import Broadcast, Watcher
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import Scene, Wire
from integration.harness import Certificate, becomes_so

SUBSCRIBERS = 3


class Audience:
    """Watchers of one broadcast, both transports."""

    def __init__(self, watchers: list[Watcher]) -> None:
        self.watchers = watchers

    async def complete(self, groups: int) -> None:
        await asyncio.gather(*(watcher.complete(groups) for watcher in self.watchers))

    async def mostly_in_kernel(self, relay: FastRelay) -> None:
        await relay.mostly_in_kernel(lambda: self.complete(10))

    async def without_the_kernel(self, relay: FastRelay) -> None:
        """Once what the kernel had begun with has been settled, it sends nothing more."""

        async def window() -> str:
            with relay.counting() as counted:
                await self.complete(3)
            return "" if counted.user and not counted.kernel else str(counted)

        await becomes_so(window)


@pytest.fixture
def fast(shared_fast_relay: FastRelay) -> FastRelay:
    """One for all: each test gives the fast path back."""
    return shared_fast_relay


@pytest.fixture
async def audience(fast: FastRelay, certificate: Certificate, request: pytest.FixtureRequest):
    async with AsyncExitStack() as stack:
        broadcast = Broadcast(request.node.name, fast, certificate)
        await stack.enter_async_context(broadcast.published(DRAFT_18))
        watchers = [
            await stack.enter_async_context(
                broadcast.watched(DRAFT_18, webtransport=bool(number % 2))
            )
            for number in range(SUBSCRIBERS)
        ]
        yield Audience(watchers)


async def test_switched_off_and_on(fast: FastRelay, audience: Audience) -> None:
    await audience.complete(3)
    for _ in range(5):
        fast.switch(False)
        await audience.without_the_kernel(fast)
        fast.switch(True)
        await audience.mostly_in_kernel(fast)


async def test_switched_in_the_middle_of_groups(fast: FastRelay, audience: Audience) -> None:
    await audience.complete(3)
    for number in range(60):
        fast.switch(bool(number % 2))
        await asyncio.sleep(0.013)  # anywhere in a group; nothing waits for it
    await audience.mostly_in_kernel(fast)


async def test_the_agent_dies_and_comes_back(fast: FastRelay, audience: Audience) -> None:
    """It has no part in forwarding: what it attached goes on."""
    await audience.complete(3)
    before = fast.status()["fast_path"]
    fast.kill_agent()
    await audience.mostly_in_kernel(fast)
    await asyncio.to_thread(fast.start_agent)
    await audience.mostly_in_kernel(fast)
    after = fast.status()["fast_path"]
    assert after["state"] == before["state"] == "On"


async def test_the_data_plane_is_taken_away_and_given_back(
    fast: FastRelay, audience: Audience
) -> None:
    """The relay's description goes from the node and comes back."""
    await audience.complete(3)
    await asyncio.to_thread(fast.take_away)
    await asyncio.to_thread(fast.wait_for_fast_path, on=False)
    await audience.complete(3)
    await asyncio.to_thread(fast.give_back)
    await asyncio.to_thread(fast.wait_for_fast_path)
    await audience.mostly_in_kernel(fast)


async def come_again(fast: FastRelay, scene: Scene, wire: Wire) -> None:
    """What a publisher sent while the kernel was off comes once more when that is on again."""
    await scene.complete(3)
    fast.switch(False)
    await scene.complete(1)
    unseen = len(wire.sent)
    await scene.complete(3)
    await scene.source.rest()
    fast.switch(True)
    wire.send_again(wire.sent[unseen:])
    scene.source.go_on()


async def test_what_the_kernel_has_not_seen_does_not_begin_there_when_it_comes_again(
    fast: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(fast, certificate, "again")
    async with AsyncExitStack() as stack:
        wire = Wire(await stack.enter_async_context(scene.published()))
        for webtransport in (False, True):
            await stack.enter_async_context(scene.member(webtransport=webtransport))
        await stack.enter_async_context(scene.writing())
        await come_again(fast, scene, wire)
        await scene.by_the_kernel(5)
        await scene.source.rest()
        last = scene.source.group
        await asyncio.gather(*(member.reach(last) for member in scene.members))
        for member in scene.members:
            assert scene.kernel_streams(member)[1] == last + 1, "streams that nobody wrote"


async def test_datagrams_that_the_kernel_has_not_seen_are_not_forwarded_when_they_come_again(
    fast: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(fast, certificate, "datagrams again", datagrams=True)
    async with AsyncExitStack() as stack:
        wire = Wire(await stack.enter_async_context(scene.published()))
        await stack.enter_async_context(scene.member())
        await stack.enter_async_context(scene.writing())
        before = fast.counters().get("A_REPLAY", 0)
        await come_again(fast, scene, wire)
        with fast.counting() as counted:
            await scene.complete(5)
        assert counted.kernel
        assert fast.counters()["A_REPLAY"] > before
        assert [member.fault for member in scene.members] == [""]
