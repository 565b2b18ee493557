"""An agent's maps without a kernel: files in memory in place of maps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastrelay.agent import sockets
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import Reason, RelaySpec, State, Status
from fastrelay.agent.lock import Lock
from fastrelay.agent.maps import ShapeError
from fastrelay.api.objects import SOCKET
from fastrelay.fastpath import handing

RELAY = "relay-1"
SPEC = RelaySpec(RELAY, os.geteuid(), ["10.0.0.2"])
ATTACHED = Status(RELAY, State.ATTACHED, Reason.ATTACHED, "", End.HOST)
OTHER = Status(RELAY, State.FAILED, Reason.OTHER_VERSION, "other maps", End.HOST)
WAITING = Status(RELAY, State.WAITING, Reason.NO_INTERFACE, "no veth leads there", End.HOST)


class House:
    """One relay's maps: ``number``; 0: there are none. ``other``: they are of another shape."""

    def __init__(self, directory: Path) -> None:
        self.sockets = directory / "relays"
        self.lock = Lock.of(directory / "records", RELAY)
        self.number = 0
        self.attached = self.other = False
        self.trouble: Exception | None = None
        sockets.prepare(self.sockets)

    @property
    def socket(self) -> Path:
        return self.sockets / RELAY / SOCKET

    def renew(self, number: int) -> None:
        """Other maps."""
        self.lock.renew()
        self.number = number

    def standing(self, name: str) -> tuple[int, bool]:
        assert name == RELAY
        if not self.number:
            raise FileNotFoundError(name)
        if self.other:
            raise ShapeError(name)
        return self.number, self.attached

    @contextmanager
    def handed(self, name: str) -> Iterator[list[int] | None]:
        assert name == RELAY
        if self.trouble is not None:
            raise self.trouble
        with ExitStack() as stack:
            lock = self.lock.take()
            if lock is None:
                yield None
                return
            stack.callback(os.close, lock)
            found = []
            for each in handing.NAMES:
                fd = os.memfd_create(each)
                stack.callback(os.close, fd)
                os.truncate(fd, 1 << 16)
                found.append(fd)
            yield [*found, lock]
