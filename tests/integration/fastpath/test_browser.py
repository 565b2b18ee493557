"""Debian's Chromium, which nobody patched: the kernel sends to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from integration.fastpath.harness import FastRelay, not_by_the_kernel
from integration.harness import Certificate, becomes_so
from integration.test_browser import INTERVAL, watch_in_chromium

FIRST_SECOND = round(1 / INTERVAL)
"""Groups of it."""
GROUPS = 5 * FIRST_SECOND


async def test_chromium_gets_its_media_from_the_kernel(
    fast: FastRelay, certificate: Certificate, tmp_path: Path
) -> None:
    """Of the media packets to it, from a second after the kernel began to serve it."""
    numbers = itertools.count()

    async def window() -> str:
        killed = {session["address"] for session in fast.status()["sessions"]}
        seen: list[dict[str, Any]] = []

        def look(_group: int) -> None:
            for session in fast.status()["sessions"]:
                for subscription in session["subscriptions"]:
                    if session["address"] in killed:
                        continue
                    if seen or not subscription["fast_path"]:
                        seen.append(session)

        directory = tmp_path / f"browser-{next(numbers)}"
        directory.mkdir()
        await watch_in_chromium(fast, certificate, directory, GROUPS, look)
        if len(seen) <= 2 * FIRST_SECOND:
            return f"the kernel served it for {len(seen)} groups of {GROUPS}"
        return not_by_the_kernel(seen[FIRST_SECOND], seen[-1])

    await becomes_so(window)
