"""As little of HTTP/1.1 as probes, scrapers and people with curl need.

GET and HEAD, and POST where something is to be done; one request a connection, bounded in size,
time and number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from fastrelay.relay.unixpath import address_of

logger = logging.getLogger(__name__)

REQUEST_LIMIT = 8192
"""Bytes of request line and header fields together, and of a body."""
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive, and as many for its answer to leave."""
MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Handler = Callable[[], Awaitable[Page]]
Action = Callable[[bytes], Page]
"""What becomes of a POST's body."""
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


class Pages:
    """Serves one handler for each path, and an action for some."""

    def __init__(
        self, handlers: Mapping[str, Handler], actions: Mapping[str, Action] | None = None
    ) -> None:
        self._handlers, self._actions = handlers, actions or {}
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def listen(self, host: str, port: int) -> None:
        """Bind and serve; ``""`` is every address.

        :raises OSError: the address cannot be had.
        """
        self._server = await asyncio.start_server(
            self._serve, host or None, port, limit=REQUEST_LIMIT
        )

    async def listen_on(self, path: Path) -> None:
        """Bind a Unix socket that only our own user, and root, may use; one that an earlier
        process left there goes.

        :raises OSError: the path cannot be had.
        """
        mask = os.umask(0o177)
        try:
            with address_of(path) as address:
                self._server = await asyncio.start_unix_server(
                    self._serve, address, limit=REQUEST_LIMIT
                )
        finally:
            os.umask(mask)

    @property
    def port(self) -> int:
        """The port that is bound, also if 0 was asked for."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                size = int(length[1]) if length else 0
                body = await reader.readexactly(size) if size <= REQUEST_LIMIT else None
            page, with_body = await self._answer(head, body)
            async with asyncio.timeout(REQUEST_TIMEOUT):
                writer.write(_head(page))
                if with_body:
                    writer.write(page.body)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except asyncio.LimitOverrunError:
            writer.write(_head(Page(b"", status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)))
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._connections -= 1
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, head: bytes, body: bytes | None) -> tuple[Page, bool]:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _problem(HTTPStatus.BAD_REQUEST), True
        method, target, _ = words
        path = target.partition("?")[0]
        if method == "POST" and path in self._actions:
            if body is None:
                return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE), True
            return self._act(path, body), True
        if method not in ("GET", "HEAD"):
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED), True
        handler = self._handlers.get(path)
        if handler is None:
            paths = " ".join(self._handlers)
            return _problem(HTTPStatus.NOT_FOUND, f"there are {paths}"), method == "GET"
        try:
            return await handler(), method == "GET"
        except Exception:
            logger.exception("page %s failed", target)
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR), method == "GET"

    def _act(self, path: str, body: bytes) -> Page:
        try:
            return self._actions[path](body)
        except Exception:
            logger.exception("action %s failed", path)
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR)


def _problem(status: HTTPStatus, text: str = "") -> Page:
    return Page(f"{text or status.phrase}\n".encode(), status=status)


def _head(page: Page) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
