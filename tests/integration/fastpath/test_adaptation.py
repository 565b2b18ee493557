"""A member's link gets narrower and wide again: the relay's choice of renditions follows it, the
member sees one track without a gap, whoever sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from fastrelay.local.shaping import Shape
from fastrelay.local.topology import PodPlan
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.relay.renditions import AUTO
from integration.fastpath.harness import FastRelay, fast_relay, not_by_the_kernel
from integration.fastpath.renditions import Ladder, Watcher, published, set_rate, watching
from integration.harness import Certificate, becomes_so

LADDER = Ladder({"low": 300_000, "high": 2_400_000}, group_seconds=0.4)
WIDE, NARROW = 10e6, 1e6
LIBRARIES = ("aiomoqt", "moqrs")
PODS = ("kernel", "user", "toggled", *LIBRARIES)
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    pods = [PodPlan(pod, Shape(rate=WIDE)) for pod in PODS]
    directory = tmp_path_factory.mktemp("adaptation")
    with fast_relay(certificate, directory, pods=pods) as relay:
        yield relay


async def gets(relay: FastRelay, watcher: Watcher, name: str) -> None:
    """Wait until a group of this rendition is the last that came whole."""

    async def look() -> str:
        await asyncio.sleep(0.2)
        found = watcher.renditions()
        last = found[max(found)] if found else "nothing"
        return "" if last == name else f"{last} instead of {name}\n{relay.session_of(watcher.pod)}"

    await becomes_so(look)


@asynccontextmanager
async def member(
    relay: FastRelay,
    certificate: Certificate,
    pod: str,
    drafts: tuple[Draft, Draft],
    changes: tuple[str, ...] = ("low", "high", "low", "high"),
    **options: Any,
) -> AsyncIterator[Watcher]:
    """Of a content of its own; its publisher's draft and its own. At the end every group has come,
    in these renditions first."""
    async with published(relay, certificate, (b"adapt", pod.encode()), LADDER, draft=drafts[0]):
        with watching(
            relay,
            certificate,
            pod,
            f"adapt/{pod}",
            AUTO.decode(),
            LADDER,
            draft=drafts[1],
            **options,
        ) as watcher:
            yield watcher
            newest = max(watcher.renditions())
            await becomes_so(lambda: _complete(watcher, newest))
            found = watcher.renditions()
    told = [name for name, after in pairwise([*found.values(), ""]) if name != after]
    assert tuple(told[: len(changes)]) == changes


async def test_a_link_that_narrows_is_followed(relay: FastRelay, certificate: Certificate) -> None:
    """By the kernel, and by user space: where the publisher writes other integers."""
    async with (
        member(relay, certificate, "kernel", (DRAFT_18, DRAFT_18)) as kernel,
        member(relay, certificate, "user", (DRAFT_16, DRAFT_22)) as user,
    ):
        await asyncio.gather(_down_and_up(relay, kernel), _down_and_up(relay, user))
        await becomes_so(lambda: _by_the_kernel(relay, kernel))
        assert relay.session_of(user.pod)["kernel_packets"] == 0


async def test_it_is_followed_while_the_kernel_comes_and_goes(
    relay: FastRelay, certificate: Certificate
) -> None:
    async with (
        member(relay, certificate, "toggled", (DRAFT_22, DRAFT_22), webtransport=True) as toggled,
        relay.forwarding(toggled=0.15),
    ):
        await _down_and_up(relay, toggled)


async def test_clients_that_others_wrote_are_followed(
    relay: FastRelay, certificate: Certificate
) -> None:
    """They need to know nothing but the track's name."""
    drafts, changes = (DRAFT_18, DRAFT_18), ("low", "high", "low")
    async with AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(
                member(relay, certificate, library, drafts, changes, library=library)
            )
            for library in LIBRARIES
        ]

        async def follow(watcher: Watcher) -> None:
            await gets(relay, watcher, "low")
            await gets(relay, watcher, "high")
            await becomes_so(lambda: _by_the_kernel(relay, watcher))
            set_rate(relay, watcher.pod, NARROW)
            await gets(relay, watcher, "low")

        await asyncio.gather(*map(follow, watchers))


async def _down_and_up(relay: FastRelay, watcher: Watcher) -> None:
    await gets(relay, watcher, "low")
    await gets(relay, watcher, "high")
    set_rate(relay, watcher.pod, NARROW)
    await gets(relay, watcher, "low")
    set_rate(relay, watcher.pod, WIDE)
    await gets(relay, watcher, "high")


async def _complete(watcher: Watcher, newest: int) -> str:
    await asyncio.sleep(0.2)
    missing = watcher.missing(newest)
    if not missing:
        return ""
    near = range(missing[0] - 1, missing[0] + 2)
    came = [str(line) for line in watcher.watchers.lines() if line[2] in near]
    return "\n".join((f"groups {missing} are not whole for {watcher.pod}", *came))


async def _by_the_kernel(relay: FastRelay, watcher: Watcher) -> str:
    before = relay.session_of(watcher.pod)
    await asyncio.sleep(4 * LADDER.group_seconds)
    return not_by_the_kernel(before, relay.session_of(watcher.pod))
