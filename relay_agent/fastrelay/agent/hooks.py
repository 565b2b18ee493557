"""Where programs are attached: which end of the veth, which direction, by which mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """The end of the pod's veth; named as in ``spec.fastPath``."""

    HOST = "Host"
    POD = "Pod"
    """For networks that hand packets to the pod behind the host end's back (bpf_redirect_peer)."""


class Direction(StrEnum):
    """As the device sees it: ingress is what it receives."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Mechanism(StrEnum):
    TCX = "tcx"
    """Linux 6.6 and newer."""
    CLSACT = "clsact"


HOOKS = {
    End.HOST: {"a": Direction.EGRESS, "b": Direction.INGRESS},
    End.POD: {"a": Direction.INGRESS, "b": Direction.EGRESS},
}
"""Program ``a`` sees what goes to the pod, ``b`` what comes from it."""

CFLAGS = {End.HOST: ("-DATTACH_HOST=1",), End.POD: ("-DATTACH_POD=1",)}


@dataclass(frozen=True, slots=True)
class Position:
    """A program is attached. ``ahead``: programs or filters of others that run before it."""

    ahead: int
    changed: bool


class DeviceGoneError(Exception):
    """The device went away in the meantime."""
