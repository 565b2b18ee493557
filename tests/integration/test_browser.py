"""A browser nobody patched: Debian's Chromium subscribes over WebTransport."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from fastrelay.moqt.drafts import DRAFT_22
from fastrelay.moqt.names import FullTrackName
from integration.harness import Certificate, RelayProcess, connect

PAGE = Path(__file__).parent / "browser" / "page.html"
NAME = FullTrackName((b"test", b"browser"), b"track")
GROUPS = 3
SIZE = 3000
INTERVAL = 0.05
"""Seconds between two groups."""
TIMEOUT = 60.0


def payload(group: int) -> bytes:
    """More than a packet of bytes that say where they are from."""
    return bytes([group % 256]) * SIZE


class PageServer(http.server.ThreadingHTTPServer):
    """Gives the page out and takes its findings, which ``seen`` hands to the test."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: queue.Queue[dict[str, Any]] = queue.Queue()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        self._answer(200 if self.path.startswith("/page.html?") else 404, PAGE.read_bytes())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._answer(200, b"")
        self.server.seen.put(json.loads(body))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def page_server() -> Iterator[PageServer]:
    with PageServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium(url: str, profile: Path) -> Iterator[None]:
    """A headless browser at ``url``; it and all its children end with the block."""
    binary = shutil.which("chromium")
    assert binary, "Debian's chromium is missing; scripts/setup.sh test installs it"
    command = [
        *(binary, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={profile}", url),
    ]
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Relay(Protocol):
    """What is needed of one, wherever it runs."""

    def url(self, *, webtransport: bool = False) -> str: ...


async def watch_in_chromium(
    relay: Relay,
    certificate: Certificate,
    directory: Path,
    groups: int,
    meanwhile: Callable[[int], None] = lambda _group: None,
) -> None:
    """Publish until a browser has got so many groups, each a stream, and a datagram; check them.

    :param meanwhile: called behind each group that was published.
    """
    query = urllib.parse.urlencode(
        {
            "url": relay.url(webtransport=True),
            "sha256": certificate.sha256.hex(),
            "streams": groups,
        }
    )
    async with connect(
        relay.url(), drafts=(DRAFT_22,), options=certificate.client_options
    ) as publisher:
        track = publisher.add_track(NAME)
        await publisher.publish_namespace(NAME.namespace)
        with page_server() as server:
            page = f"http://127.0.0.1:{server.server_port}/page.html?{query}"
            with chromium(page, directory / "profile"):
                async with asyncio.timeout(TIMEOUT):
                    await track.wait_subscribed()
                seen = asyncio.create_task(asyncio.to_thread(server.seen.get, True, TIMEOUT))
                for group in itertools.count():
                    if seen.done():
                        break
                    subgroup = track.open_subgroup(group)
                    subgroup.write(payload(group))
                    subgroup.close()
                    # Whether a datagram arrives is up to the network; sooner or later one does.
                    track.send_datagram(group, 1, b"datagram")
                    meanwhile(group)
                    await asyncio.sleep(INTERVAL)
                found = await seen

    assert "error" not in found, found["error"]
    assert found["protocol"] == "moqt-18"
    assert found["answer"].startswith("04"), "SUBSCRIBE_OK"
    assert len(set(found["streams"])) == groups
    for stream in map(bytes.fromhex, found["streams"]):
        assert stream.endswith(payload(stream[-1]))
        assert len(stream) < SIZE + 16, "a header, and nothing else"
    (datagram,) = found["datagrams"]
    assert bytes.fromhex(datagram).endswith(b"datagram")


async def test_chromium_sees_streams_and_datagrams_byte_for_byte(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    await watch_in_chromium(relay, certificate, tmp_path, GROUPS)
