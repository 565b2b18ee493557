"""Who goes first when a subscriber's share of the network is not enough: the rule, exactly.

Objects are in one of four bands by priority, the first the most important. A stream is judged
once, when its first packet is to be sent, a datagram by itself; all of what was admitted is
sent, whatever comes, and nothing of what was dropped. ``bpf/bands.h`` is the same rule on the
same numbers, which a connection that the kernel knows has in its row of the maps. Whoever sends
judges and charges.

Two things drop. The *level* takes bands away from the last one up, each group by group: a group
whose hash is beyond it goes as a whole, for every subscriber of that level. While it may change,
what was decided for a group of datagrams is remembered for some seconds (``remembers``), so that
none is cut: of the last few groups, as bands are small, and not for ever, as groups need not end.

The *rate*, if there is one, is shared out. What a band sends makes it busy for as long as that
takes at its share of the rate (a virtual clock: ``due``), and the whole for as long as it takes at
all of it. A band that is not ``burst`` ahead of the clock is within its share. One that is may
still take what others leave, as long as the whole is ahead by less than the band's ``patience``:
the less important a band is, the smaller, by the shares of those before it, so that these find
room.
Of what it takes like this it pays back no more than ``overflow``; what it sends while the others
want it, the rest of a long stream perhaps, it pays back wholly, by waiting.

A packet of a band has to leave some of the congestion window free, too (``reserve``), while user
space says so: what does not find room is user space's then, in the order of priorities.

Integers throughout: bytes, nanoseconds of CLOCK_MONOTONIC, and prices, in 1024th of a
nanosecond a byte. The clock is that of the generic cell rate algorithm (ITU-T I.371).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from fastrelay.fastpath.atomics import compare_exchange, fetch_add
from fastrelay.fastpath.layout import (
    BAND,
    BAND_LEVELS,
    BANDS,
    CONNECTION_BANDS,
    JUDGED,
    JUDGED_TICK_BITS,
    JUDGED_TICK_SHIFT,
    JUDGED_TICKS,
    NEUTRAL_PRIORITY,
    PRICE_SHIFT,
    TABLE_MULTIPLIER,
)

SECOND = 1_000_000_000
ALWAYS = (1 << 64) - 1
"""No time is later."""
REMEMBERED = JUDGED_TICKS << JUDGED_TICK_SHIFT
"""Nanoseconds for which it is remembered what was decided for a group."""
MAX_LEVEL = BANDS * BAND_LEVELS
"""All bands are dropped."""
MIN_RATE = 1_000
MOST_RESERVED = 50
"""Percent of the congestion window that a band has to leave free at most."""
_TRIES = 64
_MASK = (1 << 64) - 1
_LOW = (1 << 32) - 1
_TICK_MASK = (1 << JUDGED_TICK_BITS) - 1
_SENT, _DROPPED = 1, 2


class Verdict(IntEnum):
    ADMITTED = 0
    LEVEL = 1
    """Its band, or its group in it, is beyond the level."""
    SHARE = 2
    """Its band has used up its share, and the others leave nothing."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How the bands are cut.

    ``ends``: the largest priority of each band, rising, the last one 255; ``percent``: of the
    rate, 100 together; ``burst``: nanoseconds; ``overflow``: percent of that.
    """

    ends: tuple[int, ...] = (31, 127, 191, 255)
    percent: tuple[int, ...] = (20, 50, 20, 10)
    burst: int = SECOND // 2
    overflow: int = 10


def nanoseconds(now: float) -> int:
    """Of a clock's seconds."""
    return int(now * SECOND)


@dataclass(frozen=True, slots=True)
class BandCounters:
    """By band, both sides: bytes sent, streams and datagrams dropped."""

    bytes: tuple[int, ...] = (0,) * BANDS
    dropped: tuple[int, ...] = (0,) * BANDS

    def plus(self, other: BandCounters) -> BandCounters:
        return BandCounters(
            tuple(map(int.__add__, self.bytes, other.bytes)),
            tuple(map(int.__add__, self.dropped, other.dropped)),
        )


def price(rate: int) -> int:
    """Of a byte at ``rate`` bytes a second; 0: there is no limit, and no price."""
    return (SECOND << PRICE_SHIFT) // max(rate, MIN_RATE) if rate else 0


def rate(price: int) -> int:
    """Bytes a second at that price, or nearly; 0: no limit."""
    return (SECOND << PRICE_SHIFT) // price if price else 0


def band_of(ends: Sequence[int], publisher: int, subscriber: int) -> int:
    """The band of an object. A subscriber's priority shifts the publisher's, so that the streams
    of a more urgent subscription are in better bands (less is more urgent on both sides)."""
    priority = min(max(publisher + subscriber - NEUTRAL_PRIORITY, 0), 255)
    return sum(priority > end for end in ends[: BANDS - 1])


def group_hash(group: int) -> int:
    """Below ``BAND_LEVELS``. Groups in a row are spread as evenly as can be (Fibonacci hashing),
    so that half of a band is about every other group."""
    return (group * TABLE_MULTIPLIER & _MASK) * BAND_LEVELS >> 64


class Bands:
    """The numbers of one connection: what user space has decided, and what both sides have used.

    They are its own until :meth:`enter`, then those of the connection's row in the maps.
    """

    __slots__ = ("_address", "_at", "_uncharged", "_words", "limited", "shares")

    def __init__(self, shares: Shares) -> None:
        self._words: list[int] | memoryview[int] = [0] * _SIZE
        self._at = 0
        self._address = 0
        """Of the first word; 0: nobody else sees them."""
        self.shares = shares
        self._uncharged = [0] * BANDS
        self.limited = False
        """There is a rate or a level, or was a moment ago."""
        self._words[_ENDS] = int.from_bytes(_padded(shares.ends), "little")

    # Where they are

    def enter(self, words: list[int] | memoryview[int], at: int, address: int) -> None:
        """The numbers are in shared memory now: from ``words[at]`` on, at ``address``."""
        for index in range(_SIZE):
            words[at + index] = self._words[self._at + index]
        self._words, self._at, self._address = words, at, address

    def leave(self) -> None:
        """They are private again; the kernel does not look at them any more."""
        self._words = list(self._words[self._at : self._at + _SIZE])
        self._at = self._address = 0

    # What user space decides

    @property
    def rate(self) -> int:
        """Bytes a second, as near as the price says; 0: no limit."""
        return rate(self._words[self._at + _PRICE])

    @property
    def level(self) -> int:
        """How much is dropped: ``BAND_LEVELS`` for each band, from the last one up."""
        return self._words[self._at + _LEVEL]

    def set_level(self, level: int) -> None:
        """:raises ValueError: there is no such level."""
        if not 0 <= level <= MAX_LEVEL:
            raise ValueError(f"levels are 0 to {MAX_LEVEL}, not {level}")
        self._words[self._at + _LEVEL] = level
        self._note()

    def remember(self, until: int) -> None:
        """What is decided for groups of datagrams until then stays so, for a while."""
        self._words[self._at + _REMEMBERS] = until
        self._note()

    def forget(self, now: int) -> None:
        """If nothing is to be remembered any more."""
        if self._words[self._at + _REMEMBERS] <= now:
            self.remember(0)

    def set_rate(self, rate: int, now: int) -> None:
        """``rate``: bytes a second; 0: no limit. What was owed at the old one is forgiven but for
        a burst."""
        words, at, shares = self._words, self._at, self.shares
        overflow = shares.burst * shares.overflow // 100
        # The price comes last, and goes first: with none, nothing else is looked at.
        words[at + _PRICE] = 0
        words[at + _BURST] = shares.burst
        words[at + _OVERFLOW] = overflow
        self._forgive(at + _DUE, now + shares.burst)
        above = 0
        for index, percent in enumerate(_filled(shares.percent)):
            band = at + _EACH + index * _STRIDE
            words[band + _BAND_PRICE] = price(rate * percent // 100) if rate and percent else 0
            words[band + _BAND_PATIENCE] = shares.burst * (100 - above) // 100
            self._forgive(band + _BAND_DUE, now + shares.burst + overflow)
            above += percent
        words[at + _PRICE] = price(rate)
        self._note()

    def set_window(self, window: int) -> None:
        """The congestion window, of which the less important bands leave the shares of those
        before them, but no more than half; 0: they need not."""
        above = 0
        for index, percent in enumerate(_filled(self.shares.percent)):
            band = self._at + _EACH + index * _STRIDE
            self._words[band + _BAND_RESERVE] = window * min(above, MOST_RESERVED) // 100
            above += percent

    def _note(self) -> None:
        words, at = self._words, self._at
        self.limited = bool(words[at + _PRICE] or words[at + _LEVEL] or words[at + _REMEMBERS])

    def _forgive(self, index: int, most: int) -> None:
        for _ in range(_TRIES):
            there = self._words[index]
            if there <= most or self._swap(index, there, most):
                return

    # The rule

    def band(self, publisher: int, subscriber: int) -> int:
        return band_of(self.shares.ends, publisher, subscriber)

    def judge(self, band: int, group: int, now: int, *, datagram: bool = False) -> Verdict:
        """Whether a stream or datagram of that band and group may begin."""
        words, at = self._words, self._at
        beyond = self.is_beyond(band, group)
        if self._judged(band, group, beyond, now) if datagram else beyond:
            return Verdict.LEVEL
        if not words[at + _PRICE]:
            return Verdict.ADMITTED
        own = at + _EACH + band * _STRIDE
        if words[own + _BAND_PRICE] and words[own + _BAND_DUE] <= now + words[at + _BURST]:
            return Verdict.ADMITTED
        if words[at + _DUE] <= now + words[own + _BAND_PATIENCE]:
            return Verdict.ADMITTED
        return Verdict.SHARE

    def is_beyond(self, band: int, group: int) -> bool:
        """Whether the level drops that group of the band."""
        level = self._words[self._at + _LEVEL]
        return band * BAND_LEVELS + group_hash(group) + level >= MAX_LEVEL

    def recalled(self, band: int, group: int, now: int) -> Verdict | None:
        """What was decided for datagrams of that group lately; None: nothing."""
        words, at = self._words, self._at
        if words[at + _REMEMBERS] <= now:
            return None
        there = words[at + _EACH + band * _STRIDE + _BAND_JUDGED + group % JUDGED]
        if not _is_judged(there, group, now):
            return None
        return Verdict.LEVEL if there & _DROPPED else Verdict.ADMITTED

    def _judged(self, band: int, group: int, beyond: bool, now: int) -> bool:
        """Whether a datagram is dropped by the level, which drops its group now or not."""
        words, at = self._words, self._at
        if words[at + _REMEMBERS] <= now:
            return beyond
        index = at + _EACH + band * _STRIDE + _BAND_JUDGED + group % JUDGED
        there = words[index]
        if not _is_judged(there, group, now):
            tick = now >> JUDGED_TICK_SHIFT & _TICK_MASK
            wanted = (group & _LOW) << 32 | tick << 2 | (_DROPPED if beyond else _SENT)
            if self._swap(index, there, wanted):
                return beyond
            there = words[index]
            if not _is_judged(there, group, now):
                return beyond
        return bool(there & _DROPPED)

    def limit(self, band: int, limit: int) -> int:
        """How far a packet of the band may go of ``limit``, what the congestion window allows."""
        return max(0, limit - self.reserve(band))

    def reserve(self, band: int) -> int:
        """Bytes of the congestion window that packets of the band leave free."""
        return self._words[self._at + _EACH + band * _STRIDE + _BAND_RESERVE]

    def charge(self, band: int, size: int, now: int) -> None:
        """So many bytes of the band are sent."""
        words, at = self._words, self._at
        own = at + _EACH + band * _STRIDE
        self._add(own + _BAND_BYTES, size)
        per_byte = words[at + _PRICE]
        if not per_byte:
            return
        left = words[at + _DUE] <= now + words[own + _BAND_PATIENCE]
        most = now + words[at + _BURST] + words[at + _OVERFLOW] if left else _MASK
        self._spend(own + _BAND_DUE, size * words[own + _BAND_PRICE] >> PRICE_SHIFT, now, most)
        self._spend(at + _DUE, size * per_byte >> PRICE_SHIFT, now, _MASK)

    def note(self, band: int, size: int) -> None:
        """The same while there is no rate, for user space: its bytes are only counted."""
        self._uncharged[band] += size

    def drop(self, band: int) -> None:
        """One more stream or datagram of the band was dropped."""
        self._add(self._at + _EACH + band * _STRIDE + _BAND_DROPPED, 1)

    def _spend(self, index: int, cost: int, now: int, most: int) -> None:
        for _ in range(_TRIES):
            there = self._words[index]
            wanted = max(there, min(max(there, now) + cost, most))
            if self._swap(index, there, wanted):
                return

    # Counted

    def bytes(self, band: int) -> int:
        """Sent in the band, by both sides."""
        there = self._words[self._at + _EACH + band * _STRIDE + _BAND_BYTES]
        return there + self._uncharged[band]

    def dropped(self, band: int) -> int:
        """Streams and datagrams of the band that were dropped, by both sides."""
        return self._words[self._at + _EACH + band * _STRIDE + _BAND_DROPPED]

    def counted(self) -> BandCounters:
        return BandCounters(
            tuple(map(self.bytes, range(BANDS))), tuple(map(self.dropped, range(BANDS)))
        )

    # Both sides write

    def _swap(self, index: int, expected: int, desired: int) -> bool:
        if self._address:
            address = self._address + 8 * (index - self._at)
            return compare_exchange(address, expected, desired)
        self._words[index] = desired
        return True

    def _add(self, index: int, number: int) -> None:
        if self._address:
            fetch_add(self._address + 8 * (index - self._at), number)
        else:
            self._words[index] += number


def _is_judged(there: int, group: int, now: int) -> bool:
    ticks = (now >> JUDGED_TICK_SHIFT) - (there >> 2) + JUDGED_TICKS & _TICK_MASK
    return there != 0 and there >> 32 == group & _LOW and ticks < 2 * JUDGED_TICKS


def _padded(ends: tuple[int, ...]) -> bytes:
    return bytes((*ends, *(255,) * (8 - len(ends))))


def _filled(percent: tuple[int, ...]) -> tuple[int, ...]:
    return (*percent, *(0,) * (BANDS - len(percent)))


_SIZE = CONNECTION_BANDS.size // 8
_STRIDE = BAND.size // 8
_PRICE = CONNECTION_BANDS.word("price")
_DUE = CONNECTION_BANDS.word("due")
_BURST = CONNECTION_BANDS.word("burst")
_OVERFLOW = CONNECTION_BANDS.word("overflow")
_LEVEL = CONNECTION_BANDS.word("level")
_REMEMBERS = CONNECTION_BANDS.word("remembers")
_ENDS = CONNECTION_BANDS.word("ends")
_EACH = CONNECTION_BANDS.word("each")
_BAND_PRICE = BAND.word("price")
_BAND_DUE = BAND.word("due")
_BAND_PATIENCE = BAND.word("patience")
_BAND_BYTES = BAND.word("bytes")
_BAND_DROPPED = BAND.word("dropped")
_BAND_RESERVE = BAND.word("reserve")
_BAND_JUDGED = BAND.word("judged")
