"""Publishers and subscribers that others wrote, against each other: the kernel forwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from integration.fastpath.harness import fast_relay, not_by_the_kernel
from integration.harness import Certificate, becomes_so
from integration.matrix import Cell, every_pair
from integration.third_party import content

FIRST_SECOND = math.ceil(1 / (content.OBJECTS_PER_GROUP * content.INTERVAL))
"""Groups of it."""
GROUPS = FIRST_SECOND


# aiomoqt resets its control stream before it closes, on WebTransport.
@pytest.mark.ends("the control stream was reset")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """Of the media packets to each subscriber, from a second after the kernel began to serve it."""
    # On a busy machine clients stand still for a while.
    spec = {"listen": {"drafts": [draft], "idleTimeoutSeconds": 120}}
    with fast_relay(certificate, tmp_path / "relay", spec=spec) as relay:

        async def work(cell: Cell) -> None:
            await cell.until(lambda status: is_fast(cell, status), "a seat in the kernel")
            await cell.receive(FIRST_SECOND)

            async def window() -> str:
                before = cell.session(relay.status()) or {}
                await cell.receive(GROUPS)
                after = cell.session(relay.status()) or {}
                return not_by_the_kernel(before, after)

            await becomes_so(window)

        await every_pair(relay, draft, webtransport=webtransport, work=work)


def is_fast(cell: Cell, status: dict[str, Any]) -> bool:
    session = cell.session(status)
    return session is not None and not session["subscription"]["fast_path"]
