"""The quota at a device of the node: an XDP program, loaded, attached, replaced, removed.

::

    ROOT/NAME/device/VERSION    the program
    ROOT/NAME/links/device      its link

A device has room for one such program, so it is one relay's. The program is a help only: what it
does not refuse is refused at the relay's veth.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pyroute2 import IPRoute

from fastrelay.agent import maps, pins, programs, syscalls, tcx
from fastrelay.agent.bytecode import Program
from fastrelay.agent.compiling import CompileError
from fastrelay.agent.loader import LoadError
from fastrelay.agent.programs import AttachType, ProgramKind, RefusedError, XdpFlags
from fastrelay.agent.versions import MAPS, Toolchain, version_of
from fastrelay.fastpath.layout import DeviceMode

ENTRY = "device_ingress"
"""The file, without .c, and its only function."""
_LINK = "device"
_TAKEN = (errno.EBUSY, errno.EEXIST)
_GENERIC = "xdpgeneric"
"""``XDP_ATTACHED_SKB`` of linux/if_link.h, in pyroute2's words."""


class Mode(StrEnum):
    NATIVE = "native"
    """In the device's driver, before there is a packet."""
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Hook:
    """Where first packets are refused before they come to the veth. ``mode``: None: nowhere;
    ``message``: why, if it is not as it should be."""

    device: str = ""
    mode: Mode | None = None
    message: str = ""


def ensure(tree: pins.Tree, tools: Toolchain, device: str, addresses: Sequence[str]) -> Hook:
    """Have the program run at that device, and at no other. ``device``: empty: at none.

    To be called in the device's network namespace.
    """
    if not device:
        remove(tree)
        _tell(tree, None)
        return Hook()
    try:
        hook = Hook(device, _attached(tree, tools, device, addresses))
    except (OSError, LoadError) as error:
        remove(tree)
        hook = Hook(device, message=f"quota.device {device}: {_words(error)}")
    _tell(tree, hook.mode)
    return hook


def refuse(tree: pins.Tree, device: str) -> Hook:
    """No program at that device, nor at another: whom the node belongs to does not allow it."""
    remove(tree)
    _tell(tree, None)
    return Hook(device, message=f"quota.device {device}: this node's agent does not allow it")


def remove(tree: pins.Tree) -> None:
    """Detach and unpin. Nothing there: no error."""
    tcx.remove(tree.links / _LINK)
    pins.remove(tree.device)


def compiled(tools: Toolchain) -> Program:
    """It is in the cache from now on.

    :raises LoadError: it does not compile, or nothing is there that compiles.
    """
    source = tools.sources / f"{ENTRY}.c"
    try:
        return tools.compiler.compiled(source, [tools.sources], (), MAPS)[ENTRY]
    except CompileError as error:
        raise LoadError(str(error)) from error


def _attached(tree: pins.Tree, tools: Toolchain, device: str, addresses: Sequence[str]) -> Mode:
    ifindex = socket.if_nametoindex(device)
    with maps.opened(tree.maps) as fds:
        maps.set_site(tree.maps, addresses)
        pin = _loaded(tree, tools, fds)
    program = syscalls.get(pin)
    try:
        _link(tree, program, ifindex)
    finally:
        os.close(program)
    for other in tree.device.iterdir():
        if other != pin:
            pins.remove(other)
    return _mode(ifindex)


def _loaded(tree: pins.Tree, tools: Toolchain, fds: Mapping[str, int]) -> Path:
    """The pinned program of the version that is wanted now."""
    ids = {name: syscalls.map_info(fd).id for name, fd in fds.items()}
    pin = tree.device / version_of(tools, (), ids)
    if pin.exists():
        return pin
    code = compiled(tools).linked(fds)
    try:
        program = programs.load(ENTRY, code, ProgramKind.XDP)
    except RefusedError as error:
        raise LoadError(f"{ENTRY}.c: {error}\n{error.log[-3000:]}") from error
    try:
        pins.make(tree.device)
        syscalls.pin(program, pin)
    finally:
        os.close(program)
    return pin


def _link(tree: pins.Tree, program: int, ifindex: int) -> None:
    pin = tree.links / _LINK
    pins.make(tree.links)
    wanted = programs.program_info(program).id
    with suppress(FileNotFoundError):
        link = syscalls.get(pin)
        try:
            info = programs.link_info(link)
            if info.ifindex == ifindex:
                if info.program != wanted:
                    programs.update_link(link, program)
                return
        finally:
            os.close(link)
        tcx.remove(pin)
    link = _create(program, ifindex)
    try:
        syscalls.pin(link, pin)
    finally:
        os.close(link)


def _create(program: int, ifindex: int) -> int:
    try:
        return programs.create_link(program, ifindex, AttachType.XDP, XdpFlags.NATIVE)
    except OSError as error:
        if error.errno in (*_TAKEN, errno.ENODEV, errno.EPERM):
            raise
    return programs.create_link(program, ifindex, AttachType.XDP, XdpFlags.GENERIC)


def _mode(ifindex: int) -> Mode:
    with IPRoute() as ipr:
        (link,) = ipr.get_links(ifindex)
    return Mode.GENERIC if link.get(("xdp", "xdp_attached")) == _GENERIC else Mode.NATIVE


def _tell(tree: pins.Tree, mode: Mode | None) -> None:
    """The relay, which says so on its pages."""
    number = DeviceMode.NONE if mode is None else DeviceMode[mode.name]
    maps.set_device(tree.maps, number)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno in _TAKEN:
            return "another XDP program has it"
        if error.errno == errno.ENODEV or error.errno is None:
            return "there is no such device"
    return str(error)
