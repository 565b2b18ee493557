"""How long a client that others wrote works: until its standard input closes."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

KEEP_ALIVE = 5.0
"""Seconds: who has nothing to say is there all the same; picoquic gives up after 30 s."""


async def until_input_closes(work: Coroutine[Any, Any, None]) -> None:
    """:raises Exception: the work failed, or ended by itself."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), closed.set)
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(closed.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin.fileno())
    if working.done():
        working.result()
        raise EOFError("the track ended")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
