"""MoQT on WebTransport over HTTP/3 (draft-ietf-webtrans-http3), one session a connection.

aioquic's H3Connection handles settings, QPACK and requests. Streams and datagrams of the
session never pass through it: once a stream's prefix is read (or written), its bytes go
straight between QUIC and the receiver.
"""

from __future__ import annotations

from typing import Protocol

from aioquic.h3.connection import ErrorCode, Setting
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic import events

from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.varint import IncompleteError, decode_quic, encode_quic
from fastrelay.quic.aioquic_private import Http3
from fastrelay.quic.http import (
    CLOSE_SESSION,
    DRAIN_SESSION,
    CapsuleReader,
    code_from_http,
    code_to_http,
    decode_close,
    encode_capsule,
    encode_close,
    format_list,
    parse_list,
)
from fastrelay.quic.raw import Carrier, QuicTransport, describe
from fastrelay.quic.url import Target

_PROTOCOLS = ("webtransport", "webtransport-h3")
_UNIDIRECTIONAL = 0x54
_BIDIRECTIONAL = 0x41
_BUFFERED_STREAM_REJECTED = 0x3994BD84
_SESSION_GONE = 0x170D7B68
_MAX_EARLY_STREAMS = 64
_MAX_EARLY_BYTES = 65_536


class SessionCarrier(Carrier, Protocol):
    """The connection, for a transport that finds its session by itself."""

    def session_ready(
        self, transport: QuicTransport, draft: Draft, path: str, authority: str
    ) -> None: ...

    def session_failed(self, reason: str) -> None: ...

    def close_later(self, code: int) -> None:
        """Close the connection when the peer had the time to do it."""


class WebTransport(QuicTransport):
    """The transport of the connection's one WebTransport session."""

    is_webtransport = True
    no_error = ErrorCode.H3_NO_ERROR

    def __init__(
        self, carrier: SessionCarrier, drafts: tuple[Draft, ...], target: Target | None
    ) -> None:
        super().__init__(carrier)
        self._owner = carrier
        self._drafts = drafts
        self._target = target
        self._http = Http3(self._engine)
        self._http_streams = set(self._http.local_streams)
        self._session_id: int | None = None
        self._open = False
        self._ended = False
        self._capsules = CapsuleReader()
        self._bidirectional_prefix = b""
        self._established: set[int] = set()
        self._early: dict[int, events.StreamDataReceived] = {}
        self._early_bytes = 0

    # -- moqt.transport.Transport

    def open_stream(self, *, unidirectional: bool) -> int:
        stream_id = self._engine.open_stream(unidirectional=unidirectional)
        prefix = self.stream_prefix if unidirectional else self._bidirectional_prefix
        self._engine.write(stream_id, prefix, False)
        return stream_id

    def send_datagram(self, data: bytes) -> bool:
        return super().send_datagram(self.datagram_prefix + data)

    @property
    def max_datagram_size(self) -> int:
        return max(0, self._engine.max_datagram_payload - len(self.datagram_prefix))

    def close(self, code: int, reason: str) -> None:
        """Say why in a capsule; the peer answers it by closing the connection."""
        if self._ended:
            return
        self._ended = True
        if self._open and self._session_id is not None:
            self._http.send_data(self._session_id, encode_close(code, reason), end_stream=True)
            self._owner.close_later(ErrorCode.H3_NO_ERROR)
        else:
            self._engine.close(error_code=ErrorCode.H3_NO_ERROR, reason_phrase=reason)
        self._carrier.touch()
        self._closed(code, reason)

    def drain(self) -> None:
        """Ask the peer to finish: DRAIN_WEBTRANSPORT_SESSION."""
        if self._open and not self._ended and self._session_id is not None:
            self._http.send_data(self._session_id, encode_capsule(DRAIN_SESSION), False)
            self._carrier.touch()

    # -- from the connection

    def terminated(self, event: events.ConnectionTerminated) -> None:
        self._ended = True
        if event.frame_type is not None:
            self._closed(SessionError.INTERNAL_ERROR, describe(event))
        elif event.error_code == ErrorCode.H3_NO_ERROR:
            self._closed(SessionError.NO_ERROR, event.reason_phrase)
        else:
            self._closed(self._code_from_wire(event.error_code), event.reason_phrase)

    def _on_stream_data(self, event: events.StreamDataReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self._established:
            if event.end_stream:
                self._established.discard(stream_id)
            super()._on_stream_data(event)
        elif stream_id in self._http_streams:
            self._feed(event)
        elif stream_id in self._stopped or bool(stream_id & 1) != self.is_client:
            super()._on_stream_data(event)  # refused, or the answer on a stream of ours
        else:
            self._begin_stream(event)

    def _on_stream_reset(self, event: events.StreamReset) -> None:
        stream_id = event.stream_id
        if stream_id in self._http_streams:
            self._feed(event)
            if stream_id == self._session_id:
                self._session_ended(SessionError.INTERNAL_ERROR, "the session stream was reset")
        elif self._early.pop(stream_id, None) is None:
            self._established.discard(stream_id)
            super()._on_stream_reset(event)

    def _on_stop_sending(self, event: events.StopSendingReceived) -> None:
        if event.stream_id in self._http_streams:
            self._feed(event)
        else:
            super()._on_stop_sending(event)

    def _on_datagram(self, event: events.DatagramFrameReceived) -> None:
        prefix = self.datagram_prefix
        if self._open and event.data.startswith(prefix):
            self._deliver_datagram(event, event.data[len(prefix) :])

    def _code_to_wire(self, code: int) -> int:
        return code_to_http(code)

    def _code_from_wire(self, code: int) -> int:
        known = code_from_http(code)
        return SessionError.INTERNAL_ERROR if known is None else known

    # -- streams of the peer

    def _begin_stream(self, event: events.StreamDataReceived) -> None:
        """Read the prefix, which says whether the stream is the session's or HTTP's."""
        early = self._early.pop(event.stream_id, None)
        if early is not None:
            self._early_bytes -= len(early.data)
            event.data = early.data + event.data
        wanted = _UNIDIRECTIONAL if event.stream_id & 2 else _BIDIRECTIONAL
        try:
            kind, position = decode_quic(event.data, 0)
            if kind != wanted:
                self._http_streams.add(event.stream_id)
                self._feed(event)
                return
            session_id, position = decode_quic(event.data, position)
        except IncompleteError:
            if not event.end_stream:
                self._keep(event)
            return
        if self._open and session_id == self._session_id:
            event.data = event.data[position:]
            if not event.end_stream:
                self._established.add(event.stream_id)
            if event.data or event.end_stream:
                super()._on_stream_data(event)
        elif self._open or self._ended or session_id % 4:
            self._refuse(event, _SESSION_GONE)
        else:
            self._keep(event)

    def _keep(self, event: events.StreamDataReceived) -> None:
        """Hold what cannot be placed yet, within limits (section 4.6 of the draft)."""
        size = len(event.data)
        if len(self._early) >= _MAX_EARLY_STREAMS or self._early_bytes + size > _MAX_EARLY_BYTES:
            self._refuse(event, _BUFFERED_STREAM_REJECTED)
            return
        self._early[event.stream_id] = event
        self._early_bytes += size

    def _refuse(self, event: events.StreamDataReceived, code: int) -> None:
        stream_id = event.stream_id
        if self._engine.is_receiving(stream_id):
            self._engine.stop_stream(stream_id, code)
            self._stopped.add(stream_id)
        if not stream_id & 2:
            self._engine.reset_stream(stream_id, code)
        self._carrier.touch()

    # -- HTTP

    def _feed(self, event: events.QuicEvent) -> None:
        for http_event in self._http.handle_event(event):
            self._on_http(http_event)
        if self._target is not None and self._session_id is None:
            self._request_session(self._target)
        self._carrier.touch()

    def _on_http(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if self._target is not None:
                self._on_response(event)
            else:
                self._on_request(event)
        elif isinstance(event, DataReceived) and event.stream_id == self._session_id:
            self._on_capsules(event)

    def _on_capsules(self, event: DataReceived) -> None:
        if not self._open:
            return
        try:
            for kind, content in self._capsules.feed(event.data):
                if kind == CLOSE_SESSION:
                    self._session_ended(*decode_close(content))
                    return
        except ValueError as error:
            self._engine.close(
                error_code=ErrorCode.H3_MESSAGE_ERROR, frame_type=None, reason_phrase=str(error)
            )
            return
        if event.stream_ended:
            self._session_ended(SessionError.NO_ERROR, "")

    def _session_ended(self, code: int, reason: str) -> None:
        """The peer ended the session; without it the connection has no purpose."""
        if not self._ended:
            self._ended = True
            self._closed(code, reason)
        self._engine.close(error_code=ErrorCode.H3_NO_ERROR, reason_phrase=reason)
        self._carrier.touch()

    def _session_opened(self, draft: Draft, path: str, authority: str) -> None:
        assert self._session_id is not None
        self._open = True
        session = encode_quic(self._session_id)
        self._bidirectional_prefix = encode_quic(_BIDIRECTIONAL) + session
        self.stream_prefix = encode_quic(_UNIDIRECTIONAL) + session
        self.datagram_prefix = encode_quic(self._session_id // 4)
        self._owner.session_ready(self, draft, path, authority)
        early, self._early, self._early_bytes = self._early, {}, 0
        for event in early.values():
            self._begin_stream(event)

    # -- server

    def _on_request(self, event: HeadersReceived) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        if headers[":method"] == "CONNECT" and headers.get(":protocol") in _PROTOCOLS:
            self._on_connect(event.stream_id, headers)
        elif headers[":method"] in ("GET", "HEAD") and headers.get(":path") == "/":
            self._answer(event.stream_id, 200, "A MoQT relay. Connect with WebTransport.\n")
        else:
            self._answer(event.stream_id, 404, "Only WebTransport sessions are served here.\n")

    def _on_connect(self, stream_id: int, headers: dict[str, str]) -> None:
        if self._session_id is not None:
            self._answer(stream_id, 429, "One session a connection.\n")
            return
        offered = parse_list(headers.get("wt-available-protocols", ""))
        draft = next((draft for draft in self._drafts if draft.alpn in offered), None)
        if draft is None:
            served = format_list([draft.alpn for draft in self._drafts])
            self._answer(stream_id, 400, f"wt-available-protocols must name one of {served}.\n")
            return
        self._session_id = stream_id
        self._http.send_headers(
            stream_id,
            [
                (b":status", b"200"),
                (b"sec-webtransport-http3-draft", b"draft02"),
                (b"wt-protocol", format_list([draft.alpn]).encode()),
            ],
        )
        self._session_opened(draft, headers.get(":path", ""), headers.get(":authority", ""))

    def _answer(self, stream_id: int, status: int, body: str) -> None:
        content = body.encode()
        self._http.send_headers(
            stream_id,
            [
                (b":status", str(status).encode()),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(content)).encode()),
            ],
        )
        self._http.send_data(stream_id, content, end_stream=True)

    # -- client

    def _request_session(self, target: Target) -> None:
        settings = self._http.received_settings
        if settings is None:
            return
        if not settings.get(Setting.ENABLE_CONNECT_PROTOCOL) and not settings.get(
            Setting.ENABLE_WEBTRANSPORT
        ):
            self._session_id = -1
            self._owner.session_failed(f"{target}: the server does not speak WebTransport")
            return
        self._session_id = self._engine.get_next_available_stream_id()
        self._http_streams.add(self._session_id)
        self._http.send_headers(
            self._session_id,
            [
                (b":method", b"CONNECT"),
                (b":protocol", b"webtransport"),
                (b":scheme", b"https"),
                (b":authority", target.authority.encode()),
                (b":path", target.path.encode()),
                (b"sec-webtransport-http3-draft02", b"1"),
                (
                    b"wt-available-protocols",
                    format_list([draft.alpn for draft in self._drafts]).encode(),
                ),
            ],
        )

    def _on_response(self, event: HeadersReceived) -> None:
        if event.stream_id != self._session_id or self._open or self._target is None:
            return
        headers = dict(event.headers)
        status = headers[b":status"].decode()
        if not status.startswith("2"):
            if not status.startswith("1"):
                self._owner.session_failed(f"{self._target}: HTTP status {status}")
            return
        chosen = parse_list(headers.get(b"wt-protocol", b"").decode("latin-1"))
        drafts = {draft.alpn: draft for draft in self._drafts}
        draft = drafts.get(chosen[0]) if chosen else None
        if draft is None:
            self._owner.session_failed(f"{self._target}: the server chose no draft we offered")
            return
        self._session_opened(draft, self._target.path, self._target.authority)
