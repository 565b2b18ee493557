"""Programs, links and ids: the part of bpf(2) that needs privileges.

Source: ``include/uapi/linux/bpf.h``, Linux 6.1 to 6.18. Errors as in ``syscalls.py``.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum, IntFlag
from typing import NamedTuple

from fastrelay.agent.syscalls import (
    ATTRIBUTES,
    NAME_LENGTH,
    Command,
    buffer_of,
    call,
    info,
    invoke,
    text,
)

SK_BUFF_SIZE = 192
"""``struct __sk_buff``: the context of :func:`run`."""


LOG_SIZE = 1 << 24
"""Bytes for what the verifier says."""
ATTEMPTS = 5
"""The verifier gives up (EAGAIN) for a signal, and when the process is frozen: it begins anew."""
_INSTRUCTION_SIZE = 8
_HAS_FRAGMENTS = 1 << 5
"""An XDP program that reads with helpers alone, so that no device has to keep packets small."""
_LICENCE = b"GPL"  # some of the kernel's helpers are for nobody else


class RefusedError(OSError):
    """The kernel does not take a program. ``log``: why, in the verifier's words."""

    def __init__(self, error: OSError, log: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.log = log


class ProgramKind(IntEnum):
    """``enum bpf_prog_type``."""

    SCHED_CLS = 3
    XDP = 6


class AttachType(IntEnum):
    """Directions as the device sees them: ingress is what it receives."""

    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class LinkFlags(IntFlag):
    """Where in the list a new link goes; without a relative: at its very head or end."""

    NONE = 0
    BEFORE = 1 << 3
    AFTER = 1 << 4


class XdpFlags(IntFlag):
    """How a device runs a program: before it makes a packet of what it received, or after."""

    GENERIC = 1 << 1
    NATIVE = 1 << 2


class ObjectKind(IntEnum):
    """What has ids; the value is the first command for it."""

    PROGRAM = 0
    MAP = 1
    LINK = 2


_NEXT_ID = {
    ObjectKind.PROGRAM: Command.PROG_GET_NEXT_ID,
    ObjectKind.MAP: Command.MAP_GET_NEXT_ID,
    ObjectKind.LINK: Command.LINK_GET_NEXT_ID,
}
_BY_ID = {
    ObjectKind.PROGRAM: Command.PROG_GET_FD_BY_ID,
    ObjectKind.MAP: Command.MAP_GET_FD_BY_ID,
    ObjectKind.LINK: Command.LINK_GET_FD_BY_ID,
}


class ProgramInfo(NamedTuple):
    """Sizes in bytes. ``run_ns`` and ``runs`` are counted while kernel.bpf_stats_enabled is 1."""

    kind: int
    id: int
    name: str
    tag: str
    translated: int
    jited: int
    verified: int
    """Instructions that the verifier looked at."""
    run_ns: int
    runs: int
    maps: tuple[int, ...]
    """Ids."""


class LinkInfo(NamedTuple):
    """``ifindex``: 0 when the device is gone. Both last are of TCX and XDP links only, and
    ``attach_type`` of the former."""

    kind: int
    id: int
    program: int
    ifindex: int
    attach_type: int


class Attached(NamedTuple):
    """A program in a device's list; ``link`` is 0 when it was attached without one."""

    program: int
    link: int


class Run(NamedTuple):
    """``duration``: nanoseconds of one repetition, on average."""

    result: int
    data: bytes
    context: bytes
    duration: int


def ids(kind: ObjectKind) -> Iterator[int]:
    """Ids of all objects of a kind in this kernel. Needs CAP_SYS_ADMIN."""
    current = 0
    while True:
        attributes = buffer_of(struct.pack("<III", current, 0, 0).ljust(ATTRIBUTES, b"\0"))
        try:
            invoke(_NEXT_ID[kind], attributes, f"next {kind.name.lower()} id")
        except FileNotFoundError:
            return
        current = struct.unpack_from("<I", attributes.raw, 4)[0]
        yield current


def by_id(kind: ObjectKind, number: int) -> int:
    """:raises FileNotFoundError: it is gone. Needs CAP_SYS_ADMIN."""
    what = f"open {kind.name.lower()} {number}"
    return call(_BY_ID[kind], struct.pack("<III", number, 0, 0), what)


def load(name: str, instructions: bytes, kind: ProgramKind = ProgramKind.SCHED_CLS) -> int:
    """A new program. Needs CAP_BPF and CAP_NET_ADMIN.

    :raises RefusedError: EINVAL, EACCES and others: see ``log``; EPERM: for want of capabilities.
    """
    try:
        return _load(name, instructions, kind, None)
    except OSError:
        log = ctypes.create_string_buffer(LOG_SIZE)
        try:
            return _load(name, instructions, kind, log)
        except OSError as error:
            raise RefusedError(error, log.value.decode(errors="replace")) from error


def _load(
    name: str, instructions: bytes, kind: ProgramKind, log: ctypes.Array[ctypes.c_char] | None
) -> int:
    code, licence = buffer_of(instructions), buffer_of(_LICENCE + b"\0")
    attributes = struct.pack(
        "<IIQQIIQII16s",
        kind,
        len(instructions) // _INSTRUCTION_SIZE,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        *((0, 0, 0) if log is None else (1, LOG_SIZE, ctypes.addressof(log))),
        0,
        _HAS_FRAGMENTS if kind is ProgramKind.XDP else 0,
        name.encode()[:NAME_LENGTH],
    )
    for _ in range(ATTEMPTS - 1):
        with suppress(BlockingIOError):
            return call(Command.PROG_LOAD, attributes, f"load {name}")
    return call(Command.PROG_LOAD, attributes, f"load {name}")


def program_info(fd: int) -> ProgramInfo:
    count = struct.unpack_from("<I", info(fd, bytes(224), "program"), 52)[0]
    used = (ctypes.c_uint32 * max(count, 1))()
    request = bytearray(224)
    struct.pack_into("<IQ", request, 52, count, ctypes.addressof(used))
    found = info(fd, bytes(request), "program")
    kind, number, tag, jited, translated = struct.unpack_from("<II8sII", found)
    run_ns, runs, _, verified = struct.unpack_from("<QQQI", found, 192)
    return ProgramInfo(
        kind=kind,
        id=number,
        name=text(found[64:80]),
        tag=tag.hex(),
        translated=translated,
        jited=jited,
        verified=verified,
        run_ns=run_ns,
        runs=runs,
        maps=tuple(used[:count]),
    )


def link_info(fd: int) -> LinkInfo:
    found = info(fd, bytes(32), "link")
    return LinkInfo(*struct.unpack_from("<III4xII", found))


def create_link(
    program: int,
    ifindex: int,
    attach_type: AttachType,
    flags: LinkFlags | XdpFlags = LinkFlags.BEFORE,
) -> int:
    """Attach a program to a device with TCX or XDP; the descriptor is the link's.

    :raises OSError: EINVAL: the kernel has no TCX (older than 6.6); ENODEV: no such device in
        this network namespace; ERANGE: the list is full (64). XDP: EBUSY, EEXIST: another program
        has the device; EOPNOTSUPP and others: the device's driver cannot do it natively.
    """
    attributes = struct.pack("<IIIIIIQ", program, ifindex, attach_type, flags, 0, 0, 0)
    what = f"attach a program to device {ifindex}, {attach_type.name}"
    return call(Command.LINK_CREATE, attributes, what)


def update_link(link: int, program: int) -> None:
    """Replace a link's program: every packet sees either the old one or the new one.

    :raises OSError: ENOLINK: the device is gone.
    """
    call(Command.LINK_UPDATE, struct.pack("<IIII", link, program, 0, 0), "replace a program")


def detach_link(link: int) -> None:
    """Detach at once, whoever else has the link open or pinned."""
    call(Command.LINK_DETACH, struct.pack("<I", link), "detach a link")


def attached(ifindex: int, attach_type: AttachType) -> list[Attached]:
    """A device's TCX programs in the order in which they run.

    :raises OSError: EINVAL: the kernel has no TCX; ENODEV: no such device here.
    """
    room = 64
    programs, links = (ctypes.c_uint32 * room)(), (ctypes.c_uint32 * room)()
    attributes = buffer_of(
        struct.pack(
            "<IIIIQIIQQQQ",
            ifindex,
            attach_type,
            0,
            0,
            ctypes.addressof(programs),
            room,
            0,
            0,
            ctypes.addressof(links),
            0,
            0,
        ).ljust(ATTRIBUTES, b"\0")
    )
    invoke(Command.PROG_QUERY, attributes, f"list programs of device {ifindex}")
    count = struct.unpack_from("<I", attributes.raw, 24)[0]
    return [Attached(*pair) for pair in zip(programs[:count], links[:count], strict=True)]


def run(
    program: int,
    data: bytes,
    *,
    context: bytes = b"",
    repeat: int = 1,
    room: int = 4096,
) -> Run:
    """Run a program on a packet (Ethernet header first). Needs CAP_BPF and CAP_NET_ADMIN.

    ``context``: a ``struct __sk_buff`` (:data:`SK_BUFF_SIZE` bytes) to begin with, of which the
    kernel takes mark, priority, cb and a few others; or empty. ``room``: for the packet that
    comes out. With ``repeat`` each run begins with what the one before left.

    :raises OSError: ENOSPC: ``room`` is too small.
    """
    packet, packet_out = buffer_of(data), ctypes.create_string_buffer(room)
    context_in = buffer_of(context)
    context_out = ctypes.create_string_buffer(SK_BUFF_SIZE)
    attributes = buffer_of(
        struct.pack(
            "<IIIIQQIIIIQQ",
            program,
            0,
            len(data),
            room,
            ctypes.addressof(packet),
            ctypes.addressof(packet_out),
            repeat,
            0,
            len(context),
            SK_BUFF_SIZE if context else 0,
            ctypes.addressof(context_in) if context else 0,
            ctypes.addressof(context_out) if context else 0,
        ).ljust(ATTRIBUTES, b"\0")
    )
    invoke(Command.PROG_TEST_RUN, attributes, "run a program")
    result, _, size = struct.unpack_from("<III", attributes.raw, 4)
    duration, _, context_size = struct.unpack_from("<III", attributes.raw, 36)
    return Run(
        struct.unpack("<i", struct.pack("<I", result))[0],
        packet_out.raw[:size],
        context_out.raw[:context_size],
        duration,
    )
