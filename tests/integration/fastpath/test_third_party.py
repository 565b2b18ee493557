"""Publishers and subscribers that others wrote, against each other: the kernel forwards."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from integration.fastpath.harness import fast_relay
from integration.harness import Certificate
from integration.test_matrix import CONCURRENT, LIBRARIES, deliver

GROUPS = 40
LEAST_SHARE = 0.9
"""The group in which a subscriber comes, and one under way when keys change, are user space's."""
Pair = tuple[str, str, str]


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """On WebTransport aiomoqt sends a stream's first bytes, of WebTransport, in a packet of
    their own; such streams are left to user space."""
    pairs = [(p, s, "namespace") for p, s in itertools.product(LIBRARIES, LIBRARIES)]
    pairs.append(("aiomoqt", "aiomoqt", "track"))
    slow = [pair for pair in pairs if webtransport and pair[0] == "aiomoqt"]
    fast = [pair for pair in pairs if pair not in slow]
    with fast_relay(certificate, tmp_path / "relay", drafts=[draft]) as relay:
        url = relay.url(webtransport=webtransport)
        gate = asyncio.Semaphore(CONCURRENT)

        async def cell(pair: Pair, groups: int) -> None:
            publisher, subscriber, announce = pair
            namespace = f"matrix/{publisher}-{announce}-{subscriber}"
            async with gate:
                await deliver(url, draft, *pair, namespace, groups=groups)

        with relay.counting() as counted:
            await asyncio.gather(*(cell(pair, GROUPS) for pair in fast))
        assert counted.share >= LEAST_SHARE, counted
        await asyncio.gather(*(cell(pair, 3) for pair in slow))
