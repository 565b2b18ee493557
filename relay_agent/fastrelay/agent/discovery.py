"""From a pod's address to the host's end of its veth, without a word of the container runtime.

The kernel tells each veth's peer (its index, and an id of the namespace it is in) and lists the
addresses inside a namespace by that id. CAP_NET_ADMIN suffices; without it the list is empty.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

NAMESPACES = (Path("/run/netns"),)
"""Where container runtimes, and iproute2, keep files of namespaces."""

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/net_namespace.h
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWNSID, _RTM_GETNSID = 20, 22, 88, 90
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_NETNSA_NSID, _NETNSA_FD = 1, 3
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotFoundError(Exception):
    """No veth leads to the pod; the message says what was looked at."""


@dataclass(frozen=True, slots=True)
class Veth:
    """Both ends: ``ifindex`` and ``device`` here, ``pod_ifindex`` in the pod's namespace."""

    ifindex: int
    device: str
    namespace_id: int
    pod_ifindex: int


@dataclass(frozen=True, slots=True)
class Scan:
    """All veths of this namespace that lead into others, and the addresses behind them."""

    veths: int
    by_address: dict[Address, list[Veth]]

    def find(self, addresses: Sequence[str]) -> Veth:
        """The veth of the pod that has one of these addresses.

        :raises NotFoundError: there is none, or more than one.
        """
        found = {
            veth
            for address in addresses
            for veth in self.by_address.get(ipaddress.ip_address(address), [])
        }
        if len(found) == 1:
            return found.pop()
        wanted = " or ".join(addresses)
        if found:
            devices = ", ".join(sorted(veth.device for veth in found))
            raise NotFoundError(f"{wanted}: more than one veth leads there: {devices}")
        if self.veths and not self.by_address:
            raise NotFoundError(
                f"{wanted}: no address at all is seen behind {self.veths} veths; "
                "the agent lacks CAP_NET_ADMIN in the host's network namespace"
            )
        raise NotFoundError(
            f"{wanted}: none of {self.veths} veths leads to it; the pod is not up yet, "
            "or its network has no veth with an end in this network namespace"
        )


def scan() -> Scan:
    """Look at the network namespace of the calling thread."""
    veths = list(_veths())
    by_address: dict[Address, list[Veth]] = {}
    for number in {veth.namespace_id for veth in veths}:
        behind = list(_addresses(number))
        for veth in veths:
            for ifindex, address in behind:
                if (veth.namespace_id, veth.pod_ifindex) == (number, ifindex):
                    by_address.setdefault(address, []).append(veth)
    return Scan(len(veths), by_address)


def namespace_of(veth: Veth, directories: Sequence[Path] = NAMESPACES) -> Path:
    """The file of the namespace of the pod's end.

    :raises NotFoundError: none of the directories has it.
    """
    for directory in directories:
        for path in directory.iterdir() if directory.is_dir() else ():
            if _namespace_id(path) == veth.namespace_id:
                return path
    looked = ", ".join(map(str, directories))
    raise NotFoundError(f"no file in {looked} is the namespace that {veth.device} leads to")


def _veths() -> Iterator[Veth]:
    with closing(IPRoute()) as ipr:
        for link in ipr.get_links():
            namespace, peer = link.get("link_netnsid"), link.get("link")
            if link.get(("linkinfo", "kind")) == "veth" and namespace is not None and peer:
                yield Veth(link["index"], link.get("ifname"), namespace, peer)


def _addresses(namespace_id: int) -> Iterator[tuple[int, Address]]:
    """Interface and address of each address inside a namespace; link-local ones left out."""
    body = bytes(8) + struct.pack("=HHi", 8, _IFA_TARGET_NETNSID, namespace_id)
    try:
        for kind, message in _ask(_RTM_GETADDR, _REQUEST | _DUMP, body):
            if kind != _RTM_NEWADDR:
                continue
            ifindex = struct.unpack_from("=I", message, 4)[0]
            attributes = dict(_attributes(message[8:]))
            raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
            if raw is not None and not (address := ipaddress.ip_address(raw)).is_link_local:
                yield ifindex, address
    except OSError:
        return  # the namespace went away meanwhile, or we may not look into it


def _namespace_id(path: Path) -> int | None:
    """The id by which the calling thread's namespace knows the one of a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        body = bytes(4) + struct.pack("=HHI", 8, _NETNSA_FD, descriptor)
        for kind, message in _ask(_RTM_GETNSID, _REQUEST, body):
            if kind == _RTM_NEWNSID and (raw := dict(_attributes(message[4:])).get(_NETNSA_NSID)):
                return int(struct.unpack("=i", raw)[0])
    except OSError:
        return None  # not a namespace's file
    finally:
        os.close(descriptor)
    return None


def _ask(kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of the answers. pyroute2 cannot write these two requests."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        while True:
            data = netlink.recv(1 << 16)
            at = 0
            while at < len(data):
                length, answer, _, _, _ = _HEADER.unpack_from(data, at)
                message = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", message)[0]
                    raise OSError(code, os.strerror(code))
                if answer == _DONE:
                    return
                yield answer, message
                if not flags & _DUMP & ~_REQUEST:
                    return


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
