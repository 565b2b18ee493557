"""How a connection ends: nobody waits for a closing time, and what is over leaves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from threading import Thread

import pytest
from aioquic.h3.connection import ErrorCode

from fastrelay.quic.connection import Connection
from fastrelay.quic.endpoint import connect
from fastrelay.quic.options import QuicOptions
from unit.quic.peers import Acceptor, serving, session_pair
from unit.quic.test_endpoint import until

LONG = 3600.0
"""Seconds of a round trip: nobody gets to the end of three probe timeouts."""
SCHEMES = pytest.mark.parametrize("scheme", ["moqt", "https"])


def slow(*connections: Connection) -> None:
    """They have seen a round trip that took very long."""
    for connection in connections:
        connection.engine._recovery._rtt_smoothed = LONG


async def test_what_the_peer_has_closed_is_forgotten_at_once(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        (there,) = pair.endpoint.connections
        slow(pair.connection, there)
        pair.client.transport.close(0x10, "enough")
        await until(lambda: pair.endpoint.connections == ())
        assert pair.server.end == (0x10, "enough")
        await asyncio.wait_for(there.wait_closed(), 60)


async def test_a_client_that_was_closed_gives_up_its_socket(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        (there,) = pair.endpoint.connections
        slow(pair.connection, there)
        pair.server.transport.close(0x10, "enough")
        await asyncio.wait_for(pair.connection.wait_closed(), 60)
        assert pair.client.end == (0x10, "enough")
        assert pair.connection._endpoint._socket is None


async def test_a_client_that_lingers_says_again_that_it_is_gone(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        (there,) = pair.endpoint.connections
        slow(pair.connection, there)
        heard = there.receive
        there.receive = lambda *_: None  # type: ignore[method-assign]
        pair.client.transport.close(0x10, "enough")
        pair.connection.linger()
        assert pair.connection.engine.is_over
        there.receive = heard  # type: ignore[method-assign]
        stream = pair.server.transport.open_stream(unidirectional=True)
        pair.server.transport.send(stream, b"are you there?")
        await until(lambda: pair.endpoint.connections == ())
        assert pair.server.end == (0x10, "enough")


@SCHEMES
async def test_the_end_of_the_loop_ends_a_client_that_lingers(
    options: QuicOptions, scheme: str
) -> None:
    async with serving(options, acceptor := Acceptor()) as endpoint:
        url = f"{scheme}://127.0.0.1:{endpoint.address[1]}/"
        theirs = replace(options, insecure=True)
        left: list[Connection] = []

        async def visit() -> None:
            connection = await connect(url, theirs.drafts, theirs, Acceptor())
            left.append(connection)
            slow(connection)
            connection.abort("bye", 0x10)
            connection.linger()

        program = Thread(target=asyncio.run, args=(visit(),))
        program.start()
        await until(lambda: not program.is_alive())
        assert left[0]._endpoint._socket is None
        ended = left[0].engine.termination
        assert ended is not None
        assert ended.error_code == (0x10 if scheme == "moqt" else ErrorCode.H3_NO_ERROR)
        session = await asyncio.wait_for(acceptor.sessions.get(), 60)
        await session.wait(lambda: session.end)
        await until(lambda: endpoint.connections == ())
