"""Publishers and subscribers that others wrote, against each other: the kernel forwards."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from integration.fastpath.harness import fast_relay
from integration.harness import Certificate
from integration.test_matrix import CONCURRENT, LIBRARIES, deliver


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """Each subscriber joins in the middle of a group, which user space sends from the cache."""
    with fast_relay(certificate, tmp_path / "relay", drafts=[draft]) as relay:
        url = relay.url(webtransport=webtransport)
        gate = asyncio.Semaphore(CONCURRENT)

        async def cell(publisher: str, subscriber: str, announce: str) -> None:
            async with gate:
                namespace = f"matrix/{publisher}-{announce}-{subscriber}"
                await deliver(url, draft, publisher, subscriber, announce, namespace, groups=GROUPS)

        pairs = [(p, s, "namespace") for p, s in itertools.product(LIBRARIES, LIBRARIES)]
        pairs.append(("aiomoqt", "aiomoqt", "track"))
        with relay.counting() as counted:
            await asyncio.gather(*(cell(*pair) for pair in pairs))
        assert counted.share >= LEAST_SHARE, counted


GROUPS = 40
LEAST_SHARE = 0.9
"""The group that each subscriber joined is a fortieth, and two lost packets make another."""
