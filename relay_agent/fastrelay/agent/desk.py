"""Where relays get their maps, and tell how they stand: the agent's end of the sockets.

A relay's maps go to one connection at a time: see :mod:`fastrelay.agent.lock`. The end of a
connection says that the relay has gone; nothing depends on that. Nothing here waits for a relay.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fastrelay.agent import sockets
from fastrelay.agent.instance import RelaySpec, Status, Word
from fastrelay.agent.maps import ShapeError
from fastrelay.fastpath import handing
from fastrelay.fastpath.handing import HandingError, Offer, Refusal, Statement

CALLERS = 4
"""Connections of one relay: it, its successor, and some that are about to end."""
PAUSE = 0.05
"""Seconds between looks at what one relay says."""
AGAIN = 0.2
"""Seconds until maps that somebody has are asked for again."""

log = logging.getLogger(__name__)


class House(Protocol):
    """Who has the maps of all relays."""

    @property
    def sockets(self) -> Path: ...

    def standing(self, name: str) -> tuple[int, bool]:
        """The number of the relay's maps, and whether its programs are attached.

        :raises OSError: there are none.
        :raises ShapeError: they are of another version.
        """

    def handed(self, name: str) -> AbstractContextManager[list[int] | None]:
        """See :meth:`fastrelay.agent.instance.Instance.handed`."""


@dataclass(eq=False, slots=True)
class _Caller:
    """A connection."""

    socket: socket.socket
    statement: Statement | None = None
    """Its last one. None: it has said nothing, or nothing since it was given maps."""
    word: Word | None = None
    told: Offer | None = None
    in_vain: bool = False
    """It waits for somebody else to let go of the maps."""


@dataclass(slots=True)
class _Counter:
    """A relay's place."""

    name: str
    listener: socket.socket
    spec: RelaySpec
    status: Status
    callers: list[_Caller] = field(default_factory=list)

    def word(self) -> Word:
        """What the relay says: of several, the one that forwards, or the last that came."""
        words = [each.word for each in self.callers if each.word is not None]
        return next((each for each in words if each.forwarding), words[-1] if words else Word())


class Desk:
    """All sockets of a node. ``heard``: called when a relay has said something new."""

    def __init__(self, house: House, heard: Callable[[], None]) -> None:
        self._house, self._heard = house, heard
        self._loop = asyncio.get_running_loop()
        self._counters: dict[str, _Counter] = {}
        self._again: asyncio.TimerHandle | None = None

    def serve(self, desired: Mapping[str, RelaySpec], statuses: Mapping[str, Status]) -> None:
        """After each pass: for these relays, which stand so."""
        for name in self._counters.keys() - desired.keys():
            self._dismiss(self._counters.pop(name))
        for name, spec in desired.items():
            counter = self._counters.get(name)
            if counter is None:
                try:
                    listener = sockets.listen(self._house.sockets, name)
                except OSError as error:
                    log.error("relay %s: no socket for it: %s", name, error)
                    continue
                counter = _Counter(name, listener, spec, statuses[name])
                self._counters[name] = counter
                self._loop.add_reader(listener, self._accept, counter)
            counter.spec, counter.status = spec, statuses[name]
            self._attend(counter)

    def complete(self, statuses: Mapping[str, Status]) -> dict[str, Status]:
        """With what the relays say of themselves."""
        return {
            name: replace(status, relay=self._counters[name].word())
            if name in self._counters
            else status
            for name, status in statuses.items()
        }

    def waiting(self) -> frozenset[str]:
        """Relays that ask for maps which somebody has."""
        return frozenset(
            name
            for name, counter in self._counters.items()
            if any(caller.in_vain for caller in counter.callers)
        )

    def close(self) -> None:
        """The relays keep what they have; the next agent finds them again."""
        if self._again is not None:
            self._again.cancel()
        for counter in self._counters.values():
            self._close(counter)
        self._counters.clear()

    # Connections

    def _accept(self, counter: _Counter) -> None:
        try:
            connection, _ = counter.listener.accept()
        except OSError as error:
            log.warning("relay %s: a connection was not accepted: %s", counter.name, error)
            return
        user = sockets.user_of(connection)
        if user != counter.spec.uid or len(counter.callers) >= CALLERS:
            log.warning("relay %s: a connection of user %d is refused", counter.name, user)
            connection.close()
            return
        connection.setblocking(False)
        caller = _Caller(connection)
        counter.callers.append(caller)
        self._loop.add_reader(connection, self._listen, counter, caller)

    def _listen(self, counter: _Counter, caller: _Caller) -> None:
        try:
            data = handing.receive(caller.socket)
            if not data:
                self._leave(counter, caller)
                return
            statement = handing.decode(Statement, data)
        except BlockingIOError:
            return
        except (OSError, HandingError) as error:
            log.warning("relay %s: its connection is closed: %s", counter.name, error)
            self._leave(counter, caller)
            return
        # However much it says, it costs no more than this.
        self._loop.remove_reader(caller.socket)
        self._loop.call_later(PAUSE, self._listen_again, counter, caller)
        caller.statement = statement
        self._answer(counter, caller)
        before, caller.word = caller.word, _word(statement)
        if caller.word != before:
            self._heard()

    def _listen_again(self, counter: _Counter, caller: _Caller) -> None:
        if caller in counter.callers:
            self._loop.add_reader(caller.socket, self._listen, counter, caller)

    def _leave(self, counter: _Counter, caller: _Caller) -> None:
        counter.callers.remove(caller)
        self._loop.remove_reader(caller.socket)
        caller.socket.close()
        self._attend(counter)
        self._heard()

    def _dismiss(self, counter: _Counter) -> None:
        """The relay is to have no data plane here any more."""
        gone = Offer(reason=Refusal.REMOVED.value, message="the agent has taken the maps away")
        for caller in counter.callers:
            with suppress(OSError):
                handing.send(caller.socket, gone)
        self._close(counter)

    def _close(self, counter: _Counter) -> None:
        for caller in counter.callers:
            self._loop.remove_reader(caller.socket)
            caller.socket.close()
        counter.callers.clear()
        self._loop.remove_reader(counter.listener)
        counter.listener.close()

    # What they are told

    def _attend(self, counter: _Counter) -> None:
        for caller in list(counter.callers):
            self._answer(counter, caller)

    def _attend_to_all(self) -> None:
        self._again = None
        for name in self.waiting():
            self._attend(self._counters[name])

    def _answer(self, counter: _Counter, caller: _Caller) -> None:
        statement = caller.statement
        if statement is None or caller not in counter.callers:
            return
        caller.in_vain = False
        try:
            number, attached = self._house.standing(counter.name)
        except ShapeError:  # nobody touches those and their programs: who has them goes on
            number, attached = statement.maps, bool(statement.maps)
        except OSError:
            number, attached = 0, False
        if not attached:
            status = counter.status
            message = status.message or "the programs are not attached"
            offer = Offer(reason=status.reason.value, message=handing.words(message))
        elif statement.maps == number or not statement.wants:
            offer = Offer(maps=number)
        else:
            refusal = self._hand(counter, caller, number)
            if refusal is None:
                return
            offer = refusal
        if offer != caller.told:
            self._tell(counter, caller, offer)

    def _hand(self, counter: _Counter, caller: _Caller, number: int) -> Offer | None:
        """Give a relay its maps; why not."""
        try:
            with self._house.handed(counter.name) as descriptors:
                if descriptors is not None:
                    names = list(handing.NAMES)
                    self._tell(counter, caller, Offer(maps=number, names=names), descriptors)
                    return None
        except ShapeError as error:
            message = handing.words(str(error))
            return Offer(reason=Refusal.OTHER_VERSION.value, message=message)
        except OSError as error:
            return Offer(reason=counter.status.reason.value, message=handing.words(str(error)))
        caller.in_vain = True
        if self._again is None:
            self._again = self._loop.call_later(AGAIN, self._attend_to_all)
        if caller.told == Offer(maps=number):
            return None  # it may have asked once more before it got them
        return Offer(reason=Refusal.IN_USE.value, message="another relay process has the maps")

    def _tell(
        self, counter: _Counter, caller: _Caller, offer: Offer, descriptors: list[int] | None = None
    ) -> None:
        try:
            handing.send(caller.socket, offer, descriptors or ())
        except OSError as error:
            log.warning("relay %s: its connection is closed: %s", counter.name, error)
            self._loop.call_soon(self._leave_if_there, counter, caller)
            return
        caller.told = Offer(maps=offer.maps) if offer.names else offer
        if descriptors is not None:
            caller.statement = None

    def _leave_if_there(self, counter: _Counter, caller: _Caller) -> None:
        if caller in counter.callers:
            self._leave(counter, caller)


def _word(statement: Statement) -> Word:
    return Word(
        statement.forwarding,
        statement.reason,
        statement.message,
        statement.kernel,
        statement.user,
    )
