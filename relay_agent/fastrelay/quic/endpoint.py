"""A UDP socket with QUIC connections on it, read, handled and written in batches."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TextIO

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509

from fastrelay.moqt.drafts import Draft
from fastrelay.quic import udp
from fastrelay.quic.admission import (
    CONNECTION_ID_LENGTH,
    Admission,
    Admitted,
)
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.certificates import IdentityWatcher
from fastrelay.quic.configuration import (
    client_configuration,
    server_configuration,
    set_identity,
)
from fastrelay.quic.connection import Accept, ConnectError, Connection, plain_address
from fastrelay.quic.counters import EndpointCounters
from fastrelay.quic.door import Door, OpenDoor
from fastrelay.quic.options import QuicOptions
from fastrelay.quic.recvmmsg import COUNT as BATCH
from fastrelay.quic.recvmmsg import Received
from fastrelay.quic.resets import Resets
from fastrelay.quic.timers import Deadline, Timers
from fastrelay.quic.udp import Address, Datagram, UdpSocket
from fastrelay.quic.url import Target, parse_url

if TYPE_CHECKING:
    from fastrelay.quic.ledger import Ledger

logger = logging.getLogger(__name__)

_LARGEST_TO_COPY = 1200
"""What a peer's packet may have for the kernel to forward it on any path."""
_PATIENCE = 0.005
"""Seconds between two batches of what nobody waits for. As long as a single packet of a peer's
waits for its acknowledgement anyway."""
_CROWD = 500.0
"""Datagrams a second: fewer need not wait for each other, each may wake the process alone."""
_CENSUS_SECONDS = 0.05
"""How often they are counted."""
_SWEEP_SECONDS = 0.1
"""How often the ledger is asked at least, while anything in it waits: what came to it since may
want a probe before what was there."""
_MEDIA_SECONDS = 0.1
"""After media of user space's own, somebody waits for what comes next."""


class Endpoint:
    """Owns the socket, the routes from connection ids to connections, and the batches.

    Whatever is queued on any connection while a batch of datagrams is handled, or by
    timers and callbacks of the same turn of the loop, is sent at the end, one connection
    after the other.
    """

    def __init__(self, options: QuicOptions, accept: Accept, door: Door | None = None) -> None:
        self.options = options
        self.door: Door = door or OpenDoor()
        self.loop = asyncio.get_running_loop()
        self.counters = EndpointCounters()
        self.timers = Timers(self.loop, self._on_deadlines)
        self.draining = False
        self.before_batch: Callable[[float], None] = _nothing
        """Called with the time when datagrams were read, before the first of them is handled, and
        before deadlines are: somebody else has sent on connections that are lent to him."""
        self._after_batch: Callable[[float], None] = _nothing
        """What waits for the ledger's packets waits for later ones after most batches."""
        self._accept = accept
        self._socket: UdpSocket | None = None
        self._routes: dict[bytes, Connection] = {}
        self._connections: dict[Connection, set[bytes]] = {}
        self._half_open: set[Connection] = set()
        self._dirty: list[Connection] = []
        self._in_batch = False
        self._handling = False
        """A batch was read, and not all of it is handled yet."""
        self._handled = 0.0
        self._flush_scheduled = False
        self._single = False
        self._reading: asyncio.TimerHandle | None = None
        """When to read again, while the loop does not watch the socket."""
        self._is_shared = False
        self._media_until = 0.0
        self._is_crowded = False
        self._census = (0.0, 0)
        """When datagrams were last counted, and how many had come until then."""
        self._configuration = server_configuration(options) if options.certificate else None
        self._resets: Resets | None = None
        if self._configuration is not None:
            self._resets = Resets.of(self._configuration.private_key)
        self._admission = Admission(
            options.retry,
            options.retry_threshold,
            QuicConfiguration().supported_versions,
            self.counters,
            self.door,
        )
        self._lingering: asyncio.Task[None] | None = None
        """Of a client's; the loop ends it when it ends itself."""
        self._watcher: IdentityWatcher | None = None
        self._key_log: TextIO | None = None

    # -- for owners

    async def listen(self, host: str, port: int) -> None:
        """Bind and serve. ``""`` or ``"::"`` is IPv6 and IPv4; port 0 takes a free one.

        :raises OSError: the address cannot be had.
        :raises ValueError: there is no certificate in the options.
        """
        certificate, private_key = self.options.certificate, self.options.private_key
        if self._configuration is None or certificate is None or private_key is None:
            raise ValueError("a server needs a certificate and a private key")
        sock = udp.bind(
            host,
            port,
            receive_buffer=self.options.receive_buffer,
            send_buffer=self.options.send_buffer,
        )
        self._use(sock)
        self._watcher = IdentityWatcher(
            certificate,
            private_key,
            partial(set_identity, self._configuration),
        )
        self._watcher.start(self.options.reload_interval)

    def reload(self) -> bool:
        """Look at the certificate's files now; True if there is a new one."""
        return self._watcher is not None and self._watcher.check()

    @property
    def address(self) -> tuple[str, int]:
        """Where the endpoint is bound."""
        return plain_address(self._socket.address if self._socket else None)

    @property
    def certificate(self) -> x509.Certificate | None:
        """The server's certificate that new handshakes use now."""
        if self._configuration is None:
            return None
        leaf: x509.Certificate = self._configuration.certificate
        return leaf

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection, closing ones included."""
        return tuple(self._connections)

    @property
    def half_open(self) -> int:
        """Server handshakes that are not finished."""
        return len(self._half_open)

    @property
    def datagrams_dropped(self) -> int:
        """Datagrams that the kernel did not take."""
        return self._socket.dropped if self._socket else 0

    def watch(self, ledger: Ledger) -> None:
        """Wake connections whose packets in the ledger want a probe. From now on media may go by
        without this endpoint: see :attr:`is_patient`."""
        self._is_shared = True

        def due(now: float) -> float:
            at = ledger.next_due()
            return at if at == math.inf else min(at, now + _SWEEP_SECONDS)

        def arm() -> None:
            now = self.loop.time()
            self.set_timer(sweep, due(now), now)

        def probe(now: float) -> None:
            for account in ledger.overdue(now):
                account.on_due(now)
            self.timers.set(sweep, due(now), now)

        def follow(now: float) -> None:
            if sweep.at < math.inf:
                self.timers.set(sweep, due(now), now)

        # What the kernel has heard moves it while nothing comes here.
        sweep = Deadline(probe, due)
        ledger.on_rows = arm
        self._after_batch = follow

    def set_timer(self, deadline: Deadline, at: float, now: float) -> None:
        """Have a deadline of somebody else's kept, among those of the connections."""
        self.timers.set(deadline, at, now)
        if not self._in_batch:
            self.timers.arm(now)

    def local_address(self, address: Address) -> tuple[str, int]:
        """Our end of a path to a peer's address, as datagrams brought it."""
        if self._socket is None:
            return "", 0
        host, port = self._socket.local_address(address)
        return plain_address((host, port))

    def drain(self) -> None:
        """Refuse new connections from now on; the others stay, and hear that they should go."""
        self.draining = True
        for connection in self.connections:
            connection.drain()

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close every connection, say so to the peers, and give up the socket."""
        self.draining = True
        if self._watcher is not None:
            await self._watcher.stop()
        for connection in self.connections:
            connection.abort(reason, code)
        self._flush()
        now = self.loop.time()
        for connection in self.connections:
            self.send(connection.finish(now))
        self._release()

    async def close_connection(self, connection: Connection, code: int, reason: str) -> None:
        """Close one connection and say so to the peer at once."""
        if connection in self._connections:
            connection.abort(reason, code)
            self._flush()
            self.send(connection.finish(self.loop.time()))

    def linger(self, connection: Connection) -> None:
        """See :meth:`Connection.linger`."""
        self._flush()
        if connection in self._connections:
            self._lingering = self.loop.create_task(self._outlast(connection))

    async def _outlast(self, connection: Connection) -> None:
        try:
            await connection.wait_closed()
        finally:
            if connection in self._connections:
                self.send(connection.finish(self.loop.time()))

    def open(self, sock: socket.socket, address: Address, target: Target) -> Connection:
        """Begin a client connection on a connected socket; wait for its ``ready``."""
        self._use(sock)
        self._single = True
        engine = self._engine(client_configuration(self.options, target))
        connection = Connection(self, engine, self._accept, target)
        self._connections[connection] = set()
        self.add_route(engine.host_cid, connection)
        engine.connect(address, self.loop.time())
        connection.touch()
        return connection

    # -- for connections

    @property
    def is_patient(self) -> bool:
        """Whether what arrives may wait for company: somebody else forwards, user space does not,
        nobody is just shaking hands, and much arrives. Then it is mostly acknowledgements, each of
        which would wake the process alone."""
        return (
            self._is_crowded
            and self._is_shared
            and not self._half_open
            and self.loop.time() > self._media_until
        )

    def handled(self, now: float) -> float:
        """Before when all datagrams that came have been handled, if it is now so late."""
        if self._socket is None:
            return now
        if self._handled < now and not self._handling and not self._socket.waiting:
            self._handled = now
        return self._handled

    def forwarding(self) -> None:
        """User space has sent new media."""
        self._media_until = self.loop.time() + _MEDIA_SECONDS

    def schedule(self, connection: Connection) -> None:
        """The connection has something to send; it calls this once until it is flushed."""
        self._dirty.append(connection)
        if not self._in_batch and not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def send(self, datagrams: list[Datagram]) -> None:
        """Send outside of the batches."""
        if self._socket is not None and datagrams:
            self.counters.datagrams_sent += len(datagrams)
            self.counters.bytes_sent += sum(len(data) for data, _ in datagrams)
            self._socket.send(datagrams)

    def add_route(self, connection_id: bytes, connection: Connection) -> None:
        self._routes[connection_id] = connection
        self._connections[connection].add(connection_id)

    def remove_route(self, connection_id: bytes) -> None:
        connection = self._routes.pop(connection_id, None)
        if connection is not None:
            self._connections[connection].discard(connection_id)

    def handshake_done(self, connection: Connection) -> bool:
        """Whether a connection whose handshake is confirmed may stay."""
        self._half_open.discard(connection)
        self.counters.handshakes_completed += 1
        if self._single:
            return True
        address = connection.engine.get_peer_address()
        assert address is not None
        if self.door.enter(connection, address, self.loop.time()):
            return True
        self.counters.connections_refused += 1
        return False

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is over."""
        for connection_id in self._connections.pop(connection, ()):
            del self._routes[connection_id]
        self._half_open.discard(connection)
        self.door.leave(connection, self.loop.time())
        if self._single and not self._connections:
            self._release()

    # -- inside

    def _release(self) -> None:
        self.timers.stop()
        if self._key_log is not None:
            self._key_log.close()
            self._key_log = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._socket is not None:
            self.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _use(self, sock: socket.socket) -> None:
        if self.options.fast_path:
            udp.forbid_fragments(sock)
        self._socket = UdpSocket(sock, self.loop)
        if self.options.key_log is not None:
            self.options.key_log.touch(mode=0o600)
            self._key_log = self.options.key_log.open("a", encoding="ascii")
        self.loop.add_reader(self._socket.fileno(), self._on_readable)

    def _engine(
        self,
        configuration: QuicConfiguration,
        original: bytes | None = None,
        retry: bytes | None = None,
    ) -> Engine:
        configuration.secrets_log_file = self._key_log
        return Engine(
            configuration,
            max_streams_unidirectional=self.options.max_streams_unidirectional,
            max_streams_bidirectional=self.options.max_streams_bidirectional,
            max_udp_payload_size=_LARGEST_TO_COPY if self.options.fast_path else None,
            encryption=self.options.encryption,
            original_destination_connection_id=original,
            retry_source_connection_id=retry,
            resets=self._resets,
        )

    def _on_readable(self) -> None:
        if self._read() and self.is_patient and self._socket is not None:
            self.loop.remove_reader(self._socket.fileno())
            self._reading = self.loop.call_later(_PATIENCE, self._read_on)

    def _read_on(self) -> None:
        """Reads now and then, until there is nothing; then the loop watches again."""
        self._reading = None
        count = self._read()
        if self._socket is None:
            return
        if count and self.is_patient:
            delay = 0.0 if count == BATCH else _PATIENCE
            self._reading = self.loop.call_later(delay, self._read_on)
        else:
            self.loop.add_reader(self._socket.fileno(), self._on_readable)

    def _read(self) -> int:
        """Handle a batch of datagrams; how many they were."""
        assert self._socket is not None
        try:
            batch = self._socket.receive()
        except OSError as error:
            for each in self.connections:
                each.network_error(error)
            return 0
        if batch:
            self._handling = True
            self._handle(batch, self.loop.time())
            self._handling = False
            self._handled = batch[-1][2]
        return len(batch)

    def _handle(self, batch: list[Received], now: float) -> None:
        counters = self.counters
        counters.datagrams_received += len(batch)
        begin, before = self._census
        if now - begin >= _CENSUS_SECONDS:
            came = counters.datagrams_received - before
            self._is_crowded = came > _CROWD * (now - begin)
            self._census = now, counters.datagrams_received
        self._in_batch = True
        self._prepare(now)
        routes = self._routes
        size = 0
        for data, address, received_at in batch:
            size += len(data)
            if not data:
                continue
            connection: Connection | None
            if data[0] & 0x80:
                end = 6 + data[5] if len(data) > 5 else 6
                connection = routes.get(data[6:end]) or self._first_packet(data, address, now)
            else:
                connection = routes.get(data[1 : 1 + CONNECTION_ID_LENGTH])
            if connection is not None:
                connection.receive(data, address, received_at)
            elif data[0] & 0x80 or not self._reset(data, address, now):
                counters.datagrams_unroutable += 1
        counters.bytes_received += size
        self._after_batch(now)
        self._in_batch = False
        self._flush()

    def _reset(self, data: bytes, address: Address, now: float) -> bool:
        """A short header for no connection of ours: of one that a former process had, or the end
        of one that our peer's had."""
        for each in self.connections if self._single else ():
            if each.end_if_reset(data):
                return True
        if self._resets is None:
            return False
        answer = self._resets.answer(data, CONNECTION_ID_LENGTH, now)
        if answer is None:
            return False
        self.counters.resets_sent += 1
        self.send([(answer, address)])
        return True

    def _prepare(self, now: float) -> None:
        try:
            self.before_batch(now)
        except Exception:
            logger.exception("what comes before a batch failed")

    def _on_deadlines(self, due: list[Deadline], now: float) -> None:
        if not due:  # all have moved
            self.timers.arm(now)
            return
        self._in_batch = True
        self._prepare(now)
        for deadline in due:
            deadline.on_due(now)
        self._flush()

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._in_batch = True
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.dirty = False
                # Each one's datagrams leave at once: nobody waits until the packets of all
                # others are built too.
                self.send(connection.flush(self.loop.time()))
        self._in_batch = False
        self.timers.arm(self.loop.time())

    def _first_packet(self, data: bytes, address: Address, now: float) -> Connection | None:
        """A long header for no connection of ours: a new client, or nothing."""
        if self._configuration is None:
            return None
        verdict = self._admission.judge(
            data,
            address,
            now,
            half_open=len(self._half_open),
            full=self.draining or len(self._connections) >= self.options.max_connections,
        )
        if isinstance(verdict, bytes):
            self.send([(verdict, address)])
        elif verdict is not None:
            connection = self._new_connection(self._configuration, verdict)
            if verdict.retry_source is not None:
                self.door.enter(connection, address, now)
            return connection
        return None

    def _new_connection(self, configuration: QuicConfiguration, ids: Admitted) -> Connection:
        self.counters.handshakes_started += 1
        engine = self._engine(configuration, ids.original_destination, ids.retry_source)
        connection = Connection(self, engine, self._accept)
        self._connections[connection] = set()
        self._half_open.add(connection)
        self.add_route(ids.destination, connection)
        self.add_route(engine.host_cid, connection)
        self.door.begin(connection, (ids.destination, engine.host_cid))
        return connection


def _nothing(_now: float) -> None: ...


async def connect(
    url: str, drafts: tuple[Draft, ...], options: QuicOptions, accept: Accept
) -> Connection:
    """A client connection with a session on it, on a socket of its own.

    :param url: ``moqt://host:port/path`` or ``https://host:port/path``.
    :param drafts: what is offered, best first (instead of ``options.drafts``).
    :raises ValueError: the URL is not one of the two.
    :raises ConnectError: no address of the host answered with a session.
    """
    target = parse_url(url, options.certificate_sha256)
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise ConnectError(f"{url}: {error.strerror}") from error
    failure = ConnectError(f"{url}: no address")
    for family, _, _, _, address in addresses:
        try:
            return await _connect_to(family, address, target, drafts, options, accept)
        except OSError as error:
            failure = ConnectError(f"{url}: {error.strerror or error}")
        except ConnectError as error:
            failure = error
    raise failure


async def _connect_to(
    family: int,
    address: Address,
    target: Target,
    drafts: tuple[Draft, ...],
    options: QuicOptions,
    accept: Accept,
) -> Connection:
    sock = udp.connect(
        family,
        address,
        receive_buffer=options.receive_buffer,
        send_buffer=options.send_buffer,
    )
    endpoint = Endpoint(options.for_client(drafts), accept)
    connection = endpoint.open(sock, address, target)
    try:
        await connection.ready()
    except BaseException:
        await endpoint.close()
        raise
    return connection
