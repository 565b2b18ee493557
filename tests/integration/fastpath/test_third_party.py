"""Publishers and subscribers that others wrote, against each other: the kernel forwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from integration.fastpath.harness import LEAST_SHARE, fast_relay
from integration.harness import Certificate
from integration.matrix import Cell, every_pair
from integration.third_party import content

FIRST_SECOND = math.ceil(1 / (content.OBJECTS_PER_GROUP * content.INTERVAL))
"""Groups of it."""
GROUPS = FIRST_SECOND


# aiomoqt resets its control stream before it closes, on WebTransport.
@pytest.mark.ends("the control stream was reset")
@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """Of the media packets to each subscriber, from a second after the kernel began to serve it."""
    # aiomoqt is silent until somebody subscribes, and on a busy machine that takes a while.
    spec = {"listen": {"drafts": [draft], "idleTimeoutSeconds": 120}}
    with fast_relay(certificate, tmp_path / "relay", spec=spec) as relay:

        async def work(cell: Cell) -> None:
            await cell.until(lambda status: is_fast(cell, status), "a seat in the kernel")
            await cell.receive(FIRST_SECOND)
            before = cell.session(relay.status()) or {}
            await cell.receive(GROUPS)
            after = cell.session(relay.status()) or {}
            kernel, user = (after[who] - before[who] for who in ("kernel_packets", "user_packets"))
            share = kernel / max(kernel + user, 1)
            assert share >= LEAST_SHARE, f"{kernel} by the kernel, {user} by user space: {after}"

        await every_pair(relay, draft, webtransport=webtransport, work=work)


def is_fast(cell: Cell, status: dict[str, Any]) -> bool:
    session = cell.session(status)
    return session is not None and not session["subscription"]["fast_path"]
