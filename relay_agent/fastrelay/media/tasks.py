"""Waiting for one or for all of several things, and leaving nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all, return when the first is done and raise what it raised; cancel the others."""
    await _until(asyncio.FIRST_COMPLETED, coroutines)


async def all_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run all until the last is done; when one raises, cancel the others and raise it."""
    await _until(asyncio.FIRST_EXCEPTION, coroutines)


async def _until(moment: str, coroutines: Iterable[Coroutine[Any, Any, object]]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=moment)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
