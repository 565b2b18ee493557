"""Members that grant little: they are never overrun, and get everything.

A client of ours checks each limit that it gave: a byte, a stream too many closes the connection,
which fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from fastrelay.client import Client
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import Scene, connection_of, endpoint_of, engine_of
from integration.harness import Certificate

GROUPS = 25


def slide(client: Client, window: int) -> None:
    """MAX_DATA stays so far ahead of what has come, instead of doubling as aioquic's does."""
    engine: Any = engine_of(client)
    limit = engine._local_max_data
    write = engine._write_connection_limits

    def write_limits(builder: Any, space: Any) -> None:
        if limit.value - limit.used < window // 2:
            limit.value = limit.used + window
        used, limit.used = limit.used, 0
        try:
            write(builder, space)
        finally:
            limit.used = used

    engine._write_connection_limits = write_limits


@contextmanager
def granting_nothing(client: Client) -> Iterator[None]:
    """The application reads nothing: what was granted is used up, and nothing more is granted."""
    engine: Any = engine_of(client)
    connection, stream = engine._write_connection_limits, engine._write_stream_limits
    engine._write_connection_limits = engine._write_stream_limits = lambda *a, **k: None
    try:
        yield
    finally:
        engine._write_connection_limits, engine._write_stream_limits = connection, stream
        for stream in list(engine._streams.values()):
            engine._after_receiving(stream)
        engine.send_ping(0)
        connection_of(client).touch()


@contextmanager
def deaf(client: Client) -> Iterator[None]:
    """The process is stopped: its socket is not read."""
    endpoint = endpoint_of(client)
    sock = endpoint._socket
    assert sock is not None
    endpoint.loop.remove_reader(sock.fileno())
    try:
        yield
    finally:
        endpoint.loop.add_reader(sock.fileno(), endpoint._on_readable)


TINY: dict[str, dict[str, int]] = {
    "data": {"max_data": 16_384},
    "stream-data": {"max_stream_data": 2_048},
    "streams": {"max_streams_unidirectional": 6},
    "everything": {
        "max_data": 16_384,
        "max_stream_data": 2_048,
        "max_streams_unidirectional": 6,
    },
}
"""Four unidirectional streams are always open on WebTransport."""


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("tiny", TINY)
async def test_a_member_grants_little(
    scripted: FastRelay, certificate: Certificate, tiny: str, webtransport: bool
) -> None:
    scene = Scene(scripted, certificate, f"{tiny}-{webtransport}")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written())
        others = [
            await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
            for i in range(2)
        ]
        poor = await stack.enter_async_context(
            scene.member(webtransport=webtransport, **TINY[tiny])
        )
        if "max_data" in TINY[tiny]:
            slide(poor.client, TINY[tiny]["max_data"])
        await scene.complete(3)
        await scene.work_by_the_kernel(lambda: scene.complete(GROUPS), *others)


async def test_a_member_grants_all_there_is(scripted: FastRelay, certificate: Certificate) -> None:
    """The largest limits that can be said: what it gets is limited by congestion alone."""
    scene = Scene(scripted, certificate, "all-there-is")
    most = (1 << 62) - 1
    async with scene.written(), scene.member() as other:
        limits = {"max_data": most, "max_stream_data": most, "max_streams_unidirectional": 1 << 60}
        async with scene.member(**limits) as greedy:
            await scene.complete(3)
            await scene.by_the_kernel(GROUPS, other, greedy)
            await scene.complete(3)


@pytest.mark.parametrize("how", [granting_nothing, deaf], ids=lambda how: how.__name__)
async def test_a_member_stops_reading_for_a_while(
    scripted: FastRelay, certificate: Certificate, how: Any
) -> None:
    scene = Scene(scripted, certificate, how.__name__)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written())
        others = [
            await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
            for i in range(2)
        ]
        member = await stack.enter_async_context(
            scene.member(max_data=65_536, max_stream_data=8_192, max_streams_unidirectional=20)
        )
        slide(member.client, 65_536)
        await scene.complete(3)

        async def pause() -> None:
            with how(member.client):
                await scene.complete(15, *others)
                assert not member.has(scene.source.group), "it went on reading"
            await scene.complete(3)

        for _ in range(2):
            await scene.work_by_the_kernel(pause, *others)
        await scene.complete(GROUPS)


async def test_many_poor_members(scripted: FastRelay, certificate: Certificate) -> None:
    """Each with another limit that binds."""
    scene = Scene(scripted, certificate, "many-poor")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(scene.written())
        for data in (9_000, 12_000, 30_000):
            for stream_data in (1_500, 4_000):
                member = await stack.enter_async_context(
                    scene.member(
                        max_data=data,
                        max_stream_data=stream_data,
                        max_streams_unidirectional=4 + data // 9_000,
                    )
                )
                slide(member.client, data)
        await asyncio.gather(*(member.complete(GROUPS) for member in scene.members))
