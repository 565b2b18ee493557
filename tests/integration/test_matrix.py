"""Third-party publishers and subscribers against each other, through the relay."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from integration.harness import (
    THIRD_PARTY,
    Certificate,
    end,
    running_relay,
    start_third_party,
    third_party,
)
from integration.third_party import content

LIBRARIES = ("aiomoqt", "moqrs")
GROUPS = 3
CONCURRENT = 3
"""Cells at a time: one publisher, one subscriber and a share of the relay for two cores."""


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """moq-rs cannot choose its draft, so the relay speaks one only."""
    with running_relay(certificate, tmp_path / "relay.log", drafts=[draft]) as relay:
        url = relay.url(webtransport=webtransport)
        gate = asyncio.Semaphore(CONCURRENT)

        async def cell(publisher: str, subscriber: str, announce: str) -> None:
            async with gate:
                namespace = f"matrix/{publisher}-{announce}-{subscriber}"
                await deliver(url, draft, publisher, subscriber, announce, namespace)

        pairs = [(p, s, "namespace") for p, s in itertools.product(LIBRARIES, LIBRARIES)]
        pairs.append(("aiomoqt", "aiomoqt", "track"))
        results = await asyncio.gather(*(cell(*pair) for pair in pairs), return_exceptions=True)
    failed = {
        f"{publisher} -> {subscriber} ({announce})": result
        for (publisher, subscriber, announce), result in zip(pairs, results, strict=True)
        if result is not None
    }
    assert not failed, "\n\n".join(f"{cell}: {error}" for cell, error in failed.items())


async def deliver(
    url: str,
    draft: int,
    publisher: str,
    subscriber: str,
    announce: str,
    namespace: str,
    *,
    groups: int = GROUPS,
) -> None:
    """One publisher, one subscriber: whole groups arrive, and every byte is right."""
    source = await start_third_party(
        str(THIRD_PARTY / f"{publisher}_publish.py"), url, str(draft), namespace, "video", announce
    )
    assert source.stdout is not None
    try:
        async with asyncio.timeout(20):
            ready = await source.stdout.readline()
        assert ready == b"ready\n", "the publisher did not start"
        subscribed = await third_party(
            str(THIRD_PARTY / f"{subscriber}_subscribe.py"),
            *(url, str(draft), namespace, "video", str(groups)),
            seconds=30,
        )
    finally:
        publisher_errors = await end(source)
    report = f"{subscribed.errors[-3000:]}\n{publisher_errors[-3000:]}"
    assert subscribed.code == 0, report
    received: dict[int, list[tuple[int, str]]] = {}
    for line in subscribed.output.splitlines():
        group, obj, digest = line.split()
        received.setdefault(int(group), []).append((int(obj), digest))
    assert len(received) >= groups, report
    for group, objects in received.items():
        expected = [
            (obj, content.digest(content.payload("video", group, obj)))
            for obj in range(content.OBJECTS_PER_GROUP)
        ]
        assert objects == expected, f"group {group} differs\n{report}"
