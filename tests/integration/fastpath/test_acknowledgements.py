"""Members' acknowledgements end in the kernel, and all is as if user space had read them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from fastrelay.moqt.drafts import DRAFTS
from integration.fastpath.broadcast import Broadcast
from integration.fastpath.harness import FastRelay
from integration.harness import Certificate, becomes_so

GROUPS = 30
ENOUGH = 50


async def test_most_of_them(shared_fast_relay: FastRelay, certificate: Certificate) -> None:
    draft = DRAFTS[18]
    broadcast = Broadcast("acknowledged", shared_fast_relay, certificate)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(broadcast.published(draft, webtransport=False))
        watchers = [
            await stack.enter_async_context(broadcast.watched(draft, webtransport=bool(number % 2)))
            for number in range(4)
        ]

        async def window() -> str:
            with shared_fast_relay.counting() as counted:
                await asyncio.gather(*(watcher.complete(GROUPS) for watcher in watchers))
            taken = counted.outcomes.get("A_ACK", 0)
            seen = counted.outcomes.get("A_NO_MEDIA", 0)
            return "" if taken >= ENOUGH and taken > seen else str(counted)

        await becomes_so(window)
