"""Debian's Chromium, which nobody patched: the kernel sends to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from integration.fastpath.harness import LEAST_SHARE, FastRelay
from integration.harness import Certificate
from integration.test_browser import INTERVAL, watch_in_chromium

FIRST_SECOND = round(1 / INTERVAL)
"""Groups of it."""
GROUPS = 5 * FIRST_SECOND


async def test_chromium_gets_its_media_from_the_kernel(
    fast: FastRelay, certificate: Certificate, tmp_path: Path
) -> None:
    """Of the media packets to it, from a second after the kernel began to serve it."""
    seen: list[dict[str, Any]] = []

    def look(_group: int) -> None:
        for session in fast.status()["sessions"]:
            for subscription in session["subscriptions"]:
                if seen or not subscription["fast_path"]:
                    seen.append(session)

    await watch_in_chromium(fast, certificate, tmp_path, GROUPS, look)
    assert len(seen) > 2 * FIRST_SECOND, "it was not served by the kernel for long"
    first, last = seen[FIRST_SECOND], seen[-1]
    kernel, user = (last[who] - first[who] for who in ("kernel_packets", "user_packets"))
    assert kernel >= LEAST_SHARE * (kernel + user), f"{kernel} by the kernel, {user} by user space"
