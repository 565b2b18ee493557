"""More is offered than a member's link carries: the most important layers come whole, the others go
group by group, nothing stalls, and the next member does not notice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import replace

import pytest

from fastrelay.local.shaping import Shape
from fastrelay.local.topology import PodPlan
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, Draft
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.layers import (
    Content,
    Got,
    Layer,
    Published,
    Watchers,
    bulk_transfer,
    published,
    watching,
)
from integration.harness import Certificate, becomes_so

LAYERS = (
    Layer("audio", 16, 100_000, even=True),
    Layer("base", 64, 400_000),
    Layer("middle", 160, 500_000),
    Layer("high", 224, 1_000_000),
)
NAMES = tuple(layer.name for layer in LAYERS)
NARROW = 1e6
GROUP = 0.5
WINDOW = 8
"""Groups."""
THIN = tuple(replace(layer, bits=layer.bits // 2) for layer in LAYERS)
"""What a connection carries that loses one packet of thirty each way."""
LIBRARIES = "moqrs", "aiomoqt"
"""Others' subscribers; their pods are called like them."""
PAUSES = 0.3, 1.0, 2.5
"""Seconds."""
STARVED = 0.15
"""Who has less of a link that two share starves."""
FILLED, SHARED = 6.0, 4.0
"""Seconds until a transfer has filled the queue, and of a window."""
PATIENCE = 5.0
"""Seconds within which what is still on its way has come."""
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    narrow = Shape(rate=NARROW)
    pods = [PodPlan(name, narrow) for name in ("narrow", "beside", *LIBRARIES)]
    pods += [PodPlan("wide"), PodPlan("lossy", Shape(loss=0.03, delay=0.02))]
    with fast_relay(
        certificate,
        tmp_path_factory.mktemp("bottleneck"),
        pods=pods,
        spec={"congestion": {"controller": "Delay", "limitByPath": True}},
    ) as relay:
        yield relay


@pytest.mark.parametrize(
    ("path", "datagrams", "draft", "webtransport", "libraries"),
    [
        ("kernel", False, DRAFT_18, False, LIBRARIES),
        ("user", True, DRAFT_16, True, ()),
        ("toggled", False, DRAFT_18, True, ()),
    ],
)
async def test_what_does_not_fit_goes_from_below(
    relay: FastRelay,
    certificate: Certificate,
    path: str,
    datagrams: bool,
    draft: Draft,
    webtransport: bool,
    libraries: tuple[str, ...],
) -> None:
    namespace = f"bottleneck/{path}"
    content = Content(LAYERS, GROUP, datagrams)

    def watch(pod: str, library: str = "") -> AbstractContextManager[Watchers]:
        raw = library or not webtransport
        return watching(
            relay,
            certificate,
            pod,
            namespace,
            NAMES,
            draft=draft,
            webtransport=not raw,
            library=library,
        )

    async with AsyncExitStack() as stack:
        toggled = 0.2 if path == "toggled" else None
        await stack.enter_async_context(relay.forwarding(on=path != "user", toggled=toggled))
        publishing = published(relay, certificate, namespace, content, draft=draft)
        source = await stack.enter_async_context(publishing)
        wide = stack.enter_context(watch("wide"))
        narrow = [stack.enter_context(watch("narrow"))]
        narrow += [stack.enter_context(watch(library, library)) for library in libraries]
        for each in (wide, *narrow):
            await becomes_so(lambda each=each: _is_begun(each, source))
        await becomes_so(lambda: _is_so(relay, narrow, wide, source))


async def test_who_stands_still_or_loses_packets_gets_everything(
    relay: FastRelay, certificate: Certificate
) -> None:
    """A path that carries everything is no reason to drop anything."""
    namespace = "bottleneck/still"
    async with published(relay, certificate, namespace, Content(THIN, GROUP)) as source:
        with (
            watching(relay, certificate, "wide", namespace, NAMES) as still,
            watching(relay, certificate, "lossy", namespace, NAMES) as lossy,
        ):
            for each in (still, lossy):
                await becomes_so(lambda each=each: _is_begun(each, source))

            async def window() -> str:
                first = source.groups() + 1
                for pause in PAUSES:
                    os.kill(still.pid, signal.SIGSTOP)
                    try:
                        await asyncio.sleep(pause)
                    finally:
                        os.kill(still.pid, signal.SIGCONT)
                    await asyncio.sleep(2 * GROUP)
                last = source.groups() - 1
                return await _is_whole([still, lossy], source, first, last)

            await becomes_so(window)


async def test_beside_a_transfer_neither_starves(
    relay: FastRelay, certificate: Certificate
) -> None:
    namespace = "bottleneck/beside"
    async with published(relay, certificate, namespace, Content(LAYERS, GROUP)) as source:
        with (
            watching(relay, certificate, "beside", namespace, NAMES) as member,
            bulk_transfer(relay, "wide", "beside") as transfer,
        ):
            await becomes_so(lambda: _is_begun(member, source))
            await asyncio.sleep(FILLED)

            async def window() -> str:
                begin = time.monotonic()
                await asyncio.sleep(SHARED)
                end = time.monotonic()
                rates = member.bytes(begin, end)[0] / (end - begin), transfer.rate(begin, end)
                return "" if min(rates) * 8 >= STARVED * NARROW else f"{rates} bytes a second"

            await becomes_so(window)


async def _is_begun(watchers: Watchers, source: Published) -> str:
    await asyncio.sleep(0.2)
    return "" if watchers.newest("audio") > 0 else f"nothing came up to {source.groups()}"


async def _is_whole(members: Sequence[Watchers], source: Published, first: int, last: int) -> str:
    """Nothing is missing soon after the last group."""
    deadline = time.monotonic() + PATIENCE
    while True:
        lacking = [
            f"{member.pod}: {layer} of {[*got.dropped, *got.cut]} from {first} on"
            for member in members
            for (_, layer), got in member.got(source, first, last).items()
            if got.dropped or got.cut
        ]
        if not lacking or time.monotonic() > deadline:
            return "; ".join(lacking)
        await asyncio.sleep(0.2)


async def _is_so(
    relay: FastRelay, narrow: Sequence[Watchers], wide: Watchers, source: Published
) -> str:
    """One window of groups, of which nothing comes any more when it is looked at."""
    first = source.groups() + 1
    last = first + WINDOW - 1
    await asyncio.sleep((WINDOW + 6) * GROUP)
    if source.groups() <= last:
        return "the publisher is slow"
    faults = [await _is_whole([wide], source, first, last)]
    faults += [_is_limited(relay, each, source, first, last) for each in narrow]
    return "\n".join(filter(None, faults))


def _is_limited(
    relay: FastRelay, narrow: Watchers, source: Published, first: int, last: int
) -> str:
    there = narrow.got(source, first, last)
    layers = {name: there.get((0, name), Got()) for name in NAMES}
    audio, base, middle, high = layers.values()
    # Datagrams that the link loses are lost.
    lost = WINDOW // 4 if source.content.datagrams else 0
    fits = min(len(audio.whole), len(base.whole)) >= WINDOW - lost
    enough = len(high.dropped) >= WINDOW // 2
    # What a stream carries comes whole or not at all; a datagram is judged by itself.
    enough &= source.content.datagrams or not middle.cut
    if fits and enough:
        return ""
    faults = [
        f"{name}: {len(got.whole)} whole, {len(got.dropped)} dropped, {len(got.cut)} cut"
        for name, got in layers.items()
    ]
    session = relay.session_of(narrow.pod)
    return f"{narrow.pod}: {'; '.join(faults)}\n{session}"
