"""Packets from real sockets through program A where it is attached in earnest: at the egress of
the host end of a veth. What PROG_TEST_RUN cannot make, comes this way: GSO super-packets,
checksums that are only begun, a flow's hash."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bpf.harness import DEVICE, POD_DEVICE, Captured, Datapath
from bpf.packets import POD_MAC, Path
from bpf.scenario import RELAY_IPV4, RELAY_IPV6
from fastrelay.agent.hooks import Direction

UDP_SEGMENT = 103


class Wire:
    """The node's side. What arrives at the pod, and the clones, end in captures."""

    def __init__(self, datapath: Datapath, stack: ExitStack) -> None:
        self.datapath = datapath
        self._stack = stack
        mac = ":".join(f"{byte:02x}" for byte in POD_MAC)
        for relay in (RELAY_IPV4, RELAY_IPV6):
            _ip(f"route replace {relay} dev {DEVICE}")
            _ip(f"neigh replace {relay} lladdr {mac} dev {DEVICE}")

    def socket(self, path: Path) -> socket.socket:
        """A publisher's, at its address and port, connected to the relay."""
        family = socket.AF_INET if path.family == 4 else socket.AF_INET6
        bits = 32 if path.family == 4 else 128
        nodad = ["nodad"] if path.family == 6 else []
        _ip(f"addr replace {path.source}/{bits} dev {DEVICE}", *nodad)
        made = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        made.bind((path.source, path.source_port))
        made.connect((path.destination, path.destination_port))
        return made

    def send(self, sender: socket.socket, datagrams: list[bytes]) -> list[Captured]:
        """One super-packet, unless it is one datagram; all but the last of one size. Returns
        what came to the pod and to the node."""
        size = len(datagrams[0]) if len(datagrams) > 1 else 0
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        sender.send(b"".join(datagrams))
        return self.datapath.captured()


def _ip(command: str, *more: str) -> None:
    subprocess.run(["ip", *command.split(), *more], check=True, stdin=subprocess.DEVNULL)


@contextmanager
def attached(datapath: Datapath) -> Iterator[Wire]:
    """Program A at the host end's egress. What is at its ingress, where clones come, is the
    caller's business: see :meth:`Datapath.attached`."""
    with ExitStack() as stack:
        stack.enter_context(
            datapath.attached("server_ingress", direction=Direction.EGRESS, capture=False)
        )
        stack.enter_context(datapath.attached(device=POD_DEVICE))
        yield Wire(datapath, stack)
