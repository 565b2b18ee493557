"""To which of the host's addresses a datagram came, and from which one the answer leaves.

A socket bound to the wildcard address is there for all addresses of the host, but what it
sends leaves from the one that the route back prefers, and a client that asked another address
drops that. So the kernel is asked for the destination of each datagram, and told the source
of each answer: IP_PKTINFO (ip(7)), IPV6_PKTINFO (RFC 3542 section 6), the latter also for the
IPv4 peers of an IPv6 socket, whose addresses are mapped ones then.
"""

from __future__ import annotations

import socket

Control = tuple[tuple[int, int, bytes], ...]
"""Ancillary data as ``sendmsg`` takes it."""

SPACE = socket.CMSG_SPACE(20)
"""Room for one in6_pktinfo, the larger of the two."""

_IP_PKTINFO = 8
"""linux/in.h; the socket module does not name it before Python 3.14."""
_MAX_KNOWN = 1024
_ANY_INDEX = bytes(4)


def request(sock: socket.socket) -> None:
    """Have the kernel tell destinations; before binding, so that no datagram goes without."""
    sock.setsockopt(*_option(sock), 1)


def is_requested(sock: socket.socket) -> bool:
    return sock.getsockopt(*_option(sock)) != 0


def _option(sock: socket.socket) -> tuple[int, int]:
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO
    return socket.IPPROTO_IP, _IP_PKTINFO


class Sources(dict[bytes, Control]):
    """From the pktinfo of a datagram received to the ancillary data of its answers.

    A host has few addresses, so each is packed once; there are more only where a whole prefix
    is local, and then it begins anew now and then.
    """

    def __missing__(self, received: bytes) -> Control:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        control = self[received] = (_answering(received),)
        return control


def source(control: Control) -> str:
    """The address that answers with such ancillary data leave from; mapped ones as they are."""
    level, _, data = control[0]
    if level == socket.IPPROTO_IP:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    return socket.inet_ntop(socket.AF_INET6, data[:16])


def _answering(received: bytes) -> tuple[int, int, bytes]:
    # The interface is left to the routes, as ever, except where the address needs it.
    if len(received) == 12:  # in_pktinfo: interface, local address, destination in the header
        return socket.IPPROTO_IP, _IP_PKTINFO, _ANY_INDEX + received[4:8] + bytes(4)
    address, index = received[:16], received[16:]  # in6_pktinfo
    link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address + (index if link_local else _ANY_INDEX)
