"""Attaching by cls_bpf filters in a clsact qdisc, for kernels without TCX (before 6.6).

Our filter is known by its name, which ends in its program's id; others' are never touched. Its
priority is chosen free and, where there is room, ahead of all that are there. To be called in
the device's network namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastrelay.agent import programs
from fastrelay.agent.hooks import DeviceGoneError, Direction, Position

_PARENTS = {Direction.INGRESS: 0xFFFFFFF2, Direction.EGRESS: 0xFFFFFFF3}
_QDISC_HANDLE = 0xFFFF0000
PRIORITY = 100
"""Ours, on a device without filters: there is room for those who must be first."""
HANDLE = 0xFA57
_GONE = (errno.ENODEV, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class Filter:
    priority: int
    handle: int
    name: str
    info: int
    """Priority and protocol as netlink writes them: with the handle, what it is known by."""


def ensure(
    name: str,
    program: int,
    ifindex: int,
    direction: Direction,
    making_qdisc: Callable[[], None],
) -> Position:
    """Have the program run by the filter of that name; what it ran before is replaced atomically.

    ``program``: a descriptor. ``making_qdisc`` is called before the qdisc is made, if it is not
    there.

    :raises DeviceGoneError: see there.
    """
    wanted = f"{name}/{programs.program_info(program).id}"
    with _netlink(ifindex) as ipr:
        _ensure_qdisc(ipr, ifindex, making_qdisc)
        there = _filters(ipr, ifindex, direction)
        ours = [each for each in there if _is(name, each)]
        others = {each.priority for each in there if not _is(name, each)}
        changed = not ours or ours[0].name != wanted
        if changed:
            priority = ours[0].priority if ours else _free_priority(others)
            ipr.tc(
                "replace-filter" if ours else "add-filter",
                "bpf",
                ifindex,
                ours[0].handle if ours else HANDLE,
                fd=program,
                name=wanted,
                parent=_PARENTS[direction],
                prio=priority,
                direct_action=True,
            )
        else:
            priority = ours[0].priority
        return Position(sum(other <= priority for other in others), changed)


def remove(name: str, ifindex: int, direction: Direction) -> None:
    """Remove our filter. Not there, or no such device: no error."""
    try:
        with _netlink(ifindex) as ipr:
            for each in _filters(ipr, ifindex, direction):
                if _is(name, each):
                    ipr.tc(
                        "del-filter",
                        "bpf",
                        ifindex,
                        each.handle,
                        info=each.info,
                        parent=_PARENTS[direction],
                    )
    except DeviceGoneError:
        return


def remove_qdisc(ifindex: int) -> None:
    """Remove the clsact qdisc that we made, unless somebody uses it now."""
    try:
        with _netlink(ifindex) as ipr:
            if "clsact" not in _qdiscs(ipr, ifindex):
                return
            if not any(_filters(ipr, ifindex, direction) for direction in Direction):
                ipr.tc("del", "clsact", ifindex)
    except DeviceGoneError:
        return


def _is(name: str, each: Filter) -> bool:
    return each.name.rpartition("/")[0] == name


def _free_priority(taken: set[int]) -> int:
    """Before all others if there is room, else as early as possible."""
    if not taken:
        return PRIORITY
    if min(taken) > 1:
        return min(min(taken) - 1, PRIORITY)
    return next(number for number in range(2, 0x10000) if number not in taken)


def _ensure_qdisc(ipr: IPRoute, ifindex: int, making: Callable[[], None]) -> None:
    there = _qdiscs(ipr, ifindex)
    if "clsact" in there:
        return
    if "ingress" in there:
        raise OSError(
            errno.EBUSY,
            f"device {ifindex} has a qdisc 'ingress', which leaves no room for clsact; "
            "replace it with clsact, which does the same, or use Linux 6.6 or newer",
        )
    making()
    try:
        ipr.tc("add", "clsact", ifindex)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _qdiscs(ipr: IPRoute, ifindex: int) -> list[str]:
    return [
        qdisc.get("kind")
        for qdisc in ipr.get_qdiscs(index=ifindex)
        if qdisc["index"] == ifindex and qdisc["handle"] == _QDISC_HANDLE
    ]


def _filters(ipr: IPRoute, ifindex: int, direction: Direction) -> list[Filter]:
    """Every filter of the hook; those that are no BPF have no name."""
    found = []
    for message in ipr.get_filters(index=ifindex, parent=_PARENTS[direction]):
        if message["index"] != ifindex or not message["handle"]:
            continue  # the head of a priority, not a filter
        options = message.get("options") if message.get("kind") == "bpf" else None
        name = options.get_attr("TCA_BPF_NAME") if options is not None else None
        found.append(Filter(message["info"] >> 16, message["handle"], name or "", message["info"]))
    return found


@contextmanager
def _netlink(ifindex: int) -> Iterator[IPRoute]:
    """A socket whose errors are OSErrors.

    :raises DeviceGoneError: the kernel says so.
    """
    try:
        with closing(IPRoute()) as ipr:
            yield ipr
    except NetlinkError as error:
        if error.code in _GONE:
            raise DeviceGoneError(f"device {ifindex} is gone") from error
        raise OSError(error.code, f"{error.args[-1]}: device {ifindex}, tc") from error
