"""One QUIC connection: feeds the engine, hands its events on, keeps its timer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.transport import Receiver
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.lease import Heard
from fastrelay.quic.options import H3_ALPN, Negotiated
from fastrelay.quic.raw import QuicTransport, describe
from fastrelay.quic.timers import Deadline
from fastrelay.quic.udp import Address, Datagram
from fastrelay.quic.webtransport import WebTransport

if TYPE_CHECKING:
    from fastrelay.quic.endpoint import Endpoint
    from fastrelay.quic.url import Target

logger = logging.getLogger(__name__)

_CLOSE_DELAY = 1.0
"""Seconds a peer has to answer the end of its WebTransport session."""

Accept = Callable[[Negotiated, QuicTransport], Receiver]
"""Called once per session, when it is ready; returns who hears of it."""


class ConnectError(Exception):
    """A connection that was asked for did not come about."""


class Connection:
    """Made by an endpoint. ``negotiated`` and ``transport`` are set when ``ready`` is done."""

    def __init__(
        self, endpoint: Endpoint, engine: Engine, accept: Accept, target: Target | None = None
    ) -> None:
        self.engine = engine
        self.negotiated: Negotiated | None = None
        self.transport: QuicTransport | None = None
        self.dirty = False
        self.datagrams_received = 0
        self._endpoint = endpoint
        self._accept = accept
        self._target = target
        self._loop = endpoint.loop
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        engine.on_due = self._on_deadline
        engine.on_acknowledgements = self._heard
        engine.ends_of_path = self._ends_of_path
        self._events = engine.pending_events
        self._deadline = Deadline(self._on_deadline)
        self._handshake_timer: asyncio.TimerHandle | None = self._loop.call_later(
            endpoint.options.handshake_timeout, self._handshake_expired
        )
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        self.low_water = endpoint.options.low_water
        self._above_low_water = False
        self._media_packets = 0
        """So many of the engine's were counted."""
        self._reported = False
        self._farewell: list[Datagram] = []

    # -- for owners of a connection

    async def ready(self) -> None:
        """Wait until there is a session.

        :raises ConnectError: there will be none.
        """
        await asyncio.shield(self._ready)

    async def wait_closed(self) -> None:
        """Wait until the connection is over and its draining time has passed."""
        await asyncio.shield(self._closed)

    def abort(self, reason: str, code: int = SessionError.INTERNAL_ERROR) -> None:
        """End the connection from outside of a session."""
        if self.transport is not None:
            self.transport.close(code, reason)
        else:
            self.engine.close(error_code=code, reason_phrase=reason)
            self.touch()

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close and wait until the peer was told; the socket goes with a client connection."""
        await self._endpoint.close_connection(self, code, reason)

    def linger(self) -> None:
        """Nobody waits for the end of a client connection that was closed: what is to be said is
        sent now, and is repeated in the background for a peer that did not get it, until the
        closing time has passed or the loop ends. That time is three probe timeouts (RFC 9000
        section 10.2), which are seconds after a handshake on a busy machine."""
        self._endpoint.linger(self)

    def drain(self) -> None:
        """Ask a WebTransport peer to finish; raw QUIC has MoQT's GOAWAY only."""
        if isinstance(self.transport, WebTransport):
            self.transport.drain()

    # -- for transports (raw.Carrier)

    def touch(self) -> None:
        if not self.dirty:
            self.dirty = True
            self._endpoint.schedule(self)

    def note_backlog(self) -> None:
        if self.engine.unsent >= self.low_water:
            self._above_low_water = True

    def before_batch(self, hook: Callable[[float], None]) -> None:
        self._endpoint.before_batch = hook

    def handled(self, now: float) -> float:
        return self._endpoint.handled(now)

    def session_ready(
        self, transport: QuicTransport, draft: Draft, path: str, authority: str
    ) -> None:
        """The transport can carry a MoQT session from now on."""
        self.negotiated = Negotiated(
            draft=draft,
            path=path,
            authority=authority,
            webtransport=transport.is_webtransport,
            peer=plain_address(self.engine.get_peer_address()),
        )
        self._cancel_handshake_timer()
        self._keep_alive(-1)
        transport.attach(self._accept(self.negotiated, transport))
        if not self._ready.done():
            self._ready.set_result(None)

    def session_failed(self, reason: str) -> None:
        """There will be no session on this connection."""
        self._fail(reason)

    def close_later(self, code: int) -> None:
        """Close, if the peer does not soon."""
        self._loop.call_later(_CLOSE_DELAY, self._close_now, code)

    # -- for the endpoint

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """A datagram of this connection arrived."""
        self.datagrams_received += 1
        if self._farewell:
            self._repeat_farewell()
            return
        self.note_backlog()
        try:
            self.engine.receive_datagram(data, address, now)
        except Exception:
            self._engine_failed()
        if self.engine.is_unmoved:
            return
        if self._target is None and not self.engine.heard_peer:
            self._terminated()  # nothing in the first datagram was authentic
            return
        if self._events:
            self._dispatch()
        if self.engine.is_drained:
            self.engine.terminate()
            self._dispatch()
            return
        self.touch()

    def end_if_reset(self, data: bytes) -> bool:
        """Whether a datagram says that the peer has lost this connection: it is over then."""
        if not self.engine.end_if_reset(data):
            return False
        self._dispatch()
        return True

    def _heard(self, heard: Heard) -> None:
        """Somebody else has read datagrams of this connection: acknowledgements."""
        self.datagrams_received += heard.last_number - heard.first_number + 1
        try:
            self.engine.take_acknowledgements(heard)
        except Exception:
            self._engine_failed()
        if not self.engine.is_unmoved:
            if self._events:
                self._dispatch()
            self.touch()

    def flush(self, now: float) -> list[Datagram]:
        """What is to be sent now; arms the timer."""
        engine = self.engine
        closing = engine.termination is not None
        backlog = engine.unsent
        datagrams: list[Datagram] = []
        if engine.has_new_media:
            engine.has_new_media = False
            self._endpoint.forwarding()
        elif self._endpoint.is_patient:
            engine.acknowledge_at_once(now)  # it has waited already
        try:
            datagrams = engine.datagrams_to_send(now)
        except Exception:
            self._engine_failed()
        if engine.media_packets != self._media_packets:
            self._endpoint.counters.media_packets += engine.media_packets - self._media_packets
            self._media_packets = engine.media_packets
        if self._events:
            self._dispatch()
        if closing or engine.termination is not None:
            if datagrams:
                self._farewell = datagrams[-1:]
            self._report_end()
        elif backlog >= self.low_water or self._above_low_water:
            self._above_low_water = engine.unsent >= self.low_water
            if not self._above_low_water and self.transport is not None:
                self._call(self.transport.writable)
        if engine.is_interrupted:
            self.touch()
        at = engine.get_timer()
        if at is not None:
            self._endpoint.timers.set(self._deadline, at, now)
        return datagrams

    def finish(self, now: float) -> list[Datagram]:
        """The endpoint goes: CONNECTION_CLOSE without waiting for anybody, and no timers."""
        self.engine.close(error_code=self.transport.no_error if self.transport is not None else 0)
        datagrams = self.flush(now)
        self.engine.terminate()
        self._terminated()
        return datagrams

    def network_error(self, error: OSError) -> None:
        """ICMP said that nobody listens; only believed while there is no session."""
        if not self._ready.done() and self._target is not None:
            self._fail(f"{self._target}: {error.strerror or error}")

    # -- inside

    def _dispatch(self) -> None:
        pending = self._events
        while pending:
            event: Any = pending.popleft()
            kind = type(event)
            transport = self.transport
            if transport is not None and (handler := transport.handlers.get(kind)) is not None:
                try:
                    handler(event)
                except Exception:
                    self._broken()
            elif kind is events.HandshakeCompleted:
                self._handshake_completed(event.alpn_protocol)
            elif kind is events.ConnectionIdIssued:
                self._endpoint.add_route(event.connection_id, self)
            elif kind is events.ConnectionIdRetired:
                self._endpoint.remove_route(event.connection_id)
            elif kind is events.ConnectionTerminated:
                self._terminated()
        if self.engine.termination is not None:
            self._report_end()

    def _call(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            self._broken()

    def _engine_failed(self) -> None:
        """Nothing is known of the engine's state any more: this connection ends here."""
        logger.exception("a connection failed and is given up")
        self.engine.close(error_code=SessionError.INTERNAL_ERROR, frame_type=0)
        self.engine.terminate()

    def _broken(self) -> None:
        logger.exception("a session failed; its connection is closed")
        self.abort("internal error")

    def _handshake_completed(self, protocol: str) -> None:
        if not self._endpoint.handshake_done(self):
            self.engine.close(
                error_code=QuicErrorCode.CONNECTION_REFUSED,
                frame_type=QuicFrameType.PADDING,
                reason_phrase="too many connections",
            )
            self.touch()
            return
        target = self._target
        if target is not None and target.certificate_sha256 is not None:
            shown = self.engine.peer_certificate_sha256
            if shown != target.certificate_sha256:
                self._fail("the server's certificate is not the pinned one")
                return
        if protocol == H3_ALPN:
            self.transport = WebTransport(self, self._endpoint.options.drafts, target)
            self.touch()
            return
        draft = next(d for d in self._endpoint.options.drafts if d.alpn == protocol)
        self.transport = QuicTransport(self)
        path, authority = (target.path, target.authority) if target else ("", "")
        try:
            self.session_ready(self.transport, draft, path, authority)
        except Exception:
            self._broken()

    def _keep_alive(self, seen: int) -> None:
        """Every so often: a PING if nothing arrived since the last time."""
        interval = self._endpoint.options.keep_alive
        if interval is None or self.engine.is_over:
            return
        if seen == self.datagrams_received:
            self.engine.send_ping(0)
            self.touch()
        # Up to two of them pass until the PING goes, and it has to arrive, too.
        interval = min(interval, self.engine.idle_timeout / 3)
        self._keep_alive_timer = self._loop.call_later(
            interval, self._keep_alive, self.datagrams_received
        )

    def _close_now(self, code: int) -> None:
        if not self.engine.is_over:
            self.engine.close(error_code=code)
            self.touch()

    def _cancel_handshake_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _handshake_expired(self) -> None:
        self._handshake_timer = None
        self._fail("handshake timeout")

    def _fail(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectError(reason))
            self._ready.exception()  # it may be that nobody waits
        self.abort(reason)

    def _report_end(self) -> None:
        event = self.engine.termination
        if self._reported or event is None:
            return
        self._reported = True
        self._cancel_handshake_timer()
        transport = self.transport
        if transport is not None:
            self._call(lambda: transport.terminated(event))
        if not self._ready.done():
            self._ready.set_exception(ConnectError(describe(event)))
            self._ready.exception()

    def _terminated(self) -> None:
        self._report_end()
        self._cancel_handshake_timer()
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        self._deadline.at = math.inf
        self._deadline.on_due = _ignore  # what is left of it in the heap holds nothing alive
        self._endpoint.remove(self)
        if not self._closed.done():
            self._closed.set_result(None)

    def _repeat_farewell(self) -> None:
        # The peer did not get our CONNECTION_CLOSE: again, ever more seldom
        # (RFC 9000 section 10.2.1).
        count = self.datagrams_received
        if count & (count - 1) == 0:
            self._endpoint.send(self._farewell)

    def _ends_of_path(self, address: Address) -> tuple[tuple[str, int], tuple[str, int]]:
        return self._endpoint.local_address(address), plain_address(address)

    def _on_deadline(self, now: float) -> None:
        try:
            self.engine.handle_timer(now)
        except Exception:
            self._engine_failed()
        if self._events:
            self._dispatch()
        if not self._closed.done():
            self.touch()


def _ignore(_now: float) -> None: ...


def plain_address(address: Address | None) -> tuple[str, int]:
    """Host and port, an IPv4 peer of a dual-stack socket in IPv4 form."""
    if address is None:
        return "", 0
    host: str = address[0]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return host, int(address[1])
