"""Our own clients: every byte arrives, nearly all of them by the kernel."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from fastrelay.moqt.drafts import DRAFTS, Draft
from integration.fastpath.broadcast import Broadcast
from integration.fastpath.harness import FastRelay
from integration.harness import Certificate

GROUPS = 30
KINDS = [pytest.param(False, id="raw"), pytest.param(True, id="webtransport")]


@pytest.mark.parametrize("subscriber", KINDS)
@pytest.mark.parametrize("publisher", KINDS)
@pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
async def test_every_byte_arrives(
    shared_fast_relay: FastRelay,
    certificate: Certificate,
    draft: Draft,
    publisher: bool,
    subscriber: bool,
) -> None:
    name = f"{draft.number}-{publisher}-{subscriber}"
    broadcast = Broadcast(name, shared_fast_relay, certificate)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(broadcast.published(draft, webtransport=publisher))
        watchers = [
            await stack.enter_async_context(broadcast.watched(draft, webtransport=subscriber))
            for _ in range(3)
        ]
        await asyncio.gather(*(watcher.complete(3) for watcher in watchers))
        await shared_fast_relay.mostly_in_kernel(
            lambda: asyncio.gather(*(watcher.complete(GROUPS) for watcher in watchers))
        )
