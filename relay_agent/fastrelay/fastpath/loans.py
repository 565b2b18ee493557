"""Loans: upstream streams that the kernel forwards."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from typing import Any, Protocol, cast

from fastrelay.fastpath import ports
from fastrelay.fastpath.atomics import compare_exchange, fence
from fastrelay.fastpath.connections import Link
from fastrelay.fastpath.coverage import Ranges
from fastrelay.fastpath.intents import CLAIMED, Intent
from fastrelay.fastpath.layout import (
    ARRAY_MEMBERS,
    STREAMS,
    LegState,
    Outcome,
    StreamState,
)
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.ports import Borrower, Leg
from fastrelay.fastpath.tracks import Version

UNBOUND = 60.0
"""Seconds after which a loan that nobody has bound is retired. A stream's head that the relay's
socket had no room for comes again, after many seconds if everybody is late, but before the
publisher's connection is idle for too long. Who retires the loan before takes the stream for a
new one, and sends again what the kernel has sent."""
_PATIENCE = 0.05
"""As for a connection: within which a program ends its work for a stream."""

_CARRIED = 1024
"""Ranges of a stream of which it is remembered at least what carried them: as many as the ledger
has rows for a connection."""
_NOT_BEGUN = (LegState.NONE, LegState.DROPPED)
_AT_ONCE = 16
"""Rows of streams that are over are given back so many at once: each costs less then."""


class Hub(Protocol):
    """What a loan needs of the forwarder."""

    def collect(self) -> None: ...

    def collect_intents(self) -> None: ...

    def hear(self) -> None: ...

    def begun(self, intent: Intent, position: int) -> bool: ...


class Loan:
    """Implements :class:`fastpath.ports.Loan`, and what intents carry of it."""

    def __init__(
        self,
        loans: Loans,
        sequence: int,
        link: Link,
        version: Version,
        stream_id: int,
        ordinal: int,
        head: tuple[int, int],
    ) -> None:
        """``head``: bytes at the stream's beginning that a member's template replaces, and those
        of them that are kept."""
        self._loans = loans
        self.sequence = sequence
        self.link = link
        self.version = version
        self.members = version.members
        self.time = time.monotonic()
        version.uses += 1
        link.users += 1
        self.stream_id, self.ordinal = stream_id, ordinal
        self._cut, self._kept_length = head
        self.borrower: Borrower | None = None
        self.freed = False
        self.retiring = False
        self.stuck = False
        """A program has not ended its work for it: its place is not used again before."""
        self.halted = False
        """The kernel takes nothing more of it."""
        self._covered = Ranges()
        self._size = -1
        """Of the stream, once an intent has its end."""
        self._ours = Ranges()
        """What was given to user space for all members."""
        self._end_is_ours = False
        self._open: dict[Intent, None] = {}
        self._kept = 0
        self._failures: dict[int, list[tuple[int, int, bool]]] = {}
        self._told: dict[int, Ranges] = {}
        self._silent: set[int] = set()
        self._closed: set[int] = set()
        self._dropped: set[int] = set()
        self._carried: list[tuple[int, int]] = []
        """Where ranges end that intents have, and the low halves of their sequences."""
        self._early: list[tuple[int, int, int, bool, int | None]] = []
        """What came before the borrower; outcome None: lost."""
        self._final: dict[int, tuple[Leg | None, list[tuple[int, int, bool]]]] = {}
        """Of legs that were taken or closed: what they are, and what the kernel left unsent."""
        self._legs: memoryview[int] | None = None
        """Copied when the place in the map is given up."""

    # -- ports.Loan

    @property
    def reach(self) -> int:
        return self._covered.stop

    def shift(self, position: int) -> int:
        template = self.members[position].terms.stream
        if template is None:
            return 0
        return len(template.before) + self._kept_length + len(template.after) - self._cut

    def uncovered(self, start: int, stop: int, fin: bool) -> list[tuple[int, int, bool]]:
        gaps = self._covered.gaps(start, stop)
        end = fin and self._size < 0
        for gap in gaps:
            self._ours.add(*gap)
        found = [(low, high, end and high == stop) for low, high in gaps]
        if end:
            self._end_is_ours = True
            if not found or found[-1][1] != stop:
                found.append((stop, stop, True))
        return found

    def leg(self, position: int) -> Leg | None:
        if position in self._final:
            return self._final[position][0]
        return self._look(position, self._unsent(position))

    def _look(self, position: int, unsent: list[tuple[int, int, bool]]) -> Leg | None:
        word, stream_id, highest, _ = self._leg(position)
        if word >> 8 != self.sequence or word & 0xFF in _NOT_BEGUN or not stream_id:
            return None
        return Leg(stream_id, highest, self._size >= 0 and not any(fin for _, _, fin in unsent))

    def take_leg(self, position: int) -> list[tuple[int, int]]:
        if position in self._silent:
            return []
        self._end_leg(position, LegState.USER)
        leg, unsent = self._final[position]
        if leg is None:
            return []
        return self._holes(position, leg.highest - self.shift(position), unsent)

    def close_leg(self, position: int) -> None:
        if position not in self._closed:
            self._end_leg(position, LegState.CLOSED)
            self._closed.add(position)

    def dropped(self, position: int) -> bool:
        return position in self._dropped or self._is_marked_dropped(position)

    def reserve(self, position: int, stop: int) -> bool:
        leg = self.leg(position)
        if leg is None or position in self._silent:
            return True
        end = stop + self.shift(position)
        link = self.members[position].link
        at = self._at(position)
        words, address = self._loans.maps.legs.words, self._loans.maps.legs.address
        while not self.freed:
            highest, limit = words[at + 2], words[at + 3]
            if end <= highest:
                link.await_idle()  # what a program has raised it may take back
                if end <= words[at + 2]:
                    return True
                continue
            if end > limit or not _take(link, end - highest):
                return False
            if compare_exchange(address + 8 * (at + 2), highest, end):
                return True
            link.give_data(end - highest)
        if end <= leg.highest:
            return True
        if end > self.limit(position) or not _take(link, end - leg.highest):
            return False
        assert self._legs is not None
        self._legs[4 * position + 2] = end
        return True

    def sent_at(self, link: ports.Link, owner: Any, stop: int) -> float | None:
        index = bisect_left(self._carried, (stop, -1))
        if index == len(self._carried):
            return None
        own = cast(Link, link)
        position = self.version.place(own, owner)
        if position is None:
            return None
        return own.account.sent_at(self._carried[index][1], position)

    def is_under_way(self, position: int) -> bool:
        hub = self._loans.hub
        if self._open:
            hub.collect()
        if any(not hub.begun(intent, position) for intent in self._open):
            return position not in self._silent
        if not self._is_carried(position):
            return False
        hub.hear()
        return self._is_carried(position)

    def _is_carried(self, position: int) -> bool:
        link = self.members[position].link
        names = {low for _, low in self._carried}
        return not link.closed and link.account.carries(names, position)

    def dissolve(self) -> None:
        if not self.halted and not self.freed:
            self._loans.halt([self])

    def retire(self) -> None:
        if not self.retiring:
            self.retiring = True
            if not self._is_whole:
                self.dissolve()
            self._loans.retire(self)

    @property
    def _is_whole(self) -> bool:
        """There is nothing left of it for the kernel to take."""
        return self._size >= 0 and not self._covered.gaps(0, self._size)

    # -- legs

    def _leg(self, position: int) -> tuple[int, int, int, int]:
        if self._legs is not None:
            word, stream_id, highest, limit = self._legs[4 * position : 4 * position + 4]
        else:
            at = self._at(position)
            word, stream_id, highest, limit = self._loans.maps.legs.words[at : at + 4]
        return word, stream_id, highest, limit

    def _is_marked_dropped(self, position: int) -> bool:
        return self._leg(position)[0] == self.sequence << 8 | LegState.DROPPED

    def _at(self, position: int) -> int:
        return (self.sequence % STREAMS * ARRAY_MEMBERS + position) * 4

    def _end_leg(self, position: int, state: LegState) -> None:
        """The kernel sends nothing more on it, and what it has sent is known.

        While the connection is paused, who claims a copy gives it up; afterwards, who claims one
        finds the leg's state and skips it. So what counts is who had claimed it in between.
        """
        if self.freed:
            self._end(position, self._unsent(position))
            return
        link = self.members[position].link
        if not link.closed:
            link.pause()
        words, at = self._loans.maps.legs.words, self._at(position)
        if self._is_marked_dropped(position):
            self._dropped.add(position)
        if words[at] >> 8 != self.sequence or words[at] & 0xFF in _NOT_BEGUN:
            words[at + 1] = words[at + 2] = 0
        words[at] = self.sequence << 8 | state
        begun = [each for each in self._open if self._loans.hub.begun(each, position)]
        if begun and not link.closed:
            link.await_programs()
        self._end(position, self._unsent(position, begun))
        if not link.closed:
            link.unpause()

    def _end(self, position: int, unsent: list[tuple[int, int, bool]]) -> None:
        if position not in self._final:
            self._final[position] = self._look(position, unsent), unsent
        self._silent.add(position)

    def raise_limit(self, position: int, limit: int) -> None:
        """MAX_STREAM_DATA."""
        if not self.freed:
            at = self._at(position) + 3
            words = self._loans.maps.legs.words
            words[at] = max(words[at], limit)

    def limit(self, position: int) -> int:
        return self._leg(position)[3]

    def legs_named(self, link: Link, stream_id: int) -> Iterator[int]:
        for position in self.version.places(link):
            if self._leg(position)[1] == stream_id and self.leg(position) is not None:
                yield position

    def _unsent(self, position: int, begun: Container[Intent] = ()) -> list[tuple[int, int, bool]]:
        """What intents have, but the kernel has not sent to this member, as far as that is known:
        of those that are open, it has sent the ones that are ``begun`` if they did not fail."""
        return [
            *self._failures.get(position, ()),
            *(
                (start, stop, fin)
                for intent in self._open
                if intent not in begun
                for freight, start, stop, fin in intent.frames
                if freight is self
            ),
        ]

    def _holes(
        self, position: int, stop: int, unsent: list[tuple[int, int, bool]]
    ) -> list[tuple[int, int]]:
        holes = Ranges()
        for low, high in self._covered.gaps(0, stop):
            holes.add(low, high)
        for low, high, _ in unsent:
            holes.add(min(low, stop), min(high, stop))
        known = self._told.get(position)
        return [
            part
            for span in holes.spans
            for ours in self._ours.gaps(*span)
            for part in (known.gaps(*ours) if known else (ours,))
        ]

    # -- intents.Freight

    def cover(self, start: int, stop: int, fin: bool) -> None:
        self._covered.add(start, stop)
        if fin:
            self._size = stop

    def begin(self, intent: Intent) -> None:
        self._open[intent] = None
        self._kept += 1
        self._carried.append((self._covered.stop, intent.low))
        if len(self._carried) > 2 * _CARRIED:
            del self._carried[:_CARRIED]

    def failed(self, position: int, start: int, stop: int, fin: bool) -> None:
        self._failures.setdefault(position, []).append((start, stop, fin))

    def tell(self, position: int, start: int, stop: int, fin: bool, outcome: int) -> None:
        member = self.members[position]
        if position in self._silent or member.link.closed or not member.wants(self.ordinal):
            return
        if self.borrower is None:
            self._early.append((position, start, stop, fin, outcome))
            return
        if outcome != CLAIMED:
            self.borrower.refused(position, outcome)
            if outcome == Outcome.DROPPED or position in self._silent:
                return
        parts = self._ours.gaps(start, stop)
        fin = fin and not self._end_is_ours
        if fin and (not parts or parts[-1][1] != stop):
            parts.append((stop, stop))
        if parts and not self.reserve(position, parts[-1][1]):
            self.borrower.refused(position, Outcome.NO_DATA)
        for low, high in parts:
            if position in self._silent:
                return
            self._told.setdefault(position, Ranges()).add(low, high)
            self.borrower.missed(position, low, high, fin and high == stop)

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        member = self.members[position]
        if position in self._closed or member.link.closed or not member.wants(self.ordinal):
            return
        if self.dropped(position):
            return
        if position in self._silent:
            # Frames of a leg that is over were not in the packet.
            leg, unsent = self._final[position]
            if leg is None or stop + self.shift(position) > leg.highest:
                return
            if (start, stop, fin) in unsent:
                return
        if self.borrower is None:
            self._early.append((position, start, stop, fin, None))
        else:
            self.borrower.lost(position, start, stop, fin)

    def settle(self, intent: Intent) -> None:
        self._open.pop(intent, None)

    def forget(self) -> None:
        self._kept -= 1

    @property
    def is_settled(self) -> bool:
        return not self._open

    @property
    def is_named(self) -> bool:
        return self._kept > 0

    # -- the borrower

    def bind(self, borrower: Borrower) -> None:
        self.borrower = borrower
        early, self._early = self._early, []
        for position, start, stop, fin, outcome in early:
            if outcome is None:
                self.lost(position, start, stop, fin)
            else:
                self.tell(position, start, stop, fin, outcome)

    def stopped(self, position: int, code: int) -> None:
        if self.borrower is not None and position not in self._closed:
            self.borrower.stopped(position, code)

    def free(self) -> None:
        """The place in the maps is given up."""
        at = self._at(0)
        legs = self._loans.maps.legs.words[at : at + 4 * len(self.members)]
        self._legs = memoryview(bytearray(legs)).cast("Q")
        self.freed = True
        self.version.uses -= 1
        self.link.users -= 1


def _take(link: Link, size: int) -> bool:
    taken = link.take_data(size)
    if taken < size:
        link.give_data(taken)
    return taken == size


class Loans:
    """All of them."""

    def __init__(
        self, maps: Maps, hub: Hub, links: dict[int, Link], versions: list[Version | None]
    ) -> None:
        self.maps = maps
        self.hub = hub
        self._links = links
        self._versions = versions
        self._loans: dict[int, Loan] = {}
        """Those with a place in the maps, by sequence."""
        self._by_id: dict[tuple[Link, int], Loan] = {}
        self._old: dict[Loan, None] = {}
        """Without a place, but named by intents that are kept."""
        self._retiring: dict[Loan, None] = {}
        self._settled: list[Loan] = []
        """Their rows may be given back."""
        self._stuck: dict[Loan, None] = {}
        self._words = maps.streams.words
        self._sequence = maps.streams.word("sequence")
        self._state = maps.streams.word("state")
        self._busy = maps.streams.word("busy")
        self._cut = maps.streams.rows["cut"].data
        self._kept_length = maps.streams.rows["keep_length"].data
        self._index = maps.stream_index.words

    def __len__(self) -> int:
        return len(self._loans)

    def __iter__(self) -> Iterator[Loan]:
        return iter(self._loans.values())

    def of_frame(
        self, sequence: int, stream_id: int, ordinal: int, array: int, connection: int
    ) -> Loan:
        """That of an intent's frame. The first frame that is taken of a stream begins it, and its
        row is written before the intent is submitted: an unknown sequence is a new stream's."""
        loan = self._loans.get(sequence)
        if loan is not None:
            return loan
        version, link = self._versions[array], self._links[connection]
        assert self._words[self._base(sequence) + self._sequence] == sequence
        assert version is not None
        place = sequence % STREAMS
        head = self._cut[place], self._kept_length[place]
        loan = Loan(self, sequence, link, version, stream_id, ordinal, head)
        self._loans[sequence] = self._by_id[link, stream_id] = loan
        version.track.began(ordinal)
        if link.closed:
            loan.retire()
        return loan

    def of(self, link: Link, stream_id: int) -> Loan | None:
        loan = self._by_id.get((link, stream_id))
        if loan is None and not link.keep_stream(stream_id >> 2):
            # Perhaps only now, with a head that came again.
            self.hub.collect()
            loan = self._by_id.get((link, stream_id))
        return loan

    def _base(self, sequence: int) -> int:
        return sequence % STREAMS * self.maps.streams.stride

    # -- ending

    def halt(self, loans: Sequence[Loan]) -> None:
        """No more intents for them; those that there are, are known."""
        words = self._words
        for loan in loans:
            loan.halted = True
            words[self._base(loan.sequence) + self._state] = StreamState.USER
        fence()
        until = time.monotonic() + _PATIENCE
        for loan in loans:
            busy = self._base(loan.sequence) + self._busy
            while words[busy]:
                if time.monotonic() > until:
                    loan.stuck = True
                    break
        self.hub.collect_intents()

    def retire(self, loan: Loan) -> None:
        self._retiring[loan] = None

    def finish(self) -> list[Loan]:
        """Those that are settled now: nobody finds them any more, and they will be freed."""
        if not self._retiring:
            return []
        found = [loan for loan in self._retiring if loan.is_settled]
        for loan in found:
            del self._retiring[loan]
            if self._by_id.get((loan.link, loan.stream_id)) is loan:
                del self._by_id[loan.link, loan.stream_id]
        self._settled += found
        if len(self._settled) >= _AT_ONCE:
            self._free()
        return found

    def _free(self) -> None:
        settled, self._settled = self._settled, []
        self.halt([loan for loan in settled if not loan.halted])
        rows = []
        for loan in settled:
            if not loan.is_settled:  # an empty frame fits everywhere
                self._retiring[loan] = None
                continue
            del self._loans[loan.sequence]
            loan.free()
            if loan.stuck:
                self._stuck[loan] = None
            else:
                rows.append(loan.sequence)
            if loan.is_named:
                self._old[loan] = None
        self._give_back(rows)

    def _give_back(self, sequences: Sequence[int]) -> None:
        """Their rows may become other streams'."""
        for sequence in sequences:
            self._words[self._base(sequence) + self._state] = StreamState.FREE
        fence()
        for sequence in sequences:
            self._index[sequence % STREAMS] = 0

    def sweep(self, handled: float) -> None:
        """:param handled: as for intents."""
        for loan in list(self._loans.values()):
            if loan.borrower is None and handled - loan.time > UNBOUND:
                loan.retire()
        if self._settled:
            self._free()
        for loan in [loan for loan in self._old if not loan.is_named]:
            del self._old[loan]
        for loan in list(self._stuck):
            if not self._words[self._base(loan.sequence) + self._busy]:
                del self._stuck[loan]
                self._give_back([loan.sequence])

    # -- legs by the member's stream id

    def find_leg(self, link: Link, stream_id: int) -> tuple[Loan, int] | None:
        """Newest first: it is mostly one of those."""
        for loans in (self._loans.values(), self._old):
            for loan in reversed(loans):
                for position in loan.legs_named(link, stream_id):
                    return loan, position
        return None
