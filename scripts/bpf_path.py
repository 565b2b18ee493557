"""What a member's copy, and the acknowledgement of it, cost the kernel on their way.

A node's namespace with the programs at a pod's veth; the pod; and everybody else, behind one more
veth. With one CPU for everything, all that a datagram brings about happens within the system call
that sends it, or in this CPU's ksoftirqd: the scheduler's account of both is its cost.

Where the way ends is moved: a step costs what the way to its end costs more than that to the end
before it. Copies: of packets to many members what they cost more than to a few.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bpf.harness import DEVICE, POD_DEVICE, Datapath
from bpf.packets import stream_frame, subgroup_header
from bpf.scenario import RELAY_IPV4, RELAY_PORT, Peer, Scenario
from fastrelay.agent.hooks import Direction
from fastrelay.agent.namespaces import CLONE_NEWNET
from fastrelay.fastpath.layout import ConnectionState, Outcome, Reason

DATAGRAM = 1200
"""UDP payload of the packets."""
ACKNOWLEDGEMENT = 40
"""UDP payload of those that only acknowledge."""
HEAD = subgroup_header(7, 0)
FEW, MANY = 10, 50
PACKETS = 20
"""Of a series; its mean is one value."""
SETTLE_SECONDS = 0.003
"""For what ksoftirqd has still to do."""
NEAR, FAR = "peers0", "peers1"
"""The ends of the peers' veth: the node's and theirs."""
NODE, NODE_TO_PEERS, PEERS = "10.80.1.1", "10.91.0.1", "10.91.0.2"
MACS = {
    NODE: "02:00:00:00:00:01",
    RELAY_IPV4: "02:00:00:00:00:02",
    NODE_TO_PEERS: "02:00:00:00:00:03",
    PEERS: "02:00:00:00:00:04",
}

Datagrams = Sequence[tuple[socket.socket, bytes, tuple[str, int]]]
Ends = tuple[tuple[str, Direction, tuple[str, ...]], ...]
"""Programs at devices; ``drop`` is where the way ends."""

_A = (DEVICE, Direction.EGRESS, ("server_ingress",))
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Nanoseconds:
    """Of many runs. A difference is that of two series, each with its own smallest."""

    least: float
    median: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Nanoseconds:
        return cls(min(values), statistics.median(values))

    def __sub__(self, other: Nanoseconds) -> Nanoseconds:
        return Nanoseconds(self.least - other.least, self.median - other.median)

    def __truediv__(self, divisor: int) -> Nanoseconds:
        return Nanoseconds(self.least / divisor, self.median / divisor)

    def __str__(self) -> str:
        return f"{self.least:,.0f} | {self.median:,.0f}"


def datagrams_of_a_stream(publisher: Peer, offset: int) -> Iterator[bytes]:
    """That go on with stream 2, each as large as can be."""
    while True:
        room = DATAGRAM - len(publisher.datagram(stream_frame(2, b"", 1 << 20)))
        yield publisher.datagram(stream_frame(2, bytes(room), offset, sizes=(None, 4, 2)))
        offset += room


class Network:
    """Around the datapath's namespace, which becomes the node's."""

    def __init__(self, datapath: Datapath, stack: ExitStack) -> None:
        self._datapath = datapath
        pod, peers = _namespace(stack), _namespace(stack)
        _set("ipv4/ip_forward", "1")
        _ip(f"link add {NEAR} type veth peer name {FAR}")
        for device, namespace in ((POD_DEVICE, pod), (FAR, peers)):
            _ip(f"link set {device} netns /proc/{os.getpid()}/fd/{namespace}")
        _up(DEVICE, NODE, RELAY_IPV4)
        _up(NEAR, NODE_TO_PEERS, PEERS)
        _ip(f"route add 10.90.0.0/16 via {PEERS}")
        with _in(pod):
            _up(POD_DEVICE, RELAY_IPV4, NODE)
            _ip(f"route add default via {NODE}")
            self.relay = stack.enter_context(_socket(RELAY_IPV4, RELAY_PORT))
        with _in(peers):
            _up(FAR, PEERS, NODE_TO_PEERS)
            _ip(f"route add default via {NODE_TO_PEERS}")
            _ip("route add local 10.90.0.0/16 dev lo")
            self.publisher, *self.members = (
                stack.enter_context(_socket(f"10.90.0.{index}", 20000 + index))
                for index in range(1 + MANY)
            )

    @contextmanager
    def ending(self, ends: Ends) -> Iterator[None]:
        with ExitStack() as stack:
            for device, direction, names in ends:
                stack.enter_context(
                    self._datapath.attached(
                        *names, device=device, direction=direction, capture=False
                    )
                )
            yield

    def take(self) -> int:
        """All that waits at the sockets; how many datagrams were the members'."""
        _drain(self.relay)
        return sum(_drain(member) for member in self.members)

    @contextmanager
    def waiting_readers(self) -> Iterator[None]:
        """A process on another CPU waits for all that the members get."""
        ready, told = os.pipe()
        reader = os.fork()
        if not reader:
            os.sched_setaffinity(0, _other_cpus())
            poll = select.epoll()
            sockets = {member.fileno(): member for member in self.members}
            for each in sockets:
                poll.register(each, select.EPOLLIN)
            os.write(told, b".")
            while True:
                for each, _ in poll.poll():
                    _drain(sockets[each])
        try:
            os.read(ready, 1)
            yield
        finally:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
            os.close(ready)
            os.close(told)


class Journeys:
    """Series of datagrams on their ways; nanoseconds each."""

    def __init__(self, datapath: Datapath, network: Network) -> None:
        self._datapath = datapath
        self._network = network
        (cpu,) = os.sched_getaffinity(0)
        self._helper = _schedstat(f"ksoftirqd/{cpu}")

    def copies(self, ends: Ends, members: int, *, plaintext: bool = False) -> float:
        """Of a packet to so many members."""
        scenario = Scenario(self._datapath)
        publisher, _ = scenario.simple(members, plaintext=plaintext)
        self._datapath.view("connections")["plaintext"] = plaintext
        self._datapath.view("shared")[0]["slot_limit"] = 1 << 40
        relay, sender = (RELAY_IPV4, RELAY_PORT), self._network.publisher
        with self._network.ending(ends):
            sender.sendto(publisher.datagram(stream_frame(2, HEAD)), relay)
            following = datagrams_of_a_stream(publisher, len(HEAD))
            took = self._series([[(sender, next(following), relay)] for _ in range(PACKETS)])
        counted = self._datapath.counters()
        assert counted[Reason.A_CLONES] == (1 + PACKETS) * members
        if ("client_egress",) in (names[:1] for _, _, names in ends):
            assert counted[Reason.B_OUTCOME + Outcome.SENT] == (1 + PACKETS) * members
        return took / PACKETS

    def from_the_pod(self, ends: Ends) -> float:
        """Of a datagram from the pod's socket to a member's."""
        everybody = [
            (self._network.relay, bytes(DATAGRAM), member.getsockname())
            for member in self._network.members
        ]
        with self._network.ending(ends):
            return self._series([everybody] * PACKETS) / PACKETS / len(everybody)

    def acknowledgements(self, ends: Ends) -> float:
        """Of a datagram from a member's socket to the pod's."""
        scenario = Scenario(self._datapath)
        _, peers = scenario.simple(MANY)
        for peer in peers:
            self._datapath.view("connections")[peer.index]["state"] = ConnectionState.SEND
        everybody = [
            (member, _of_size(peer, ACKNOWLEDGEMENT), (RELAY_IPV4, RELAY_PORT))
            for member, peer in zip(self._network.members, peers, strict=True)
        ]
        with self._network.ending(ends):
            return self._series([everybody] * PACKETS) / PACKETS / len(everybody)

    def _series(self, bursts: Sequence[Datagrams]) -> float:
        self._network.take()
        helper = self._helper()
        took = 0
        for burst in bursts:
            before = time.thread_time_ns()
            for sender, data, address in burst:
                sender.sendto(data, address)
            took += time.thread_time_ns() - before
            self._network.take()
            self._datapath.intents()
            self._datapath.reports()
        time.sleep(SETTLE_SECONDS)
        took += self._helper() - helper
        self._network.take()
        return took


def ways(journeys: Journeys, network: Network) -> dict[str, Callable[[], float]]:
    """Everything that is measured, each once a call."""
    to_clone: Ends = (_A, (DEVICE, Direction.INGRESS, ("drop",)))
    to_b: Ends = (_A, (DEVICE, Direction.INGRESS, ("client_egress", "drop")))
    whole: Ends = (_A, (DEVICE, Direction.INGRESS, ("client_egress",)))
    out: Ends = ((NEAR, Direction.EGRESS, ("drop",)),)
    back: Ends = ((NEAR, Direction.INGRESS, ("drop",)),)
    into_the_node: Ends = ((DEVICE, Direction.INGRESS, ("drop",)),)
    ends = {"clone": to_clone, "B": to_b, "route": whole + out, "socket": whole}
    made: dict[str, Callable[[], float]] = {}
    for members in (FEW, MANY):
        for name, each in ends.items():
            made[f"{name} {members}"] = lambda each=each, members=members: journeys.copies(  # type: ignore[misc]
                each, members
            )
        made[f"plain {members}"] = lambda members=members: journeys.copies(  # type: ignore[misc]
            whole, members, plaintext=True
        )
        made[f"woken {members}"] = lambda members=members: _woken(  # type: ignore[misc]
            network, lambda: journeys.copies(whole, members)
        )
    made["pod sent"] = lambda: journeys.from_the_pod(into_the_node)
    made["pod route"] = lambda: journeys.from_the_pod(out)
    made["pod socket"] = lambda: journeys.from_the_pod(())
    made["ack sent"] = lambda: journeys.acknowledgements(back)
    made["ack bare"] = lambda: journeys.acknowledgements(())
    made["ack A"] = lambda: journeys.acknowledgements((_A,))
    return made


def _woken(network: Network, measure: Callable[[], float]) -> float:
    with network.waiting_readers() if _other_cpus() else nullcontext():
        return measure()


def measured(datapath: Datapath, rounds: int) -> Iterator[tuple[str, Nanoseconds]]:
    """The table's rows. ``datapath`` has all programs and ``drop``; its pod is not as before."""
    with ExitStack() as stack:
        network = Network(datapath, stack)
        every = ways(Journeys(datapath, network), network)
        values: dict[str, list[float]] = {name: [] for name in every}
        for _ in range(rounds):
            for name, measure in every.items():
                values[name].append(measure())
    found = {name: Nanoseconds.of(each) for name, each in values.items()}

    def copy(name: str) -> Nanoseconds:
        return (found[f"{name} {MANY}"] - found[f"{name} {FEW}"]) / (MANY - FEW)

    yield "a copy: made by A, through the backlog", copy("clone")
    yield "program B", copy("B") - copy("clone")
    yield "routed to the peers' veth", copy("route") - copy("B")
    yield "the veth, the peer's socket", copy("socket") - copy("route")
    yield "**a copy, together**", copy("socket")
    yield "the same without encryption", copy("plain")
    if _other_cpus():
        yield "more, if each wakes a process on another CPU", copy("woken") - copy("socket")
    yield (
        "for comparison, a datagram of the pod's socket: through veth, route, veth, to the socket",
        found["pod socket"] - found["pod sent"],
    )
    yield "of it, the veth and the peer's socket", found["pod socket"] - found["pod route"]
    yield "and before, what the pod's system call is charged", found["pod sent"]
    yield (
        "an acknowledgement: from the peers' veth to the pod's socket, without programs",
        found["ack bare"] - found["ack sent"],
    )
    yield "program A looks at it", found["ack A"] - found["ack bare"]
    yield "**an acknowledgement, together**", found["ack A"] - found["ack sent"]


def section(datapath: Datapath, rounds: int) -> Iterator[str]:
    """Of the report, in lines. ``datapath``: as for :func:`measured`."""
    yield "## The whole way"
    yield ""
    yield f"A packet of {DATAGRAM} bytes to {MANY} members, and from each of them an"
    yield f"acknowledgement of {ACKNOWLEDGEMENT} bytes, between network namespaces, all on one CPU."
    yield "Times are the scheduler's account of what is done within the system calls that send;"
    yield f"steps are differences between ways. {rounds} series of {PACKETS} packets."
    yield ""
    yield "| | ns, least | median |"
    yield "|---|---:|---:|"
    for name, duration in measured(datapath, rounds):
        yield f"| {name} | {duration} |"
    yield ""
    yield "A copy without encryption is what no cipher could be below. The difference is 21 blocks"
    yield "of ChaCha20 (19 of text, one for the MAC's key, one for header protection) and 77 of"
    yield "Poly1305. BPF has no rotation: a multiplication and a shift stand for it, which makes a"
    yield "block's chain of dependent instructions 480 cycles long, 280 with rotations. So two"
    yield "blocks go side by side, a round of one and then a round of the other. Then what counts"
    yield "is not the chain, but that a processor has one multiplier, for 320 rotations a block,"
    yield "and the number of instructions: 1,750 a block, 1,280 of them ChaCha20's own; most others"
    yield "move words between registers and stack. Header protection's block is alone: it waits for"
    yield "the text. Poly1305 has 16 products a block, and each block waits for the one before. A"
    yield "keystream that was made ahead spares 20 of the 21 blocks; here there are none."
    yield ""
    yield "`make bench` finds more for a delivered object: there packets are handed over between"
    yield "CPUs, processes are woken, caches are cold, and acknowledgements count, too."


def _of_size(peer: Peer, size: int) -> bytes:
    return peer.datagram(bytes(size - len(peer.datagram(bytes(4))) + 4))


def _other_cpus() -> set[int]:
    return set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)


def _schedstat(process: str) -> Callable[[], int]:
    """Nanoseconds that a thread of the kernel's has run."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text() == f"{process}\n":
            account = comm.with_name("schedstat")
            return lambda: int(account.read_text().split()[0])
    raise RuntimeError(f"no {process}: not in the first namespace of processes")


def _socket(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.setblocking(False)
    return made


def _drain(receiver: socket.socket) -> int:
    count = 0
    while True:
        try:
            receiver.recv(2048)
        except BlockingIOError:
            return count
        count += 1


def _namespace(stack: ExitStack) -> int:
    """A new one, which goes with its descriptor."""
    with _in(None):
        made = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, made)
        _set("ipv6/conf/all/disable_ipv6", "1")
    return made


@contextmanager
def _in(namespace: int | None) -> Iterator[None]:
    """This thread, in a namespace; None: in a new one."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entered = (
            _libc.unshare(CLONE_NEWNET)
            if namespace is None
            else _libc.setns(namespace, CLONE_NEWNET)
        )
        if entered:
            raise OSError(ctypes.get_errno(), "a network namespace cannot be entered")
        yield
    finally:
        _libc.setns(before, CLONE_NEWNET)
        os.close(before)


def _up(device: str, address: str, neighbour: str) -> None:
    """Neighbours are known, so that nobody asks for them where the way ends early."""
    _ip("link set lo up")
    _ip(f"link set {device} address {MACS[address]} up")
    _ip(f"address add {address}/24 dev {device}")
    _ip(f"neigh replace {neighbour} lladdr {MACS[neighbour]} dev {device} nud permanent")


def _set(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)
