"""Attaching by TCX: a pinned link at the head of the device's list.

To be called in the device's network namespace.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fastrelay.agent import pins, programs, syscalls
from fastrelay.agent.hooks import DeviceGoneError, Direction, Position
from fastrelay.agent.programs import AttachType

_TYPES = {Direction.INGRESS: AttachType.TCX_INGRESS, Direction.EGRESS: AttachType.TCX_EGRESS}
_LOOPBACK = 1
_GONE = (errno.ENOLINK, errno.ENODEV)


def supported() -> bool:
    """Whether the kernel has it."""
    try:
        programs.attached(_LOOPBACK, AttachType.TCX_INGRESS)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def ensure(pin: Path, program: int, ifindex: int, direction: Direction) -> Position:
    """Have the program run by the link that is pinned there; a new link goes to the head.

    ``program``: a descriptor. What the link ran before is replaced atomically.

    :raises DeviceGoneError: see there.
    """
    wanted = programs.program_info(program).id
    try:
        link = _open(pin, ifindex, direction)
        changed = link is None
        if link is None:
            link = programs.create_link(program, ifindex, _TYPES[direction])
        try:
            if changed:
                syscalls.pin(link, pin)
            elif programs.link_info(link).program != wanted:
                programs.update_link(link, program)
                changed = True
            number = programs.link_info(link).id
        finally:
            os.close(link)
        order = [each.link for each in programs.attached(ifindex, _TYPES[direction])]
        return Position(order.index(number), changed)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _GONE:
            raise
        raise DeviceGoneError(f"device {ifindex} is gone") from error


def remove(pin: Path) -> None:
    """Detach and unpin. Not there: no error. Works from any namespace."""
    try:
        link = syscalls.get(pin)
    except FileNotFoundError:
        return
    try:
        programs.detach_link(link)
    except OSError as error:
        if error.errno not in _GONE:
            raise
    finally:
        os.close(link)
    pins.remove(pin)


def _open(pin: Path, ifindex: int, direction: Direction) -> int | None:
    """The pinned link, if it is where it should be; any other is removed."""
    try:
        link = syscalls.get(pin)
    except FileNotFoundError:
        return None
    info = programs.link_info(link)
    if (info.ifindex, info.attach_type) == (ifindex, _TYPES[direction]):
        return link
    os.close(link)
    remove(pin)
    return None
