"""A line on the terminal that says how a long task stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.status import Status

_INTERVAL = 0.5


@asynccontextmanager
async def progress(line: Callable[[], str], *, quiet: bool) -> AsyncIterator[None]:
    """Show ``line()`` on standard error, twice a second, if that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with Status(line(), console=console) as status:

        async def refresh() -> None:
            while True:
                await asyncio.sleep(_INTERVAL)
                status.update(line())

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()
