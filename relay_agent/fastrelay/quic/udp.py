"""A non-blocking UDP socket that reads and writes in batches.

Several packets of one size to one peer leave in one system call (UDP GSO: 0.5 instead of
1.6 us a packet on loopback). For packets to different peers ``sendmmsg`` through ctypes
was measured as well: 1.45 us against 1.6, not worth a second way.

A socket bound to the wildcard address answers from the address that the client used. That
costs 0.4 us more for a datagram received and 0.3 us for one sent, too little to look for cases
where the kernel would choose the same address anyway.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
import struct
from collections import deque
from typing import Any

from fastrelay.quic import pktinfo
from fastrelay.quic.recvmmsg import Batch, Received

logger = logging.getLogger(__name__)

Address = tuple[Any, ...]
"""As the socket module gives it: (host, port) or (host, port, flow, scope).

From a socket bound to the wildcard address: (host, port, address as above, control), where
``control`` makes answers leave from the address that the peer used. Equal only if both are:
to QUIC, another address of ours is another path (RFC 9000 section 9).
"""
Datagram = tuple[bytes, Address]

_UDP_SEGMENT = 103
"""linux/udp.h; the socket module does not name it before Python 3.14."""
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3
"""linux/in.h, linux/in6.h."""
_MAX_SEGMENTS = 64
_MAX_PAYLOAD = 65_000
_QUEUE_LIMIT = 4096


class UdpSocket:
    """Sends lists of datagrams; those the kernel cannot take now wait, a bounded number."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = sock
        self._loop = loop
        self._queue: deque[Datagram] = deque()
        self._segmentation = _supports_segmentation(sock)
        self._sources = pktinfo.Sources() if pktinfo.is_requested(sock) else None
        self._batch = Batch(sock, self._sources)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.dropped = 0
        """Datagrams that the kernel refused or that found the queue full."""

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        name: Address = self._socket.getsockname()
        return name

    @property
    def queued(self) -> int:
        """Datagrams that wait until the kernel has room."""
        return len(self._queue)

    @property
    def waiting(self) -> bool:
        """Whether there is something to receive."""
        return bool(self._poll.poll(0))

    def local_address(self, address: Address) -> tuple[str, int]:
        """Where datagrams to an address that :meth:`receive` gave leave from."""
        bound = self.address
        if self._sources is None:
            return bound[0], bound[1]
        return pktinfo.source(address[3]), bound[1]

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Received]:
        """What has arrived, and when, at most a batch.

        :raises OSError: the network answered a datagram of ours with an error (connected
            sockets only); what arrived before is lost to this call, not to the next.
        """
        return self._batch.receive(self._socket.fileno())

    def send(self, datagrams: list[Datagram]) -> None:
        """Send in order, or queue behind what is waiting already.

        On a wildcard socket only to addresses that ``receive`` gave.
        """
        if self._queue:
            self._enqueue(datagrams)
            return
        sent = self._send_now(datagrams)
        if sent < len(datagrams):
            self._enqueue(datagrams[sent:])
            self._loop.add_writer(self._socket.fileno(), self._drain)

    def close(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._queue.clear()
        self._socket.close()

    def _enqueue(self, datagrams: list[Datagram]) -> None:
        room = _QUEUE_LIMIT - len(self._queue)
        self._queue.extend(datagrams[:room])
        self.dropped += max(0, len(datagrams) - room)

    def _drain(self) -> None:
        waiting = list(self._queue)
        sent = self._send_now(waiting)
        for _ in range(sent):
            self._queue.popleft()
        if not self._queue:
            self._loop.remove_writer(self._socket.fileno())

    def _send_now(self, datagrams: list[Datagram]) -> int:
        """How many of them are done with: sent, or given up because of an error."""
        if len(datagrams) == 1 or not self._segmentation:
            return self._send_each(datagrams, 0, len(datagrams))
        position = 0
        while position < len(datagrams):
            end = _run_end(datagrams, position)
            if end - position == 1:
                done = self._send_each(datagrams, position, end)
            else:
                done = self._send_run(datagrams, position, end)
            if done < end:
                return done
            position = end
        return position

    def _send_each(self, datagrams: list[Datagram], start: int, end: int) -> int:
        send, send_message = self._socket.sendto, self._socket.sendmsg
        wildcard = self._sources is not None
        for index in range(start, end):
            data, address = datagrams[index]
            try:
                if wildcard:
                    send_message((data,), address[3], 0, address[2])
                else:
                    send(data, address)
            except BlockingIOError:
                return index
            except OSError as error:
                self._failed(error, address)
        return end

    def _send_run(self, datagrams: list[Datagram], start: int, end: int) -> int:
        """Several datagrams of one size to one peer in one system call (UDP GSO)."""
        size = len(datagrams[start][0])
        data = b"".join([datagrams[index][0] for index in range(start, end)])
        control: pktinfo.Control = ((socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size)),)
        address = datagrams[start][1]
        if self._sources is not None:
            control += address[3]
            address = address[2]
        try:
            self._socket.sendmsg((data,), control, 0, address)
        except BlockingIOError:
            return start
        except OSError as error:
            # A device without checksum offload refuses every segmentation; other errors are
            # this path's, and may not slow down everybody else.
            if error.errno == errno.EIO:
                self._segmentation = False
            return self._send_each(datagrams, start, end)
        return end

    def _failed(self, error: OSError, address: Address) -> None:
        # Filters, a full neighbour table, no route: to QUIC that is a lost packet.
        self.dropped += 1
        logger.debug("sending to %s failed: %s", address[:2], error)


def _run_end(datagrams: list[Datagram], start: int) -> int:
    """The end of the run of datagrams that one segmented send may carry."""
    data, address = datagrams[start]
    size = total = len(data)
    limit = min(len(datagrams), start + _MAX_SEGMENTS)
    end = start + 1
    while end < limit:
        following, peer = datagrams[end]
        total += len(following)
        if peer is not address or len(following) > size or total > _MAX_PAYLOAD:
            break
        end += 1
        if len(following) < size:
            break
    return end


def _supports_segmentation(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def forbid_fragments(sock: socket.socket) -> None:
    """From now on what is larger than the path carries is dropped, not cut into pieces."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    if sock.family == socket.AF_INET or not sock.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    ):
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def bind(host: str, port: int, *, receive_buffer: int, send_buffer: int) -> socket.socket:
    """A bound socket. Host ``""`` or ``"::"``: IPv6 and IPv4 at once, where there is IPv6.

    :raises OSError: the name does not resolve, or the address is taken.
    """
    if host in ("", "::"):
        try:
            return _bind(socket.AF_INET6, ("::", port), receive_buffer, send_buffer)
        except OSError as error:
            if host or error.errno not in _NO_IPV6:
                raise
            host = "0.0.0.0"
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )[0]
    return _bind(family, address, receive_buffer, send_buffer)


def connect(
    family: int, address: Address, *, receive_buffer: int, send_buffer: int
) -> socket.socket:
    """A socket for one peer only, which hears of its ICMP errors."""
    sock = _open(family, receive_buffer, send_buffer)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind(family: int, address: Address, receive_buffer: int, send_buffer: int) -> socket.socket:
    sock = _open(family, receive_buffer, send_buffer)
    try:
        if family == socket.AF_INET6:
            dual = address[0] == "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        if address[0] in _WILDCARDS:
            pktinfo.request(sock)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _open(family: int, receive_buffer: int, send_buffer: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option, size in ((socket.SO_RCVBUF, receive_buffer), (socket.SO_SNDBUF, send_buffer)):
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    return sock


_NO_IPV6 = (97, 99)
"""EAFNOSUPPORT, EADDRNOTAVAIL."""

_WILDCARDS = ("::", "0.0.0.0")
