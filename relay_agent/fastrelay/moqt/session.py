"""A MoQT session, without I/O: drafts 18, 22 and 16, client and server, both roles.

A transport calls the methods of :class:`~fastrelay.moqt.transport.Receiver`; what they mean
is passed to ``on_event`` in order. ``on_event`` may call back into the session. What the peer
does wrong never raises: the session closes the transport with the draft's code and emits
``SessionClosed``, its last event. What the owner does wrong raises ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.moqt.codes import (
    MalformedTrackError,
    MoqtError,
    SessionError,
    StreamError,
)
from fastrelay.moqt.context import Context, is_from_client, is_unidirectional
from fastrelay.moqt.controllink import ControlLink
from fastrelay.moqt.datagrams import decode_datagram
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.early import EarlyStreams
from fastrelay.moqt.events import (
    DataStreamStopped,
    Event,
    GoAwayReceived,
    SessionClosed,
    SetupReceived,
    SubgroupHeader,
    TrackMalformed,
    Writable,
)
from fastrelay.moqt.exchanges import Exchanges
from fastrelay.moqt.incoming import Incoming
from fastrelay.moqt.limits import DEFAULT_LIMITS, SessionLimits
from fastrelay.moqt.link import Link
from fastrelay.moqt.messages import GoAway, Setup, Token
from fastrelay.moqt.objects import PADDING_DATAGRAM, encode_subgroup_header
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requester import Requester, check_tokens
from fastrelay.moqt.requests import RequestState, RequestTable
from fastrelay.moqt.responder import Responder
from fastrelay.moqt.streamlink import StreamLink
from fastrelay.moqt.tokens import MalformedTokenError
from fastrelay.moqt.transport import Transport
from fastrelay.moqt.varint import LEADING_ONES

_GOAWAY = "goaway"
_SETUP = "setup"

_PADDING = LEADING_ONES.encode(PADDING_DATAGRAM)


def _ignore(event: Event) -> None:
    """What happens after the end of a session is no event."""


class Session(Exchanges):
    """One session over one transport.

    Requests are told apart by their ids, whoever made them. A request is over after an error
    as its answer, ``RequestCancelled``, ``RequestEnded``, PUBLISH_DONE in either direction,
    the answer to TRACK_STATUS, :meth:`cancel`, :meth:`reject`; a FETCH also when it has been
    answered and its data stream has ended. Then its id must not be used any more.

    By itself the session refuses requests that break rules only it can check: a second
    subscription to a track, overlapping prefixes, a joining fetch without its subscription,
    too many ranges in filters, a token twice, too many requests, any request after
    :meth:`goaway`. Objects of track aliases that nobody announced are passed on: the control
    message may still be on its way, so the owner keeps, stops or drops them.

    Codes of resets and stops are draft 18's numbers (``StreamError``) in every draft.
    After the end of the session every call does nothing.

    :param path, authority: of the URI, for a client over raw QUIC (section 10.3.1).
    :param tokens: authorization for SETUP.
    :raises ValueError: tokens that no SETUP may hold.
    """

    def __init__(
        self,
        transport: Transport,
        draft: Draft,
        on_event: Callable[[Event], None],
        *,
        limits: SessionLimits = DEFAULT_LIMITS,
        implementation: str = "fastrelay",
        path: str | None = None,
        authority: str | None = None,
        tokens: tuple[Token, ...] = (),
    ) -> None:
        check_tokens(tokens)
        self.transport = transport
        self.draft = draft
        self.peer_setup: Setup | None = None
        """The peer's SETUP, once it has arrived."""
        raw_client = transport.is_client and not transport.is_webtransport
        self._setup = Setup(
            path=path if raw_client else None,
            authority=authority if raw_client else None,
            implementation=implementation,
            tokens=tokens,
            max_auth_token_cache_size=limits.token_cache,
            max_filter_ranges=limits.filter_ranges,
            max_request_updates=limits.request_updates,
        )
        self._context = Context(transport, draft, limits, on_event)
        table = RequestTable(self._context.deadlines)
        self._table = table
        early = EarlyStreams(self._context, self._accept)
        self._early = early
        self._link: Link = (
            StreamLink(self._context, early, self._on_setup, self._on_goaway)
            if draft.request_streams
            else ControlLink(self._context, early, table, self._on_setup, self._on_goaway)
        )
        self._requester = Requester(self._context, table, self._link)
        self._responder = Responder(self._context, table, self._link)
        self._link.requester = self._requester
        self._link.responder = self._responder
        self._incoming = Incoming(self._context, early, self._requester, self._link.control)
        self._goaway_received = False

    @property
    def is_closed(self) -> bool:
        return self._context.closed

    # Life

    def start(self) -> None:
        """Send our SETUP; call it once, before anything else."""
        limits = self._context.limits
        self._link.start(self._setup)
        self._context.deadlines.start(
            _SETUP, limits.setup_timeout, SessionError.CONTROL_MESSAGE_TIMEOUT, "no SETUP came"
        )

    def goaway(self, uri: str = "", timeout: int = 0, request_id: int | None = None) -> None:
        """Ask the peer to leave, or to move one request, within ``timeout`` milliseconds (0:
        as soon as it can). The session refuses new requests from now on, and closes with
        GOAWAY_TIMEOUT when the time is over.

        :raises ValueError: a client gives a URI; the draft has no GOAWAY for one request; there
            is no such request.
        """
        if self._context.closed:
            return
        if uri and self.transport.is_client:
            raise ValueError("a client cannot send its server elsewhere")
        if request_id is not None:
            state = self._table.get(request_id)
            if state is None:
                raise ValueError(f"there is no request {request_id}")
            self._link.goaway(GoAway(uri, timeout), state)
            return
        if self._responder.going_away:
            return
        self._link.goaway(GoAway(uri, timeout, self._responder.used_ids.next), None)
        self._responder.going_away = True
        if timeout:
            self._context.deadlines.start(
                _GOAWAY, timeout / 1000, SessionError.GOAWAY_TIMEOUT, "the peer did not leave"
            )

    def expire(self, now: float) -> None:
        """Close the session if the peer owes something for too long. Call it about once a
        second.

        :param now: seconds of any monotonic clock.
        """
        deadline = self._context.deadlines.expired(now)
        if deadline and not self._context.closed:
            self.close(deadline.code, deadline.reason)
        unread = self._context.limits.unread_bytes
        if unread is not None and self.transport.backlog > unread:
            self.close(SessionError.CONTROL_MESSAGE_TIMEOUT, "the peer does not read")

    def close(self, code: int = SessionError.NO_ERROR, reason: str = "") -> None:
        """End the session."""
        if not self._context.closed:
            self.transport.close(code, reason)
            self.closed(code, reason)

    # Objects of ours

    def open_subgroup(self, header: SubgroupHeader) -> int:
        """A new stream that begins with ``header``: ``header.raw`` as it is, if that is not
        empty, else written from the fields."""
        stream_id = self.transport.open_stream(unidirectional=True)
        self.transport.send(stream_id, header.raw or encode_subgroup_header(header, self.draft))
        return stream_id

    def open_fetch(self, request_id: int) -> int:
        """A new stream for the objects of a FETCH of the peer, or of a fill (draft 22: the id
        of the request or update that asked for it)."""
        return self._responder.open_fetch(request_id)

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        """Bytes for a stream of ours."""
        self.transport.send(stream_id, data, fin)
        if fin:
            self._responder.stream_ended(stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        """Give up a stream of ours."""
        self._context.reset(stream_id, code)
        self._responder.stream_ended(stream_id)

    def stop(self, stream_id: int, code: int) -> None:
        """No longer read a data stream of the peer; it brings no more events."""
        self._context.stop(stream_id, code)

    def send_datagram(self, data: bytes) -> bool:
        """A whole OBJECT_DATAGRAM; False if it is too large for the path."""
        return self.transport.send_datagram(data)

    # Receiver

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        context = self._context
        handler = (context.uni if stream_id & 2 else context.bidi).get(stream_id)
        try:
            if handler is not None:
                handler.receive(data, fin)
            elif not context.closed:
                self._accept(stream_id, data, fin)
        except MoqtError as error:
            self.close(error.code, error.reason)

    def _accept(self, stream_id: int, data: bytes, fin: bool) -> None:
        """The first bytes of a stream of the peer. A stream of ours is over for us already."""
        if is_from_client(stream_id) is self.transport.is_client:
            return
        if is_unidirectional(stream_id):
            self._incoming.open(stream_id, data, fin)
        else:
            self._link.open(stream_id, data, fin)

    def stream_reset(self, stream_id: int, code: int) -> None:
        context = self._context
        handler = (context.uni if is_unidirectional(stream_id) else context.bidi).get(stream_id)
        try:
            if handler is not None:
                handler.reset(self.draft.stream_error_from_wire(code))
            elif not context.closed and not is_unidirectional(stream_id):
                self._unread(stream_id)
        except MoqtError as error:
            self.close(error.code, error.reason)

    def _unread(self, stream_id: int) -> None:
        """A request that was reset before any of it arrived."""
        if is_from_client(stream_id) is not self.transport.is_client:
            self._context.reset(stream_id, StreamError.CANCELLED)
            self._link.unread()

    def stream_stopped(self, stream_id: int, code: int) -> None:
        context = self._context
        if context.closed:
            return
        code = self.draft.stream_error_from_wire(code)
        try:
            if is_unidirectional(stream_id):
                self._link.control_stopped(stream_id)
                self._responder.stream_ended(stream_id)
                context.emit(DataStreamStopped(stream_id, code))
            elif stream_id in context.bidi:
                context.bidi[stream_id].stopped(code)
        except MoqtError as error:
            self.close(error.code, error.reason)

    def datagram(self, data: bytes) -> None:
        context = self._context
        if context.closed:
            return
        if not context.ready:
            self._early.hold_datagram(data)
            return
        try:
            if self.draft.padding and data.startswith(_PADDING):
                return
            context.emit(decode_datagram(data, self.draft))
        except MalformedTrackError as error:
            read = self.draft.varints.decode
            alias, _ = read(data, read(data, 0)[1])
            context.emit(TrackMalformed(None, str(error), alias))
        except MoqtError as error:
            self.close(error.code, error.reason)

    def writable(self) -> None:
        if not self._context.closed:
            self._context.emit(Writable())

    def closed(self, code: int, reason: str) -> None:
        context = self._context
        if not context.closed:
            context.closed = True
            context.uni.clear()
            context.bidi.clear()
            emit, context.emit = context.emit, _ignore
            emit(SessionClosed(code, reason))

    # What the link found on control streams

    def _on_setup(self, setup: Setup) -> None:
        if self.transport.is_webtransport and setup.path is not None:
            raise MoqtError(SessionError.INVALID_PATH, "PATH over WebTransport")
        if self.transport.is_webtransport and setup.authority is not None:
            raise MoqtError(SessionError.INVALID_AUTHORITY, "AUTHORITY over WebTransport")
        try:
            tokens = self._responder.tokens.resolve(setup.tokens, setup=True)
        except MalformedTokenError as error:
            raise MoqtError(SessionError.MALFORMED_AUTH_TOKEN, str(error)) from None
        context = self._context
        context.deadlines.stop(_SETUP)
        self._requester.setup_received(self._setup.tokens, setup)
        self.peer_setup = setup
        context.ready = True
        context.emit(SetupReceived(setup, tokens))
        self._early.release(self.datagram)

    def _on_goaway(self, goaway: GoAway, state: RequestState | None) -> None:
        if state is None:
            repeated, self._goaway_received = self._goaway_received, True
        else:
            repeated, state.going_away = state.going_away, True
        if repeated:
            raise violation("a second GOAWAY")
        request_id = goaway.request_id
        if request_id is not None and request_id % 2 != self._requester.next_id % 2:
            raise MoqtError(
                SessionError.INVALID_REQUEST_ID, f"GOAWAY names request {request_id}, not ours"
            )
        self._context.emit(GoAwayReceived(goaway, state.id if state else None))
