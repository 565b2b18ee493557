"""The small HTTP server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastrelay.relay import pages
from fastrelay.relay.pages import Page, Pages


async def exchange(port: int, request: bytes) -> bytes:
    """What comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def hello() -> Page:
        return Page(b"hello\n")

    async def broken() -> Page:
        raise RuntimeError("on purpose")

    server = Pages({"/hello": hello, "/broken": broken})
    await server.listen("127.0.0.1", 0)
    yield server.port
    await server.close()


async def test_get_and_head(port: int) -> None:
    answer = await exchange(port, b"GET /hello?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 6" in head
    assert b"Connection: close" in head
    assert body == b"hello\n"
    answer = await exchange(port, b"HEAD /hello HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 6" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status", "text"),
    [
        (b"GET /other HTTP/1.1", b"404 Not Found", b"there are /hello /broken"),
        (b"POST /hello HTTP/1.1", b"405 Method Not Allowed", b"Allow: GET, HEAD"),
        (b"hello", b"400 Bad Request", b""),
        (b"GET /hello SPDY/3", b"400 Bad Request", b""),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", b"431 Request Header", b""),
    ],
)
async def test_bad_requests(port: int, request_line: bytes, status: bytes, text: bytes) -> None:
    answer = await exchange(port, request_line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert text in answer


async def test_a_page_that_fails(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await exchange(port, b"GET /broken HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"on purpose" not in answer
    assert "page /broken failed" in caplog.text


async def test_a_client_that_says_nothing_is_left(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "REQUEST_TIMEOUT", 0.01)
    assert await exchange(port, b"GET /hello") == b""


async def test_too_many_at_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_CONNECTIONS", 0)
    assert await exchange(port, b"GET /hello HTTP/1.1\r\n\r\n") == b""


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Path]:
    """A socket with an action that repeats what it is told."""

    def repeat(body: bytes) -> Page:
        if body == b"broken":
            raise RuntimeError("on purpose")
        return Page(body)

    path = tmp_path / "control.sock"
    server = Pages({}, {"/repeat": repeat})
    await server.listen_on(path)
    yield path
    await server.close()


async def told(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"POST /repeat HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", b"200 OK", b"abc"),
        (b"POST /repeat HTTP/1.1\r\nContent-Length: 6\r\n\r\nbroken", b"500 Internal", b""),
        (b"POST /repeat HTTP/1.1\r\n\r\n", b"200 OK", b"\r\n\r\n"),
        (b"POST /repeat HTTP/1.1\r\nContent-Length: 8193\r\n\r\n", b"413 Request Ent", b""),
        (b"POST /other HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405 Method", b""),
        (b"GET /repeat HTTP/1.1\r\n\r\n", b"404 Not Found", b""),
    ],
)
async def test_something_is_done(
    control: Path, request_: bytes, status: bytes, body: bytes
) -> None:
    answer = await told(control, request_)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(body)


async def test_only_its_owner_may_use_a_socket(control: Path) -> None:
    assert stat.S_IMODE(os.stat(control).st_mode) == 0o600


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = Pages({})
    await server.listen_on(path)
    assert (await told(path, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
    await server.close()
