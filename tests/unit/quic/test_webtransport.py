"""The WebTransport server as a browser finds it: aioquic's own HTTP/3 client does the asking."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from fastrelay.quic.http import (
    CLOSE_SESSION,
    DRAIN_SESSION,
    code_to_http,
    encode_capsule,
    encode_close,
)
from fastrelay.quic.options import QuicOptions
from unit.quic.peers import Acceptor, Recorder, serving

Headers = dict[bytes, bytes]
CONNECT: Headers = {
    b":method": b"CONNECT",
    b":protocol": b"webtransport",
    b":scheme": b"https",
    b":authority": b"relay.example",
    b":path": b"/any/path",
    b"sec-webtransport-http3-draft02": b"1",
    b"wt-available-protocols": b'"moq-lite-03", "moqt-16", "moqt-18"',
}


class Browser(QuicConnectionProtocol):
    """Takes notes of everything; asks for nothing by itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http: H3Connection | None = None
        self.responses: dict[int, Headers] = {}
        self.bodies: dict[int, bytes] = {}
        self.raw: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.datagrams: list[bytes] = []
        self.end: ConnectionTerminated | None = None
        self._noted = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic, enable_webtransport=True)
        elif isinstance(event, StreamDataReceived):
            self.raw[event.stream_id] = self.raw.get(event.stream_id, b"") + event.data
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, StopSendingReceived):
            self.stops[event.stream_id] = event.error_code
        elif isinstance(event, DatagramFrameReceived):
            self.datagrams.append(event.data)
        elif isinstance(event, ConnectionTerminated):
            self.end = event
        for answer in self.http.handle_event(event) if self.http else ():
            if isinstance(answer, HeadersReceived):
                self.responses[answer.stream_id] = dict(answer.headers)
            elif isinstance(answer, DataReceived):
                before = self.bodies.get(answer.stream_id, b"")
                self.bodies[answer.stream_id] = before + answer.data
        self._noted.set()

    def request(self, headers: Headers, *, end: bool = False) -> int:
        assert self.http is not None
        stream_id = self._quic.get_next_available_stream_id()
        self.http.send_headers(stream_id, list(headers.items()), end_stream=end)
        self.transmit()
        return stream_id

    def write(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end_stream=end)
        self.transmit()

    def open(self, prefix: bytes, *, unidirectional: bool = True) -> int:
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self.write(stream_id, prefix)
        return stream_id

    async def wait(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._noted.clear()
                await self._noted.wait()


@contextlib.asynccontextmanager
async def browsing(options: QuicOptions) -> AsyncIterator[tuple[Browser, Acceptor]]:
    accept = Acceptor()
    async with serving(options, accept) as endpoint:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], max_datagram_frame_size=65_535, verify_mode=ssl.CERT_NONE
        )
        engine = QuicConnection(configuration=configuration)
        transport, browser = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Browser(engine), local_addr=("127.0.0.1", 0)
        )
        browser.connect(endpoint.address)
        await browser.wait_connected()
        yield browser, accept
        browser.close()
        transport.close()


@contextlib.asynccontextmanager
async def in_session(options: QuicOptions) -> AsyncIterator[tuple[Browser, Recorder, int]]:
    async with browsing(options) as (browser, accept):
        stream_id = browser.request(CONNECT)
        await browser.wait(lambda: stream_id in browser.responses)
        assert browser.responses[stream_id][b":status"] == b"200"
        yield browser, accept.sessions.get_nowait(), stream_id


@pytest.mark.parametrize("protocol", [b"webtransport", b"webtransport-h3"])
async def test_a_session_in_the_relays_order_of_drafts(
    options: QuicOptions, protocol: bytes
) -> None:
    async with browsing(options) as (browser, accept):
        stream_id = browser.request(CONNECT | {b":protocol": protocol})
        await browser.wait(lambda: stream_id in browser.responses)
        answer = browser.responses[stream_id]
        assert answer[b":status"] == b"200"
        assert answer[b"wt-protocol"] == b'"moqt-18"'
        session = accept.sessions.get_nowait()
        assert session.negotiated.draft.number == 18
        assert session.negotiated.path == "/any/path"
        assert session.negotiated.authority == "relay.example"
        assert browser.http is not None
        settings = browser.http.received_settings
        assert settings is not None
        assert (settings[0x08], settings[0x33], settings[0x2B603742]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "status", "body"),
    [
        ({b"wt-available-protocols": b'"moq-lite-03"'}, b"400", b'"moqt-18", "moqt-22"'),
        ({b"wt-available-protocols": b""}, b"400", b"moqt-18"),
        ({b":protocol": b"websocket"}, b"404", b"WebTransport"),
    ],
)
async def test_other_connects_are_refused(
    options: QuicOptions, change: Headers, status: bytes, body: bytes
) -> None:
    async with browsing(options) as (browser, accept):
        stream_id = browser.request(CONNECT | change)
        await browser.wait(lambda: body in browser.bodies.get(stream_id, b""))
        assert browser.responses[stream_id][b":status"] == status
        assert accept.sessions.empty()
        again = browser.request(CONNECT)
        await browser.wait(lambda: again in browser.responses)
        assert browser.responses[again][b":status"] == b"200"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [(b"GET", b"/", b"200"), (b"GET", b"/other", b"404"), (b"POST", b"/", b"404")],
)
async def test_ordinary_requests(
    options: QuicOptions, method: bytes, path: bytes, status: bytes
) -> None:
    async with browsing(options) as (browser, _):
        headers = {
            b":method": method,
            b":scheme": b"https",
            b":authority": b"relay.example",
            b":path": path,
        }
        stream_id = browser.request(headers, end=True)
        await browser.wait(lambda: browser.bodies.get(stream_id))
        assert browser.responses[stream_id][b":status"] == status


async def test_one_session_a_connection(options: QuicOptions) -> None:
    async with in_session(options) as (browser, _, _):
        second = browser.request(CONNECT)
        await browser.wait(lambda: second in browser.responses)
        assert browser.responses[second][b":status"] == b"429"


async def test_stream_prefixes_in_pieces(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        for kind, unidirectional in ((0x54, True), (0x41, False)):
            prefix = encode_uint_var(kind) + encode_uint_var(session_id)
            stream_id = browser.open(prefix[:1], unidirectional=unidirectional)
            await browser.ping()
            for position in range(1, len(prefix)):
                browser.write(stream_id, prefix[position : position + 1])
                await browser.ping()
            assert stream_id not in session.streams
            browser.write(stream_id, b"data", end=True)
            await session.wait(lambda s=stream_id: s in session.finished)
            assert session.streams[stream_id] == b"data"
            if not unidirectional:
                session.transport.send(stream_id, b"answer", fin=True)
                await browser.wait(lambda s=stream_id: s in browser.raw)
                assert browser.raw[stream_id] == b"answer"


async def test_streams_and_datagrams_of_the_server_carry_the_session(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        one = session.transport.open_stream(unidirectional=True)
        both = session.transport.open_stream(unidirectional=False)
        session.transport.send(one, b"data")
        session.transport.send(both, b"question")
        session.transport.send_datagram(b"datagram")
        await browser.wait(lambda: {one, both} <= browser.raw.keys() and browser.datagrams)
        session_bytes = encode_uint_var(session_id)
        assert browser.raw[one] == encode_uint_var(0x54) + session_bytes + b"data"
        assert browser.raw[both] == encode_uint_var(0x41) + session_bytes + b"question"
        assert browser.datagrams == [encode_uint_var(session_id // 4) + b"datagram"]
        browser.write(both, b"answer", end=True)  # no prefix on the way back
        await session.wait(lambda: both in session.finished)
        assert session.streams[both] == b"answer"


async def test_datagrams_of_other_sessions_are_dropped(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        for quarter in (session_id // 4 + 1, session_id // 4):
            browser._quic.send_datagram_frame(encode_uint_var(quarter) + b"x%d" % quarter)
        browser.transmit()
        await session.wait(lambda: session.datagrams)
        assert session.datagrams == [b"x%d" % (session_id // 4)]


async def test_streams_may_come_before_their_session(options: QuicOptions) -> None:
    async with browsing(options) as (browser, accept):
        request = browser._quic.get_next_available_stream_id()
        prefix = encode_uint_var(0x54) + encode_uint_var(request)
        early = browser.open(prefix + b"early")
        await browser.ping()
        browser.write(early, b" bird", end=True)
        await browser.ping()
        assert browser.request(CONNECT) == request
        await browser.wait(lambda: request in browser.responses)
        session = accept.sessions.get_nowait()
        await session.wait(lambda: early in session.finished)
        assert session.streams[early] == b"early bird"


async def test_too_many_early_streams_are_rejected(options: QuicOptions) -> None:
    async with browsing(options) as (browser, _):
        prefix = encode_uint_var(0x54) + encode_uint_var(0)
        ids = [browser.open(prefix + b"x") for _ in range(70)]
        await browser.wait(lambda: len(browser.stops) == 6)
        assert browser.stops == dict.fromkeys(ids[64:], 0x3994BD84)
        large = browser.open(prefix + bytes(70_000))
        await browser.wait(lambda: large in browser.stops)


async def test_streams_of_other_sessions_are_refused(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        for kind, unidirectional in ((0x54, True), (0x41, False)):
            prefix = encode_uint_var(kind) + encode_uint_var(session_id + 4)
            stream_id = browser.open(prefix + b"x", unidirectional=unidirectional)
            await browser.wait(lambda s=stream_id: s in browser.stops)
            assert browser.stops[stream_id] == 0x170D7B68
            assert stream_id not in session.streams


async def test_codes_in_the_space_of_http(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        one = session.transport.open_stream(unidirectional=True)
        session.transport.send(one, b"data")
        await browser.wait(lambda: one in browser.raw)
        session.transport.reset(one, 0x12)
        await browser.wait(lambda: one in browser.resets)
        assert browser.resets[one] == code_to_http(0x12)

        theirs = browser.open(encode_uint_var(0x54) + encode_uint_var(session_id) + b"data")
        await session.wait(lambda: theirs in session.streams)
        browser._quic.reset_stream(theirs, code_to_http(0x55))
        browser.transmit()
        await session.wait(lambda: theirs in session.resets)
        assert session.resets[theirs] == 0x55

        two = session.transport.open_stream(unidirectional=True)
        session.transport.send(two, b"data")
        await browser.wait(lambda: two in browser.raw)
        browser._quic.stop_stream(two, 0x10C)  # not a WebTransport code
        browser.transmit()
        await session.wait(lambda: two in session.stops)
        assert session.stops[two] == 1


async def test_the_peer_closes_the_session(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        assert browser.http is not None
        browser.http.send_data(session_id, encode_capsule(DRAIN_SESSION), False)
        browser.http.send_data(session_id, encode_capsule(0x999, b"unknown"), False)
        browser.http.send_data(session_id, encode_close(7, "done"), True)
        browser.transmit()
        await session.wait(lambda: session.end)
        assert session.end == (7, "done")
        await browser.wait(lambda: browser.end)


@pytest.mark.parametrize("how", ["fin", "reset", "connection"])
async def test_the_peer_just_leaves(options: QuicOptions, how: str) -> None:
    async with in_session(options) as (browser, session, session_id):
        if how == "fin":
            browser.write(session_id, b"", end=True)
        elif how == "reset":
            browser._quic.reset_stream(session_id, 0x10C)
            browser.transmit()
        else:
            browser._quic.close(error_code=0x100)
            browser.transmit()
        await session.wait(lambda: session.end)
        assert session.end is not None
        assert session.end[0] == (1 if how == "reset" else 0)


async def test_the_session_is_closed_with_a_capsule(
    options: QuicOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrelay.quic.connection._CLOSE_DELAY", 0.05)
    async with in_session(options) as (browser, session, session_id):
        session.transport.drain()  # type: ignore[attr-defined]
        session.transport.close(3, "broken rules")
        assert session.end == (3, "broken rules")
        expected = encode_capsule(DRAIN_SESSION) + encode_close(3, "broken rules")
        await browser.wait(lambda: browser.bodies.get(session_id) == expected)
        await browser.wait(lambda: browser.end)
        assert browser.end is not None
        assert browser.end.error_code == 0x100


async def test_a_malformed_capsule_ends_the_connection(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, session_id):
        assert browser.http is not None
        browser.http.send_data(session_id, encode_capsule(CLOSE_SESSION, b"12"), False)
        browser.transmit()
        await browser.wait(lambda: browser.end)
        assert browser.end is not None
        assert browser.end.error_code == 0x10E
        assert session.end is not None


async def test_broken_http_ends_the_connection(options: QuicOptions) -> None:
    async with in_session(options) as (browser, session, _):
        browser.open(encode_uint_var(0))  # a second control stream
        await browser.wait(lambda: browser.end)
        assert browser.end is not None
        assert browser.end.error_code == 0x103
        assert session.end is not None
        assert session.end[0] == 1
