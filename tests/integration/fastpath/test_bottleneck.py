"""More is offered than a member's link carries: the most important layers come whole, the others go
group by group, nothing stalls, and the next member does not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

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
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    pods = [PodPlan("narrow", Shape(rate=NARROW)), PodPlan("wide")]
    with fast_relay(
        certificate,
        tmp_path_factory.mktemp("bottleneck"),
        pods=pods,
        spec={"congestion": {"controller": "Delay", "limitByPath": True}},
    ) as relay:
        yield relay


@pytest.mark.parametrize(
    ("path", "datagrams", "draft", "webtransport"),
    [
        ("kernel", False, DRAFT_18, False),
        ("user", True, DRAFT_16, True),
        ("toggled", False, DRAFT_18, True),
    ],
)
async def test_what_does_not_fit_goes_from_below(
    relay: FastRelay,
    certificate: Certificate,
    path: str,
    datagrams: bool,
    draft: Draft,
    webtransport: bool,
) -> None:
    namespace = f"bottleneck/{path}"
    content = Content(LAYERS, GROUP, datagrams)
    async with (
        relay.forwarding(on=path != "user", toggled=0.2 if path == "toggled" else None),
        published(relay, certificate, namespace, content, draft=draft) as source,
    ):
        with (
            watching(
                relay,
                certificate,
                "narrow",
                namespace,
                NAMES,
                draft=draft,
                webtransport=webtransport,
            ) as narrow,
            watching(relay, certificate, "wide", namespace, NAMES, draft=draft) as wide,
        ):
            await becomes_so(lambda: _is_begun(wide, source))
            await becomes_so(lambda: _is_so(relay, narrow, wide, source))


async def _is_begun(watchers: Watchers, source: Published) -> str:
    await asyncio.sleep(0.2)
    return "" if watchers.newest("audio") > 0 else f"nothing came up to {source.groups()}"


async def _is_so(relay: FastRelay, narrow: Watchers, wide: Watchers, source: Published) -> str:
    """One window of groups, of which nothing comes any more when it is looked at."""
    first = source.groups() + 1
    last = first + WINDOW - 1
    await asyncio.sleep((WINDOW + 6) * GROUP)
    if source.groups() <= last:
        return "the publisher is slow"
    there = narrow.got(source, first, last)
    layers: dict[str, Got] = {name: there[0, name] for name in NAMES}
    faults = [
        f"{name}: {len(got.whole)} whole, {len(got.dropped)} dropped, {len(got.cut)} cut"
        for name, got in layers.items()
    ]
    audio, base, middle, high = layers.values()
    # Datagrams that the link loses are lost.
    lost = WINDOW // 4 if source.content.datagrams else 0
    fits = min(len(audio.whole), len(base.whole)) >= WINDOW - lost
    enough = len(high.dropped) >= WINDOW // 2
    # What a stream carries comes whole or not at all; a datagram is judged by itself.
    enough &= source.content.datagrams or not middle.cut
    others = wide.got(source, first, last)
    whole = all(len(others[0, name].whole) == WINDOW for name in NAMES)
    if fits and enough and whole:
        return ""
    said = f"{'; '.join(faults)}{'' if whole else '; the other one lacks something'}"
    address = relay.stack.state.pods["narrow"].ipv4
    sessions = relay.status()["sessions"]
    session = next(s for s in sessions if str(s["address"]).startswith(address))
    return f"{said}; {session['limit']} {session['bands']}\n{session}"
