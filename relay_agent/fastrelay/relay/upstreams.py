"""Keeps the sessions to upstream relays up: dials, waits, dials again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fastrelay.moqt.codes import SessionError
from fastrelay.quic.connection import Accept, ConnectError, Connection
from fastrelay.quic.endpoint import connect
from fastrelay.relay.configuration import UpstreamOptions
from fastrelay.relay.logs import get_logger

FIRST_PAUSE = 0.25
"""Seconds before the second attempt; doubled for each further one, with jitter."""
FRESH_FAILURE = 1.0
"""Seconds for which a failed attempt answers for the next: nobody makes us dial faster."""
STABLE_AFTER = 1.0
"""Seconds that a session has to last for the pauses to begin anew with the shortest."""

AcceptFor = Callable[[UpstreamOptions], Accept]
"""Who takes a session to that upstream."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Link:
    options: UpstreamOptions
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    connection: Connection | None = None
    dialling: bool = True
    failed_at: float = 0.0
    target: str = ""
    redial: asyncio.Event = field(default_factory=asyncio.Event)
    error: str = ""
    attempts: int = 0


class UpstreamLinks:
    """One link per configured upstream, connected from :meth:`start` to :meth:`close`.

    Implements :class:`fastrelay.relay.ports.Upstreams`.
    """

    def __init__(
        self,
        options: tuple[UpstreamOptions, ...],
        accept: AcceptFor,
        on_failed: Callable[[str], None],
    ) -> None:
        self._links = [_Link(option) for option in options]
        self._accept, self._on_failed = accept, on_failed
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(link)) for link in self._links]

    async def close(self) -> None:
        """Stop dialling, and end the sessions that are up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        links, self._links = self._links, []
        for link in links:
            if link.connection is not None:
                await link.connection.close(SessionError.NO_ERROR, "the relay ends")

    def want(self) -> int:
        """Dial at once what is neither connected nor has just failed; how many dials are now
        under way."""
        now = asyncio.get_running_loop().time()
        under_way = 0
        for link in self._links:
            if link.connection is None and not link.dialling:
                if now - link.failed_at < FRESH_FAILURE:
                    continue
                link.hurry.set()
            under_way += link.connection is None
        return under_way

    def leaving(self, url: str, uri: str = "") -> None:
        """The upstream said GOAWAY: dial it anew, or the ``uri`` it named, while the old session
        still serves. Should that fail, ``url`` is next again."""
        for link in self._links:
            if link.options.url == url:
                link.target = uri
                link.redial.set()

    @property
    def connected(self) -> dict[str, bool]:
        """By URL."""
        return {link.options.url: link.connection is not None for link in self._links}

    def status(self) -> list[dict[str, object]]:
        """For the status page."""
        return [
            {
                "url": link.options.url,
                "connected": link.connection is not None,
                "attempts": link.attempts,
                "error": link.error or None,
            }
            for link in self._links
        ]

    async def _keep(self, link: _Link) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            if await self._dial(link):
                since = loop.time()
                await self._wait_gone(link)
                if loop.time() - since >= STABLE_AFTER:
                    pause = FIRST_PAUSE
                    if link.redial.is_set():
                        continue
            link.hurry.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(link.hurry.wait(), pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, link.options.reconnect_max_seconds)

    async def _dial(self, link: _Link) -> bool:
        url, quic = link.options.url, link.options.quic
        link.attempts += 1
        link.dialling = True
        try:
            target = link.target or url
            connection = await connect(target, quic.drafts, quic, self._accept(link.options))
        except (ConnectError, OSError, ValueError) as error:
            if str(error) != link.error:
                log.warning("upstream cannot be reached", upstream=url, error=str(error))
            link.error, link.target = str(error), ""
            link.failed_at = asyncio.get_running_loop().time()
            link.dialling = False
            self._on_failed(url)
            return False
        link.dialling = False
        link.connection, link.error, link.attempts = connection, "", 0
        link.redial.clear()
        log.info("upstream connected", upstream=url)
        return True

    async def _wait_gone(self, link: _Link) -> None:
        assert link.connection is not None
        waits = [
            asyncio.ensure_future(link.connection.wait_closed()),
            asyncio.ensure_future(link.redial.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        link.connection = None
        log.info("upstream left", upstream=link.options.url, going_away=link.redial.is_set())
