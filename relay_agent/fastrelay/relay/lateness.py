"""Delivery timeouts of subgroups: they count from a stream's end, and what
is not acknowledged by then is reset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from fastrelay.relay.timers import Timers

LOOK_SECONDS = 2.0
"""Of a long timeout: so often, what has arrived by then is forgotten."""

Part = TypeVar("Part")


def give_time(
    timers: Timers,
    seconds: float,
    parts: Iterable[Part],
    is_under_way: Callable[[Part], bool],
    expire: Callable[[Part], None],
) -> None:
    """``expire`` those parts that are still under way when the time is over."""
    deadline = timers.now() + seconds
    left = list(parts)

    def look() -> None:
        nonlocal left
        left = [part for part in left if is_under_way(part)]
        remaining = deadline - timers.now()
        if remaining > 0 and left:
            timers.after(min(remaining, LOOK_SECONDS), look)
            return
        for part in left:
            expire(part)

    timers.after(min(seconds, LOOK_SECONDS), look)
