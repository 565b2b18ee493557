"""From a URL to a client."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastrelay.client.client import Client
from fastrelay.client.errors import ConnectFailedError, SessionLostError
from fastrelay.moqt.drafts import DRAFTS, Draft
from fastrelay.moqt.messages import Token, TokenAction
from fastrelay.moqt.session import Session
from fastrelay.moqt.transport import Receiver
from fastrelay.quic.connection import ConnectError, Connection
from fastrelay.quic.endpoint import connect as connect_quic
from fastrelay.quic.options import Negotiated, QuicOptions
from fastrelay.quic.raw import QuicTransport

_FLUSH_PATIENCE = 5.0
"""Seconds without any progress after which nobody waits for what was written last: some probe
timeouts on a path that loses packets (RFC 9002 section 6.2.1)."""
_LIMITS_INTERVAL = 1.0


@asynccontextmanager
async def connect(
    url: str,
    *,
    drafts: tuple[Draft, ...] = tuple(DRAFTS.values()),
    options: QuicOptions = QuicOptions(),  # noqa: B008 - immutable
    token: bytes | None = None,
    connect_timeout: float = 10.0,
) -> AsyncIterator[Client]:
    """A session with the server at ``url``; it is closed at the end of the block, which waits
    until what was written has arrived, not until the server has heard of the end.

    :param url: ``moqt://host:port/path`` for raw QUIC, ``https://...`` for WebTransport.
    :param drafts: what is offered; on raw QUIC the server's order decides.
    :param options: verification of the certificate, time limits, key log. Without
        ``keep_alive`` it is a third of the idle timeout.
    :param token: sent with SETUP and with every request, as a token of type 0.
    :param connect_timeout: seconds for the handshake and for SETUP.
    :raises ValueError: the URL is neither.
    :raises ConnectFailedError: there was no session in time.
    """
    if options.keep_alive is None:
        # A publisher may have nobody to send to for long, a subscriber nothing to receive.
        options = replace(options, keep_alive=options.idle_timeout / 3)
    tokens = () if token is None else (Token(TokenAction.USE_VALUE, type=0, value=token),)
    client: Client | None = None

    def accept(negotiated: Negotiated, transport: QuicTransport) -> Receiver:
        nonlocal client
        client = Client(negotiated.draft, transport, tokens)
        raw = not negotiated.webtransport
        client.session = Session(
            transport,
            negotiated.draft,
            client.on_event,
            path=negotiated.path if raw else None,
            authority=negotiated.authority if raw else None,
            tokens=tokens,
        )
        client.session.start()
        return client.session

    try:
        async with asyncio.timeout(connect_timeout):
            connection = await connect_quic(url, drafts, options, accept)
            assert client is not None
            await client.ready()
    except TimeoutError as error:
        if client is not None:
            client.close()
        raise ConnectFailedError(f"{url}: no answer in {connect_timeout:g} s") from error
    except (ConnectError, SessionLostError) as error:
        raise ConnectFailedError(str(error)) from error
    watching = asyncio.create_task(_watch_limits(client))
    lingers = False
    try:
        yield client
        await _flush(client, connection)
        lingers = True
    finally:
        watching.cancel()
        client.close()
        if lingers and not _is_cancelled():
            connection.linger()
        else:
            await connection.close()


def _is_cancelled() -> bool:
    """As at the end of the loop, which would not run a task that was made now."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _watch_limits(client: Client) -> None:
    while not client.closed:
        await asyncio.sleep(_LIMITS_INTERVAL)
        client.session.expire(time.monotonic())


async def _flush(client: Client, connection: Connection) -> None:
    """What was written arrives before the session is closed, unless the peer takes too long."""
    now = asyncio.get_running_loop().time
    least, given_up_at = sys.maxsize, now() + _FLUSH_PATIENCE
    while not client.closed and (left := connection.engine.undelivered) and now() < given_up_at:
        if left < least:
            least, given_up_at = left, now() + _FLUSH_PATIENCE
        # Nobody reports acknowledgements, so it looks again and again.
        await asyncio.sleep(0.005)
