"""Who decides which clients come in: the port of an endpoint towards its owner."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from fastrelay.quic.udp import Address

if TYPE_CHECKING:
    from fastrelay.quic.connection import Connection


class Verdict(Enum):
    """On a client's first packet."""

    ADMIT = "admit"
    REFUSE = "refuse"
    """Answer CONNECTION_REFUSED."""
    IGNORE = "ignore"


class Door(Protocol):
    """``now``: the loop's time."""

    def judge(self, address: Address, now: float) -> Verdict:
        """A first packet came, before anything is made for it; its address may be invented."""

    def begin(self, connection: Connection, ids: tuple[bytes, ...]) -> None:
        """A connection was made for one who was admitted. ``ids``: what its further first packets
        address."""

    def enter(self, connection: Connection, address: Address, now: float) -> bool:
        """The client has shown that the address is its own: by a Retry token, or by the end of the
        handshake. False: it may not stay. Again for one that has entered: nothing happens."""

    def leave(self, connection: Connection, now: float) -> None:
        """The connection is gone, whether it has entered or not."""


class OpenDoor:
    """Everybody comes in."""

    def judge(self, address: Address, now: float) -> Verdict:
        return Verdict.ADMIT

    def begin(self, connection: Connection, ids: tuple[bytes, ...]) -> None: ...

    def enter(self, connection: Connection, address: Address, now: float) -> bool:
        return True

    def leave(self, connection: Connection, now: float) -> None: ...
