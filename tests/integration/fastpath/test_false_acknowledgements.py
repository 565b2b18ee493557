"""Members that acknowledge nothing, or what was never sent: they are limited or closed, and nobody
else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fastrelay.client import Client
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import TIMEOUT, Member, Scene, connection_of, engine_of
from integration.harness import Certificate, becomes_so

GROUPS = 25
NOT_SENT = "Acknowledgement of a packet that was not sent"
PING_AND_PADDING = b"\x01\0\0\0"
NEVER_SENT = 1 << 40


def acknowledge_nothing(client: Client) -> None:
    """It is alive: in the place of each acknowledgement there is a PING."""
    engine: Any = engine_of(client)

    def push(buf: Any, space: Any, now: float, handlers: object) -> bool:
        buf.push_bytes(PING_AND_PADDING)
        space.ack_at = None
        return True

    def write(builder: Any, space: Any, now: float) -> None:
        space.ack_at = None

    engine._push_ack, engine._write_ack_frame = push, write
    engine._is_quiet = lambda: False  # then it would write the acknowledgement at once


def acknowledge_what_was_never_sent(client: Client) -> None:
    space = engine_of(client)._application
    space.ack_queue.add(NEVER_SENT)
    space.largest_received_packet = NEVER_SENT
    space.ack_at = space.largest_received_time = asyncio.get_running_loop().time()
    connection_of(client).touch()


@asynccontextmanager
async def audience(scene: Scene) -> AsyncIterator[tuple[Member, list[Member]]]:
    """The one, and two others."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written())
        others = [
            await stack.enter_async_context(scene.member(webtransport=kind))
            for kind in (False, True)
        ]
        one = await stack.enter_async_context(scene.member(dies=True))
        await scene.by_the_kernel(3)
        yield one, others


async def test_who_acknowledges_nothing_gets_a_window_and_no_more(
    scripted: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(scripted, certificate, "mute")
    async with audience(scene) as (mute, others):
        acknowledge_nothing(mute.client)
        await scene.by_the_kernel(GROUPS, *others)

        async def is_over() -> str:
            before = scene.session(mute.client)
            await scene.complete(5, *others)
            after = scene.session(mute.client)
            if before is None or after is None:
                return ""
            path = after["path"]
            assert path["bytes_in_flight"] <= 2 * path["congestion_window"], path
            more = after["kernel_packets"] - before["kernel_packets"]
            return f"{more} packets more by the kernel\n{after}" if more else ""

        await becomes_so(is_over)
        assert not mute.has(scene.source.group)
        await scene.by_the_kernel(GROUPS, *others)


@pytest.mark.ends(NOT_SENT)
async def test_who_acknowledges_what_was_never_sent_is_closed(
    scripted: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(scripted, certificate, "liar")
    async with audience(scene) as (liar, others):
        acknowledge_what_was_never_sent(liar.client)
        async with asyncio.timeout(TIMEOUT):
            closed = await liar.client.wait_closed()
        assert closed.reason == NOT_SENT, closed
        await scene.by_the_kernel(GROUPS, *others)
