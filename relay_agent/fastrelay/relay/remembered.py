"""Sets that do not grow for ever: of keys that begin with a group."""

from __future__ import annotations

from typing import Any, TypeVar

_Key = TypeVar("_Key", bound=tuple[int, Any])


def remember(keys: set[_Key], key: _Key, most: int) -> None:
    """Add it. There are at most so many: the half of the oldest groups is forgotten first."""
    if key not in keys and len(keys) >= most:
        keys.difference_update(sorted(keys, key=lambda each: each[0])[: most // 2])
    keys.add(key)
