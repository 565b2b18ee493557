"""The programs of ``bpf/`` with maps of their own, run on packets that a test makes.

:class:`Datapath` creates every map of :data:`fastrelay.fastpath.layout.MAPS`, compiles programs
with bcc against them, and runs them by ``BPF_PROG_TEST_RUN`` on a veth in a network namespace of
its own. Maps are numpy views where the kernel allows it, so a test reads and writes fields::

    datapath.view("connections")[3]["state"] = ConnectionState.SEND

Clones that a program makes come back on that device, through the programs given to
:meth:`Datapath.attached`, and end in a capture. Everything is tied to file descriptors and to
an unnamed namespace: nothing stays when the process ends, whatever it dies of.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, pack, pack_into, unpack_from
from typing import Any

import numpy as np

from bpf import bytecode
from fastrelay.agent import clsact, maps, programs, syscalls, tcx, versions
from fastrelay.agent.hooks import CFLAGS, Direction, End
from fastrelay.agent.programs import AttachType, ProgramKind
from fastrelay.agent.syscalls import Command
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import MapKind, Reason, Stage
from fastrelay.fastpath.maps import TABLES, ArrayMap, Maps
from fastrelay.fastpath.tables import Table
from streams import SEED

DEVICE = "host0"
"""The host end of the pod's veth, as it were."""
POD_DEVICE = "pod0"
DEVICE_MTU = 1500
TC_ACT_UNSPEC = -1
TC_ACT_SHOT = 2
FENCE_MARK = 0x0FE2CE00
CAPTURED_BYTES = 1 << 24
PROBE_SIZE = 1 << 13
CAPTURED = Struct("<13I")
PACKET_ROOM = 1 << 16
CONTEXT = Struct("<8xI28xI4x5I96xI8xI")
"""``struct __sk_buff``: mark, ifindex, cb, gso_segs, gso_size."""
FOUND = Struct("<8xI36x5I")
REQUEST = Struct("<IIIIQQIIIIQQ")
ANSWER = Struct("<iII")
"""Of PROG_TEST_RUN at 4: verdict, (packet's room), packet's length; its duration is at 36."""
DURATION = Struct("<I")
CLONE_NEWNET = 0x40000000
OWN_MAPS = (
    layout.Map("captured", MapKind.RINGBUF, 0, 0, CAPTURED_BYTES),
    layout.Map("probe", MapKind.ARRAY, 4, PROBE_SIZE, 1, mmap=True),
)

_libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    """A BPF ring buffer, read from user space."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = size
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer = mmap.mmap(
            fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )

    def drain(self) -> list[bytes]:
        """All records there are, in order; those that were discarded left out."""
        page = mmap.PAGESIZE
        (at,) = unpack_from("<Q", self._consumer)
        (end,) = unpack_from("<Q", self._producer)
        records = []
        while at < end:
            where = page + (at & (self._size - 1))
            (header,) = unpack_from("<I", self._producer, where)
            assert not header >> 31, "a record was reserved and neither submitted nor discarded"
            length = header & 0x3FFFFFFF
            if not header >> 30:
                records.append(self._producer[where + 8 : where + 8 + length])
            at += (length + 8 + 7) & ~7
        pack_into("<Q", self._consumer, 0, at)
        return records

    @contextmanager
    def full(self) -> Iterator[None]:
        """As if it had not been read for long: the kernel finds no room. Not to be drained."""
        (at,) = unpack_from("<Q", self._consumer)
        (end,) = unpack_from("<Q", self._producer)
        pack_into("<Q", self._consumer, 0, (end - self._size) % (1 << 64))
        try:
            yield
        finally:
            pack_into("<Q", self._consumer, 0, at)

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()


@dataclass(frozen=True, slots=True)
class Captured:
    """A packet that came out of the programs on the device."""

    data: bytes
    pkt_type: int
    mark: int
    queue_mapping: int
    tc_index: int
    hash: int
    cb: tuple[int, ...]
    gso_size: int
    ifindex: int


@dataclass(frozen=True, slots=True)
class Result:
    """What PROG_TEST_RUN says. ``action``: ``TC_ACT_*``; ``duration``: ns a run."""

    action: int
    data: bytes
    mark: int
    cb: tuple[int, ...]
    duration: int


class Runner:
    """PROG_TEST_RUN for many packets: memory and request stay, and only change."""

    def __init__(self) -> None:
        self._packet = ctypes.create_string_buffer(PACKET_ROOM)
        self._made = ctypes.create_string_buffer(PACKET_ROOM)
        self._context = ctypes.create_string_buffer(programs.SK_BUFF_SIZE)
        self._context_made = ctypes.create_string_buffer(programs.SK_BUFF_SIZE)
        self._request = ctypes.create_string_buffer(syscalls.ATTRIBUTES)
        self._packet_view = memoryview(self._packet).cast("B")
        self._made_view = memoryview(self._made).cast("B")

    def run(
        self,
        program: int,
        packet: bytes,
        ifindex: int,
        mark: int,
        cb: Sequence[int],
        gso_size: int,
        repeat: int,
    ) -> Result:
        length = len(packet)
        self._packet_view[:length] = packet
        CONTEXT.pack_into(
            self._context,
            0,
            mark,
            ifindex,
            *cb,
            *(0,) * (5 - len(cb)),
            -(-length // gso_size) if gso_size else 0,
            gso_size,
        )
        size, addressof = programs.SK_BUFF_SIZE, ctypes.addressof
        REQUEST.pack_into(
            self._request,
            0,
            program,
            0,
            length,
            PACKET_ROOM,
            addressof(self._packet),
            addressof(self._made),
            repeat,
            0,
            size,
            size,
            addressof(self._context),
            addressof(self._context_made),
        )
        syscalls.invoke(Command.PROG_TEST_RUN, self._request, "run a program")
        action, _, made = ANSWER.unpack_from(self._request, 4)
        found_mark, *found_cb = FOUND.unpack_from(self._context_made)
        (duration,) = DURATION.unpack_from(self._request, 36)
        data = self._made_view[:made].tobytes()
        return Result(action, data, found_mark, tuple(found_cb), duration)


class Datapath:
    """Maps, programs, a device. Use as a context manager, one at a time in a thread."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._maps: dict[str, int] = {}
        self._views: dict[str, np.ndarray[Any, Any]] = {}
        self._memory: dict[str, mmap.mmap] = {}
        self._loaded: dict[tuple[object, ...], dict[str, int]] = {}
        self._tables: dict[str, Table] = {}
        self.programs: dict[str, int] = {}
        self.probe: mmap.mmap
        """What a test's own program works on; its structure is the test's."""
        self.ifindex = 0
        self._of_thread = threading.local()

    def __enter__(self) -> Datapath:
        with ExitStack() as stack:
            self._enter_namespace(stack)
            self._stay_on_one_cpu(stack)
            for each in (*layout.MAPS, *OWN_MAPS):
                self._maps[each.name] = maps.create(each)
                stack.callback(os.close, self._maps[each.name])
                if each.mmap:
                    self._map_memory(each)
            self.probe = self._memory["probe"]
            self._rings = {
                "intents": Ring(self._maps["intents"], layout.INTENTS_BYTES),
                "reports": Ring(self._maps["reports"], layout.REPORTS_BYTES),
                "acks": Ring(self._maps["acks"], layout.ACKS_BYTES),
                "captured": Ring(self._maps["captured"], CAPTURED_BYTES),
            }
            for ring in self._rings.values():
                stack.callback(ring.close)
            self._cleanup = stack.pop_all()
        self.load(Path(__file__).with_name("capture.c"), [f"-DFENCE_MARK={FENCE_MARK}"])
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # Set-up

    def _enter_namespace(self, stack: ExitStack) -> None:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, before)
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "a network namespace cannot be made; root is needed")
        stack.callback(_libc.setns, before, CLONE_NEWNET)
        commands = (
            f"link add {DEVICE} type veth peer name {POD_DEVICE}",
            f"link set {DEVICE} mtu {DEVICE_MTU} addrgenmode none up",
            f"link set {POD_DEVICE} mtu {DEVICE_MTU} addrgenmode none up",
        )
        for command in commands:
            _run_ip(command)
        self.ifindex = socket.if_nametoindex(DEVICE)

    def _stay_on_one_cpu(self, stack: ExitStack) -> None:
        """The order of clones is that of the backlog, which is one per CPU."""
        allowed = os.sched_getaffinity(0)
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        os.sched_setaffinity(0, {sorted(allowed)[worker % len(allowed)]})
        stack.callback(os.sched_setaffinity, 0, allowed)

    def _map_memory(self, each: layout.Map) -> None:
        size = -(-each.entries * each.value // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory[each.name] = mmap.mmap(self._maps[each.name], size)
        if each in layout.MAPS:
            element = layout.ELEMENTS.get(each.name)
            dtype = np.dtype("u8") if element is None else element.dtype
            self._views[each.name] = np.frombuffer(self._memory[each.name], dtype, each.entries)

    def load(
        self,
        source: Path | str,
        cflags: Sequence[str] = (),
        *,
        protocol: str = "protocol_moqt.h",
        include: Sequence[Path] = (),
        end: End = End.HOST,
        kind: ProgramKind = ProgramKind.SCHED_CLS,
    ) -> dict[str, int]:
        """Compile and load a file (a name: of ``bpf/``); stages go into ``programs``.

        Returns the programs' file descriptors, which are in :attr:`programs` too. What was
        loaded once is taken again.
        """
        ours = isinstance(source, str)
        path = bytecode.BPF / source
        where = (bytecode.BPF, *include)
        flags = (*CFLAGS[end], f'-DPROTOCOL_HEADER="{protocol}"', *cflags)
        if (path, where, flags) not in self._loaded:
            self._loaded[path, where, flags] = loaded = {}
            # Then the agent's cache has it, too.
            names = versions.MAPS if ours else tuple(self._maps)
            for name, program in bytecode.compiled(path, where, flags, names).items():
                loaded[name] = programs.load(name, program.linked(self._maps), kind)
                self._cleanup.callback(os.close, loaded[name])
        loaded = self._loaded[path, where, flags]
        for name, fd in loaded.items():
            if name.upper() in Stage.__members__:
                self.update("programs", pack("<I", Stage[name.upper()]), pack("<I", fd))
        self.programs.update(loaded)
        return loaded

    # Maps

    def table(self, name: str) -> Table:
        """One of ``TABLES``, as the relay uses it; :meth:`clear` ends it."""
        return self._tables[name]

    def relay_maps(self, *names: str) -> Maps:
        """These, as the relay has them; :meth:`clear` ends it."""
        found = Maps()
        for each in layout.MAPS:
            if each.name in names:
                table = self._tables.get(each.name)
                setattr(found, each.name, table or ArrayMap(each, self._memory[each.name]))
        return found

    def view(self, name: str) -> np.ndarray[Any, Any]:
        """An array map as a numpy array over the kernel's own memory."""
        return self._views[name]

    def descriptor(self, name: str) -> int:
        """Of a map; it stays the harness's."""
        return self._maps[name]

    def update(self, name: str, key: bytes, value: bytes) -> None:
        syscalls.update(self._maps[name], key, value)

    def delete(self, name: str, key: bytes) -> None:
        assert syscalls.delete(self._maps[name], key)

    def counters(self) -> dict[Reason | int, int]:
        """Those that are not 0, of all CPUs together. Outcomes: ``B_OUTCOME`` and the outcome."""
        counted: dict[Reason | int, int] = {}
        totals = self.view("counters").reshape(layout.CPUS, layout.COUNTERS).sum(axis=0)
        for reason in np.flatnonzero(totals).tolist():
            counted[Reason(reason) if reason in _REASONS else reason] = int(totals[reason])
        return counted

    def intents(self) -> np.ndarray[Any, Any]:
        """Drained, as records of :data:`layout.INTENT`."""
        return _records(self._rings["intents"].drain(), layout.INTENT)

    def reports(self) -> np.ndarray[Any, Any]:
        """Drained, as records of :data:`layout.REPORT`."""
        return _records(self._rings["reports"].drain(), layout.REPORT)

    def acks(self) -> np.ndarray[Any, Any]:
        return _records(self._rings["acks"].drain(), layout.ACK)

    def full(self, ring: str) -> AbstractContextManager[None]:
        """No room in a ring, as long as it lasts."""
        return self._rings[ring].full()

    def clear(self) -> None:
        """All maps as new; the rings are drained, programs stay."""
        for memory in self._memory.values():
            np.frombuffer(memory, "u8").fill(0)
        shared = self.view("shared")[0]
        shared["layout"], shared["seed"] = layout.DIGEST, SEED
        seed = layout.SHARED.word("seed")
        words = memoryview(self._memory["shared"]).cast("Q")
        self._tables = {
            name: Table(memoryview(self._memory[name]).cast("Q"), words[seed : seed + 2])
            for name in TABLES
        }
        for table in self._tables.values():
            table.clear()
        for ring in self._rings.values():
            ring.drain()

    # Runs

    def run(
        self,
        program: str,
        packet: bytes,
        *,
        mark: int = 0,
        cb: Sequence[int] = (),
        gso_size: int = 0,
        repeat: int = 1,
    ) -> Result:
        """One packet (Ethernet header first) through a program, on our device."""
        if not hasattr(self._of_thread, "runner"):
            self._of_thread.runner = Runner()
        made: Result = self._of_thread.runner.run(
            self.programs[program], packet, self.ifindex, mark, cb, gso_size, repeat
        )
        return made

    @contextmanager
    def attached(
        self,
        *names: str,
        device: str = DEVICE,
        direction: Direction = Direction.INGRESS,
        capture: bool = True,
    ) -> Iterator[None]:
        """These programs at a device, in this order, and behind them the capture."""
        ifindex = socket.if_nametoindex(device)
        wanted = (*names, "capture") if capture else names
        with ExitStack() as stack:
            # The newest goes to the head.
            for name in reversed(wanted):
                if tcx.supported():
                    kind = _TCX[direction]
                    link = programs.create_link(self.programs[name], ifindex, kind)
                    stack.callback(os.close, link)
                else:
                    clsact.ensure(name, self.programs[name], ifindex, direction, lambda: None)
                    stack.callback(clsact.remove, name, ifindex, direction)
            yield

    @contextmanager
    def device_down(self) -> Iterator[None]:
        """The device is down, as when the pod goes away."""
        _run_ip(f"link set {DEVICE} down")
        try:
            yield
        finally:
            _run_ip(f"link set {DEVICE} up")

    def captured(self) -> list[Captured]:
        """What came to the device since the last call; waits until all clones have."""
        found: list[Captured] = []
        self.run("fence", bytes(12) + b"\x88\xb5" + bytes(46))
        for _ in range(_FENCE_LOOKS):
            for record in self._rings["captured"].drain():
                length, *fields = CAPTURED.unpack_from(record)
                pkt_type, mark, queue_mapping, tc_index, hashed, *cb, gso_size, ifindex = fields
                if mark == FENCE_MARK:
                    return found
                data = record[CAPTURED.size : CAPTURED.size + length]
                if data.startswith(_TO_GROUPS):
                    continue
                found.append(
                    Captured(
                        data,
                        pkt_type,
                        mark,
                        queue_mapping,
                        tc_index,
                        hashed,
                        tuple(cb),
                        gso_size,
                        ifindex,
                    )
                )
            os.sched_yield()
        raise AssertionError("the device swallowed a packet: nothing came back")


_FENCE_LOOKS = 1_000_000
_TO_GROUPS = (b"\x33\x33", b"\x01\x00\x5e", b"\xff\xff\xff\xff\xff\xff")
"""How the MAC addresses of groups begin that the kernel's own packets go to (RFC 2464 section 7,
RFC 1112 section 6.4, ARP): it asks for neighbours and tells routers what it listens to, when it
likes. Ours may go to others: the fuzzer turns any bit over."""
_TCX = {
    Direction.INGRESS: AttachType.TCX_INGRESS,
    Direction.EGRESS: AttachType.TCX_EGRESS,
}
_REASONS = {int(reason) for reason in Reason}


def _run_ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)


def _records(raw: list[bytes], struct: layout.Struct) -> np.ndarray[Any, Any]:
    size = struct.dtype.itemsize
    assert all(len(record) == size for record in raw), f"a record that is no {struct.name}"
    return np.frombuffer(b"".join(raw), struct.dtype)
