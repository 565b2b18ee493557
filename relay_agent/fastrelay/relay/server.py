"""The relay process: sockets, timers and signals around the sans-I/O core."""

from __future__ import annotations

import asyncio
import datetime
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography import x509

from fastrelay.api.addresses import format_address
from fastrelay.api.conditions import PLAINTEXT_WARNING
from fastrelay.moqt.codes import SessionError
from fastrelay.moqt.events import Event, GoAwayReceived, SessionClosed
from fastrelay.moqt.messages import Token, TokenAction
from fastrelay.moqt.session import Session
from fastrelay.moqt.transport import Receiver
from fastrelay.quic.connection import Accept, plain_address
from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.files import FileWatcher
from fastrelay.quic.options import Negotiated
from fastrelay.quic.raw import QuicTransport
from fastrelay.relay.alone import UserSpaceAlone
from fastrelay.relay.configuration import ConfigurationError, ServerOptions, UpstreamOptions
from fastrelay.relay.control import Control
from fastrelay.relay.core import Relay
from fastrelay.relay.garbage import GarbageCollection
from fastrelay.relay.logs import get_logger
from fastrelay.relay.member_metrics import count, watched
from fastrelay.relay.metrics import Metrics, QuotaCounters, State
from fastrelay.relay.observer import RelayObserver
from fastrelay.relay.peer import Peer
from fastrelay.relay.policy import Policy
from fastrelay.relay.ports import PeerInfo
from fastrelay.relay.sampling import Sampler
from fastrelay.relay.status import StatusPages
from fastrelay.relay.upstreams import UpstreamLinks

if TYPE_CHECKING:
    from fastrelay.relay.doorkeeper import Doorkeeper
    from fastrelay.relay.sharing import KernelSharing

EXPIRE_INTERVAL = 0.5
"""Seconds between looks at what peers owe us: their timeouts are met late by up to this."""

_SPECIAL = frozenset((SessionClosed, GoAwayReceived))
"""Events that matter to the shell too."""

log = get_logger(__name__)


class Server:
    """One relay: :meth:`start`, then serve, then :meth:`drain`, then :meth:`close`."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.sessions: dict[Session, PeerInfo] = {}
        self.transports: dict[Session, QuicTransport] = {}
        self.draining = False
        self.metrics = Metrics(self._state)
        self._loop = asyncio.get_running_loop()
        self._kinds: Counter[tuple[str, ...]] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self.door = self._doorkeeper()
        self.endpoint = Endpoint(options.quic, self._accept, self.door)
        self.upstreams = UpstreamLinks(
            options.upstreams, self._accept_from, lambda url: self.relay.upstream_failed(url)
        )
        self.relay = Relay(
            options.relay,
            clock=self._loop.time,
            wake=self._wake,
            upstreams=self.upstreams,
            observer=RelayObserver(self.metrics),
        )
        self.kernel = self._kernel()
        self._sampler = Sampler(self.metrics, self._connections)
        self.pages = StatusPages(self)
        self.control = Control(self.pages.handlers, self._members)
        self._tokens = {upstream: upstream.token for upstream in options.upstreams}
        """For upstreams."""
        files = options.credential_files
        self._credentials = FileWatcher(files.paths, self._read_credentials) if files else None

    # Of many relays each does without one of these, so they are loaded by who wants them.

    def _doorkeeper(self) -> Doorkeeper | None:
        if self.options.quota is None:
            return None
        from fastrelay.relay.doorkeeper import Doorkeeper

        return Doorkeeper(self.options.quota)

    def _kernel(self) -> KernelSharing | UserSpaceAlone:
        if self.options.fast_path is None:
            return UserSpaceAlone(self.endpoint)
        from fastrelay.relay.sharing import KernelSharing

        return KernelSharing(self.options.fast_path, self.relay, self.endpoint, self.door)

    # -- life

    async def start(self) -> None:
        """Bind everything.

        :raises ConfigurationError: the certificate is not valid now.
        :raises OSError: an address cannot be had.
        """
        certificate = self.endpoint.certificate
        assert certificate is not None
        check_period(certificate, datetime.datetime.now(datetime.UTC))
        if self.options.monitoring is not None:
            with _naming(*self.options.monitoring):
                await self.pages.listen(*self.options.monitoring)
        if self.options.control is not None:
            await self.control.listen(self.options.control)
        with _naming(self.options.host, self.options.port):
            await self.endpoint.listen(self.options.host, self.options.port)
        if not self.options.quic.encryption:
            log.warning(PLAINTEXT_WARNING)
        self.kernel.start()
        self.upstreams.start()
        self._sampler.start()
        if self._credentials is not None:
            self._credentials.start(self.options.quic.reload_interval)
        self._sweep()
        log.info(
            "ready",
            listen=format_address(*self.endpoint.address),
            monitoring=self.pages.address,
            drafts=",".join(str(draft.number) for draft in self.options.quic.drafts),
            certificate_expires=certificate.not_valid_after_utc.isoformat(),
            upstreams=len(self.options.upstreams),
        )

    def reload(self) -> None:
        """Look now whether files of certificate and tokens are others, and use them if so.

        Connections and subscriptions that exist stay as they are.
        """
        certificate = self.endpoint.reload()
        tokens = self._credentials is not None and self._credentials.check()
        log.info("files were looked at", new_certificate=certificate, new_tokens=tokens)

    def _read_credentials(self) -> bool:
        files = self.options.credential_files
        assert files is not None
        try:
            found = files.read()
        except ConfigurationError as error:
            log.warning("the new tokens are not used", why=str(error))
            return False
        self.relay.policy = Policy(found.policy)
        self._tokens = dict(zip(self.options.upstreams, found.upstreams, strict=True))
        log.info("tokens reloaded")
        return True

    async def drain(self) -> None:
        """Refuse what is new, ask everybody to go, and serve on until they went or the grace
        period is over."""
        if self.draining:
            return
        self.draining = True
        grace = self.options.grace_period_seconds
        log.info("draining", sessions=len(self.sessions), grace_seconds=grace)
        self.endpoint.drain()
        self.relay.drain(uri=self.options.redirect, timeout_ms=round(grace * 1000))
        if not self._clients():
            self._empty.set()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            log.info("grace period is over", sessions=len(self.sessions))

    async def close(self) -> None:
        """End what is left and give everything back."""
        self.draining = True
        self.relay.close()
        await self.upstreams.close()
        if self._credentials is not None:
            await self._credentials.stop()
        self._sampler.stop()
        self.kernel.stop()
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        await self.endpoint.close(SessionError.NO_ERROR, "the relay ends")
        await self.pages.close()
        await self.control.close()
        if self._sweeper is not None:
            log.info("closed")

    # -- sessions

    def _accept(self, negotiated: Negotiated, transport: QuicTransport) -> Receiver:
        return self._open(negotiated, transport, None)

    def _accept_from(self, upstream: UpstreamOptions) -> Accept:
        return lambda negotiated, transport: self._open(negotiated, transport, upstream)

    def _open(
        self, negotiated: Negotiated, transport: QuicTransport, upstream: UpstreamOptions | None
    ) -> Session:
        relay = self.relay
        tokens: tuple[Token, ...] = ()
        token = self._tokens[upstream] if upstream is not None else None
        if token is not None:
            tokens = (Token(TokenAction.USE_VALUE, type=0, value=token),)
        on_event, on_special = relay.on_event, self._on_special

        def heard(event: Event) -> None:
            on_event(session, event)
            if type(event) in _SPECIAL:
                on_special(session, event)

        session = Session(
            transport,
            negotiated.draft,
            heard,
            limits=self.options.session,
            implementation=relay.implementation,
            path=negotiated.path if upstream else None,
            authority=negotiated.authority if upstream else None,
            tokens=tokens,
        )
        peer = PeerInfo(
            address=format_address(*negotiated.peer),
            webtransport=negotiated.webtransport,
            upstream=upstream.url if upstream else None,
            prefixes=upstream.prefixes if upstream else (),
        )
        self.sessions[session], self.transports[session] = peer, transport
        kind = _kind(session, peer)
        self._kinds[kind] += 1
        self.metrics.sessions_opened[kind] += 1
        log.info("session opened", peer=peer.address, draft=kind[0], transport=kind[1])
        relay.session_opened(session, peer, measure=transport.measurements)
        self.kernel.add(session, transport)
        session.start()
        return session

    def _on_special(self, session: Session, event: Event) -> None:
        if isinstance(event, SessionClosed):
            self._forget(session, event)
        elif isinstance(event, GoAwayReceived) and event.request_id is None:
            upstream = self.sessions[session].upstream
            if upstream is not None:
                self.upstreams.leaving(upstream, event.goaway.new_session_uri)

    def _forget(self, session: Session, event: SessionClosed) -> None:
        peer = self.sessions.pop(session, None)
        if peer is None:
            return
        self._sampler.sample(self.transports.pop(session))
        self.relay.session_closed(session)
        self.kernel.remove(session)
        self._kinds[_kind(session, peer)] -= 1
        code = _code_name(event.code)
        self.metrics.sessions_closed[code] += 1
        log.info("session closed", peer=peer.address, code=code, reason=event.reason)
        if self.draining and not self._clients():
            self._empty.set()

    def _members(self) -> Iterator[tuple[str, Peer]]:
        for peer in self.relay.peers:
            engine = self.transports[peer.session].engine
            yield format_address(*plain_address(engine.get_peer_address())), peer

    def _connections(self) -> list[tuple[QuicTransport, Peer]]:
        return [(self.transports[peer.session], peer) for peer in self.relay.peers]

    def _clients(self) -> bool:
        return any(peer.upstream is None for peer in self.sessions.values())

    # -- time

    def _wake(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            deadline = self.relay.expire(now)
        except Exception:
            # One track's trouble must not stop the clock of all others.
            log.exception("a timer of the relay failed")
            deadline = now
        if deadline is not None:
            self._wake(deadline)

    def _sweep(self) -> None:
        now = self._loop.time()
        for session, transport in tuple(self.transports.items()):
            try:
                session.expire(now)
            except Exception:
                log.exception("a session failed", peer=self.sessions[session].address)
                transport.close(SessionError.INTERNAL_ERROR, "internal error")
        self._sweeper = self._loop.call_later(EXPIRE_INTERVAL, self._sweep)

    # -- numbers

    def _state(self) -> State:
        certificate = self.endpoint.certificate
        return State(
            counters=self.relay.counters,
            endpoint=self.endpoint.counters,
            half_open=self.endpoint.half_open,
            socket_drops=self.endpoint.datagrams_dropped,
            sessions=self._kinds,
            upstreams=self.upstreams.connected,
            draining=self.draining,
            kernel=self.kernel.counters,
            bands=self.relay.bands,
            counts=count(self.relay.peers),
            members=watched(self._members(), self.options.member_blocks),
            quota=QuotaCounters(self.door.quota.connections, self.door.counts())
            if self.door is not None
            else QuotaCounters(),
            certificate_expires=(
                certificate.not_valid_after_utc.timestamp() if certificate else 0.0
            ),
        )


async def serve(options: ServerOptions) -> signal.Signals | None:
    """Run a relay until SIGTERM or SIGINT, drain it, and end. SIGHUP: :meth:`Server.reload`.

    :returns: None after an orderly end, or the second signal, which cut the drain short.
    :raises ConfigurationError: the certificate cannot be used.
    :raises OSError: a file cannot be read, or an address (``filename``) cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        server = Server(options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    try:
        await server.start()
        metrics = server.metrics
        with GarbageCollection(
            lambda: len(server.sessions),
            lambda: sum(metrics.sessions_closed.values()),
            metrics.garbage_seconds,
        ):
            return await _until_told(server, signals)
    finally:
        await server.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _until_told(
    server: Server, signals: asyncio.Queue[signal.Signals]
) -> signal.Signals | None:
    """Serve up to the first signal, drain up to the second."""
    first = await signals.get()
    log.info("signal", name=first.name)
    drain = asyncio.create_task(server.drain())
    second = asyncio.create_task(signals.get())
    await asyncio.wait((drain, second), return_when=asyncio.FIRST_COMPLETED)
    cut_short = None if drain.done() else second.result()
    for task in (drain, second):
        task.cancel()
    await asyncio.gather(drain, second, return_exceptions=True)
    return cut_short


def check_period(certificate: x509.Certificate, now: datetime.datetime) -> None:
    """Whether a certificate is valid now.

    :raises ConfigurationError: it is not.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise ConfigurationError(
            f"the certificate expired at {end:%Y-%m-%d %H:%M:%S} UTC; renew it "
            "(fastrelay certificate makes one for tests)"
        )
    if now < begin:
        raise ConfigurationError(
            f"the certificate is valid only from {begin:%Y-%m-%d %H:%M:%S} UTC; "
            "check the clock, or wait"
        )


@contextmanager
def _naming(host: str, port: int) -> Iterator[None]:
    """An OSError within names the address as its file."""
    try:
        yield
    except OSError as error:
        error.filename = format_address(host or "*", port)
        raise


def _kind(session: Session, peer: PeerInfo) -> tuple[str, str]:
    """The labels of a session."""
    return str(session.draft.number), "webtransport" if peer.webtransport else "quic"


def _code_name(code: int) -> str:
    # Only names: what a peer invents must not become a metric's label.
    try:
        return SessionError(code).name
    except ValueError:
        return "OTHER"
