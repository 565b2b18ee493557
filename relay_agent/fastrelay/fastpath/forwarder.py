"""The kernel's part of one relay: what the rings say, and what follows from it.

See docs/dataplane.md. Whatever the number of members, an upstream packet costs one intent and
one look at ``done``; reports are entered in machine code; only exceptions are looked at one by one.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np

from fastrelay.fastpath import layout, ports
from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.bands import Bands, Shares
from fastrelay.fastpath.connections import Connections, Link
from fastrelay.fastpath.datagrams import Datagram, Datagrams, Departures
from fastrelay.fastpath.hearing import Hearing
from fastrelay.fastpath.intents import CLAIMED, Freight, Intent, Intents, Part
from fastrelay.fastpath.layout import (
    ACKS_BYTES,
    NEUTRAL_PRIORITY,
    SLOTS,
    FrameKind,
    Outcome,
    StreamState,
)
from fastrelay.fastpath.loans import Loan, Loans
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.rings import RingError
from fastrelay.fastpath.tables import REST, new_seed
from fastrelay.fastpath.tracks import FastTrack, Tracks
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.lease import Row
from fastrelay.quic.ledger import Ledger

HEARTBEAT = 1.0
SWEEP = 1.0
"""Between two looks for what nobody names any more, which take half a millisecond each when the
caches are cold."""
DETACHED = "the agent has not attached the programs to the pod's interface"
TELL_SECONDS = 1.0
"""Between two times at which engines are told of acknowledgements, if they do not ask: a twentieth
of a millisecond for each connection. Seldom enough to cost little, and often enough for a round
trip time that follows its path."""
RENEW_PACKETS = layout.KEYSTREAMS_AHEAD // 4
"""Upstream packets after which keystreams are made for those to come: many at once cost less."""
HEAR_SECONDS = (0.02, 0.1)
"""Between two looks at acknowledgements, if nobody asks: their times are the kernel's, and what
they are wanted for at once is not left to it. As long as the busiest connection may send without
them, and half of that again."""
_PATIENCE = 0.05
"""Seconds within which a record that was begun is submitted."""
_FRAMES, _FRAME = 7, 8
"""Fields of an intent before its frames, and of each of these."""


Exceptional = tuple[int, int, int, int]
"""A report of more than that a copy was sent: sequence, position, outcome, frames dropped."""
_WITHOUT_THE_REST = (Outcome.SENT, Outcome.DROPPED)
"""Nothing is to be said of the frames that were not dropped."""


class Forwarder:
    """Implements :class:`fastpath.ports.Forwarder`."""

    def __init__(
        self, maps: Maps, ledger: Ledger, handled: Callable[[float], float] | None = None
    ) -> None:
        """Whatever a predecessor has left in the maps is gone then.

        :param handled: before when all that came to the relay's sockets has been handled, if it is
            now so late; None: what has come is handled at once.
        """
        self.maps = maps
        self.refusals: Counter[int] = Counter()
        """Copies that the kernel did not send, by outcome; CLAIMED: it never got to them."""
        self.lost_packets = 0
        self.packets = 0
        """Upstream packets: intents."""
        self.copies = 0
        """Sent."""
        self._ledger = ledger
        self._handled = handled or _all
        self._reason = ""
        self._shared = maps.shared.words
        floor = _reset(maps)
        self._tracks = Tracks(maps, self.settled_below)
        self._connections = Connections(maps, ledger, self)
        self._intents = Intents(maps, floor)
        self._loans = Loans(maps, self, self._connections.links, self._tracks.versions)
        self._datagrams = Datagrams()
        self._complete: list[Intent] = []
        """Done with, but reports of theirs may not have been read yet."""
        self._unknown: list[Exceptional] = []
        """Those whose intent was not read yet."""
        self._events: deque[tuple[Intent | Part | Loan, int, int]] = deque()
        """To be told: intent, position, outcome; or a loan that is settled."""
        self._telling = False
        self._closed = False
        self._sent: list[bytes] = []
        """Reports of packets for whose numbers there are no others yet."""
        self._renewed = 0
        """How many upstream packets there had been then."""
        self._next_tick = 0.0
        self._next_sweep = 0.0
        self._heard = 0.0
        self._next_hearing = 0.0
        self._next_telling = 0.0
        self._is_hearing = False
        self._hearing = Hearing(maps, ledger, self._connections.links)
        ledger.catch_up = self.hear
        ledger.acked = maps.connections.rows["acked"].view(np.int64)
        maps.shared.rows[0]["owner"] = secrets.randbits(63) + 1
        self._beat(time.monotonic())
        fence()
        self._shared[maps.shared.word("enabled")] = layout.Switch.ON

    # -- ports.Forwarder

    @property
    def reason(self) -> str:
        return self._reason

    @property
    def enabled(self) -> bool:
        return not self._reason

    @property
    def deadline(self) -> float:
        if self._events or self._tracks.dirty or self._complete:
            return 0.0
        due = self._intents.due()
        return self._next_sweep if due is None else min(due, self._next_sweep)

    def drain(self, now: float) -> None:
        if self._is_to_hear(now):
            self.hear()
        elif not self._collect(now):
            self.collect()
        if now >= self._next_telling:
            self._next_telling = now + TELL_SECONDS
            self._hearing.tell_all()
        self._tell()
        for loan in self._loans.finish():
            self._events.append((loan, 0, 0))
        if self._events:
            self._tell()
        if self._tracks.dirty:
            self._tracks.publish_all()
        if self.packets - self._renewed >= RENEW_PACKETS:
            self.renew_keystreams()
        if now >= self._next_sweep:
            self._sweep(now)

    def register(self, engine: Engine, terms: ports.LinkTerms, bands: Bands | None = None) -> Link:
        return self._connections.register(engine, terms, bands or Bands(Shares()))

    def open_track(
        self, link: ports.Link, channel: int, priority: int = NEUTRAL_PRIORITY
    ) -> FastTrack | None:
        link = cast(Link, link)
        if self._reason or link.index < 0 or link.closed or not link.receiving:
            return None
        return self._tracks.of_channel(link, channel, priority)

    def loan(self, link: ports.Link, stream_id: int) -> Loan | None:
        return self._loans.of(cast(Link, link), stream_id)

    def bind(self, loan: ports.Loan, borrower: ports.Borrower) -> None:
        cast(Loan, loan).bind(borrower)

    def datagram(
        self, link: ports.Link, packet_number: int, index: int, borrower: ports.DatagramBorrower
    ) -> Departures | None:
        link = cast(Link, link)
        found = self._datagrams.take(link, packet_number, index)
        if found is None and not link.keep_packet(packet_number):
            # Perhaps only now, when the packet came again.
            self.collect()
            found = self._datagrams.take(link, packet_number, index)
        if found is None:
            return None
        found.bind(borrower)
        return Departures(found)

    def close(self) -> None:
        """Everything is user space's again, and told to the borrowers before this returns."""
        if self._closed:
            return
        self._closed = True
        self.disable(self._reason or "the relay ends")
        self._claim_all()
        self._connections.close()
        self.maps.slots.rows["data"] = 0
        self._tell()
        self._ledger.catch_up = _nothing  # the ring is a successor's
        self._ledger.acked = self._ledger.acked.copy()
        self.maps.close()  # the agent erases what only it can reach

    def disable(self, reason: str) -> None:
        """Nothing is taken by the kernel any more; what it has taken is settled as ever."""
        self._reason = reason
        self._shared[self.maps.shared.word("enabled")] = layout.Switch.OFF
        fence()
        for loan in list(self._loans):
            loan.dissolve()

    def _claim_all(self) -> None:
        claimed: list[tuple[Intent, int]] = []
        self._intents.claim_all(claimed)
        self._fail((intent, position, CLAIMED) for intent, position in claimed)
        self.collect()

    # -- reading

    def _is_to_hear(self, now: float) -> bool:
        backlog = self.maps.acks.backlog
        return backlog > 0 and (now >= self._next_hearing or backlog > ACKS_BYTES // 4)

    def hear(self) -> None:
        """All acknowledgements that the kernel took; what was lost may be told at once."""
        if self._is_hearing or not self.maps.acks.backlog:
            return
        self._is_hearing = True
        try:
            found = self.maps.acks.read()
            self.collect()  # the reports of what they acknowledge
            self._hear(found)
        except RingError as error:
            self.disable(str(error))
        finally:
            self._is_hearing = False

    def _hear(self, found: bytes) -> None:
        now = time.monotonic()
        self._hearing.take(found)
        since, self._heard = now - self._heard, now
        shortest, longest = HEAR_SECONDS
        pause = since / (2 * self._hearing.used) if self._hearing.used else longest
        self._next_hearing = now + min(max(pause, shortest), longest)

    def tell(self, link: Link) -> None:
        self._hearing.tell(link.index)

    def collect(self) -> None:
        """All that has been submitted, wholly; nothing is told."""
        now = time.monotonic()
        until = now + _PATIENCE
        while not self._collect(now) and now < until:
            now = time.monotonic()

    def collect_intents(self) -> None:
        """All that have been submitted, and no reports; nothing is told."""
        ring = self.maps.intents
        if not ring.waiting:
            return
        until = time.monotonic() + _PATIENCE
        try:
            while ring.waiting and time.monotonic() < until:
                self._read_intents()
        except RingError as error:
            self.disable(str(error))

    def _collect(self, now: float) -> bool:
        """Whether everything was there that had been reserved."""
        try:
            return self._read(now)
        except RingError as error:
            self.disable(str(error))
            return True

    def _read(self, now: float) -> bool:
        self._read_intents()
        if self._intents:
            claimed: list[tuple[Intent, int]] = []
            self._complete += self._intents.complete(now, claimed)
            if claimed:
                self._fail((intent, position, CLAIMED) for intent, position in claimed)
        reports = self.maps.reports.read()
        if reports:
            self._take_reports(reports)
        if self._unknown:
            self._read_intents()
            unknown, self._unknown = self._unknown, []
            for each in unknown:
                self._refuse(*each)
        if not self.maps.reports.complete or self._unknown:
            return False
        for intent in self._complete:
            self._intents.settle(intent)
        self._complete.clear()
        return self.maps.intents.complete

    def _take_reports(self, found: bytes) -> None:
        ring, ledger = self.maps.reports, self._ledger
        self._sent.append(found)
        count = ring.count(found)
        self.copies += count
        at = ledger.record(found)
        while at < count:
            number, time_, sequence, position, size, connection, outcome, dropped = ring.one(
                found, at
            )
            if outcome or dropped:
                self._refuse(sequence, position, outcome, dropped)
            if outcome == Outcome.SENT:
                ledger.record_one(connection, number, time_, sequence, position, size)
            else:
                self.copies -= 1
            at = ledger.record(found, at + 1)

    def _refuse(self, low: int, position: int, outcome: int, dropped: int) -> None:
        intent = self._intents.kept.get(low)
        if intent is None:
            self._unknown.append((low, position, outcome, dropped))
            return
        if dropped:
            self.refusals[Outcome.DROPPED] += dropped.bit_count()
            self._events.append((intent.some(dropped), position, Outcome.DROPPED))
        if outcome not in _WITHOUT_THE_REST:
            self._fail(((intent, position, outcome),))

    def _fail(self, copies: Iterable[tuple[Intent, int, int]]) -> None:
        for intent, position, outcome in copies:
            self.refusals[outcome] += 1
            intent.failed(position)
            self._events.append((intent, position, outcome))

    def _read_intents(self) -> None:
        ring = self.maps.intents
        for record in ring.each(ring.read()):
            self._add(record)

    def _add(self, record: tuple[int, ...]) -> None:
        sequence, number, stamp, array, connection, members, count = record[:_FRAMES]
        if not members:
            self._intents.void(sequence)
            return
        self.packets += 1
        intent = Intent(sequence, stamp * 1e-9, members, self._intents.base(sequence))
        for at in range(_FRAMES, _FRAMES + count * _FRAME, _FRAME):
            stream, stream_id, offset, ordinal, length, kind, fin, index = record[at : at + _FRAME]
            freight: Freight
            if kind == FrameKind.STREAM:
                freight = loan = self._loans.of_frame(stream, stream_id, ordinal, array, connection)
                loan.cover(offset, offset + length, bool(fin))
            else:
                version = self._tracks.versions[array]
                link = self._connections.links[connection]
                assert version is not None
                freight = Datagram(self._datagrams, (link, number, index), version, ordinal)
            intent.frames.append((freight, offset, offset + length, bool(fin)))
        self._intents.add(intent)

    # -- telling

    def _tell(self) -> None:
        """The outermost call tells all, also what the calls bring to light."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._events:
                what, position, outcome = self._events.popleft()
                if not isinstance(what, Loan):
                    what.tell(position, outcome)
                elif what.borrower is not None:
                    what.borrower.settled()
        finally:
            self._telling = False

    # -- the hub of links and loans

    def settled_below(self) -> int:
        return self._intents.floor

    def begun(self, intent: Intent, position: int) -> bool:
        return self._intents.begun(intent, position)

    def lost(self, rows: Sequence[Row]) -> None:
        self.lost_packets += len(rows)
        kept = self._intents.kept
        for low, position in rows:
            intent = kept.get(low)
            if intent is None:
                self._read_intents()
                intent = kept[low]
            intent.lost(position)

    def stopped(self, link: Link, stream_id: int, code: int) -> None:
        found = self._loans.find_leg(link, stream_id)
        if found is not None:
            loan, position = found
            loan.stopped(position, code)

    def limit_raised(self, link: Link, stream_id: int, limit: int) -> None:
        found = self._loans.find_leg(link, stream_id)
        if found is not None:
            loan, position = found
            loan.raise_limit(position, limit)

    def stream_limit(self, link: Link, stream_id: int) -> int:
        found = self._loans.find_leg(link, stream_id)
        return 0 if found is None else found[0].limit(found[1])

    def link_closed(self, link: Link) -> None:
        for track in list(self._tracks.open.values()):
            if track.link is link:
                track.close()
        for member in list(link.members):
            member.leave()
        for loan in list(self._loans):
            if loan.link is link:
                loan.retire()

    # -- from time to time

    def renew_keystreams(self) -> None:
        """Those that the kernel has used."""
        self._renewed = self.packets
        if self._sent:
            self._connections.keystreams.used(b"".join(self._sent))
            self._sent.clear()

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP
        self.renew_keystreams()
        handled = self._handled(now)
        self._loans.sweep(handled)
        self._intents.forget(handled, set(self._ledger.named().tolist()))
        self._tracks.sweep()
        self._connections.sweep()
        if now >= self._next_tick:
            self._tick(now)

    def _tick(self, now: float) -> None:
        self._next_tick = now + HEARTBEAT
        if not self._reason and not self.maps.attached():
            self.disable(DETACHED)
        if not self._reason:
            self._beat(now)
            self._connections.retry()

    def _beat(self, now: float) -> None:
        self._shared[self.maps.shared.word("heartbeat")] = int(now * 1e9)


def _nothing() -> None: ...


def _all(now: float) -> float:
    return now


def _reset(maps: Maps) -> int:
    """Whatever the maps hold of a former relay goes; sequences go on. Returns the next slot's."""
    shared = maps.shared.words
    shared[maps.shared.word("enabled")] = layout.Switch.OFF
    connections = maps.connections
    state = connections.word("state")
    for index in range(layout.CONNECTIONS):
        connections.words[index * connections.stride + state] = layout.ConnectionState.OFF
    fence()
    _await_programs(maps)
    maps.routes.clear()
    maps.channels.clear()
    maps.shared.rows[0]["seed"] = new_seed()
    maps.stream_index.rows["keys"] = 0
    generations = connections.rows["generation"].copy()
    for array in (connections, maps.tracks, maps.members, maps.slots):
        array.rows[:] = np.zeros((), array.rows.dtype)
    connections.rows["generation"] = generations
    np.asarray(maps.keystreams.words)[:] = 0
    maps.streams.rows["state"] = StreamState.FREE
    # Rows, legs and slots of before are never taken for new ones: all sequences are beyond.
    slots = maps.shared.word("slot_next")
    shared[slots] += SLOTS
    shared[maps.shared.word("slot_limit")] = shared[slots] + SLOTS
    maps.intents.skip()
    maps.reports.skip()
    maps.acks.skip()
    return shared[slots]


def _await_programs(maps: Maps) -> None:
    """Those that had begun before end; what one that died has left counts as ended."""
    time.sleep(REST)  # who has just read that it may begin is at work then, or through
    until = time.monotonic() + _PATIENCE
    while (
        maps.connections.rows["busy"].any() or maps.streams.rows["busy"].any()
    ) and time.monotonic() < until:
        pass
    maps.streams.rows["busy"] = 0
