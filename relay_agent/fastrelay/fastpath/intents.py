"""Intents: what the kernel took upon itself, until everybody has it.

An intent is *open* until its slot is settled: each copy was sent, refused, or claimed by user
space. It is *kept* as long as a packet in flight names it: it says what was in the packet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Protocol

from fastrelay.fastpath.atomics import fetch_or
from fastrelay.fastpath.layout import SLOTS
from fastrelay.fastpath.maps import Maps

LOW = (1 << 32) - 1
CLAIM_AFTER = 0.01
"""Seconds after which user space takes what the kernel has not begun."""
KEEP = 1.0
"""Seconds that an intent is kept whether or not a packet names it. So much later the upstream
packet is in the relay's socket, or nowhere."""
_SOON = 0.001
"""Seconds until the next look at a copy that is just being sent."""
CLAIMED = -1
"""In place of an outcome: user space has claimed the copy."""


class Freight(Protocol):
    """What is in a slot: a part of a stream, or a datagram."""

    def begin(self, intent: Intent) -> None:
        """It is in this intent."""

    def failed(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The kernel did not send it to this member. The relay hears of it later."""

    def tell(self, position: int, start: int, stop: int, fin: bool, outcome: int) -> None:
        """The relay is to hear of it."""

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The packet was lost on its way."""

    def settle(self, intent: Intent) -> None:
        """Each copy is sent, refused or claimed."""

    def forget(self) -> None:
        """No packet in flight names the intent any more. Once for each :meth:`begin`."""


Frame = tuple[Freight, int, int, bool]
"""What, start, stop, FIN."""


class Intent:
    """``complete``: what the slot's ``done`` is in the end; ``base``: of the slot, in words."""

    __slots__ = ("base", "claimed", "complete", "frames", "low", "sequence", "settled", "time")

    def __init__(self, sequence: int, time: float, members: int, base: int) -> None:
        self.sequence = sequence
        self.low = sequence & LOW
        self.time = time
        self.base = base
        self.complete = self.low << 32 | members
        self.frames: list[Frame] = []
        self.claimed = False
        self.settled = False

    def failed(self, position: int) -> None:
        for freight, start, stop, fin in self.frames:
            freight.failed(position, start, stop, fin)

    def tell(self, position: int, outcome: int) -> None:
        for freight, start, stop, fin in self.frames:
            freight.tell(position, start, stop, fin, outcome)

    def lost(self, position: int) -> None:
        for freight, start, stop, fin in self.frames:
            freight.lost(position, start, stop, fin)

    def some(self, bits: int) -> Part:
        """Those of its frames whose bit is set."""
        return Part([frame for at, frame in enumerate(self.frames) if bits >> at & 1])


class Part:
    """Frames of an intent that a member's copy was made without."""

    __slots__ = ("frames",)

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def tell(self, position: int, outcome: int) -> None:
        for freight, start, stop, fin in self.frames:
            freight.tell(position, start, stop, fin, outcome)


class Intents:
    """All that are open or kept."""

    def __init__(self, maps: Maps, floor: int) -> None:
        self.floor = floor
        """All slots below are settled."""
        self.kept: dict[int, Intent] = {}
        """By the low half of the sequence, in the order of the ring."""
        self._slots = maps.slots
        self._words = maps.slots.words
        self._done = maps.slots.word("done")
        self._claims = maps.slots.word("claims")
        self._shared = maps.shared.words
        self._slot_limit = maps.shared.word("slot_limit")
        self._open: deque[Intent] = deque()
        self._ahead: set[int] = set()
        """Settled slots at or beyond the floor."""

    def __len__(self) -> int:
        return len(self._open)

    def base(self, sequence: int) -> int:
        return sequence % SLOTS * self._slots.stride

    def add(self, intent: Intent) -> None:
        self.kept[intent.low] = intent
        self._open.append(intent)
        for freight, _, _, _ in intent.frames:
            freight.begin(intent)

    def void(self, sequence: int) -> None:
        """A slot that was taken and not used."""
        self._settled(sequence)

    # -- settling

    def complete(self, now: float, claimed: list[tuple[Intent, int]]) -> list[Intent]:
        """Those of which the kernel has done all that it will do. What user space took of them,
        because it was open for too long, is added to ``claimed``."""
        found = []
        words, done, open_ = self._words, self._done, self._open
        while open_:
            intent = open_[0]
            if words[intent.base + done] == intent.complete:
                found.append(open_.popleft())
            elif not intent.claimed and now >= intent.time + CLAIM_AFTER:
                self.claim(intent, claimed)
            else:
                break
        return found

    def claim_all(self, claimed: list[tuple[Intent, int]]) -> None:
        for intent in self._open:
            if not intent.claimed:
                self.claim(intent, claimed)

    def claim(self, intent: Intent, claimed: list[tuple[Intent, int]]) -> None:
        """Take all copies that the kernel has not begun."""
        intent.claimed = True
        members = intent.complete & LOW
        at = intent.base + self._claims
        kernel = 0
        for first in range(0, members, 32):
            wanted = (1 << min(32, members - first)) - 1
            before = fetch_or(self._slots.address + 8 * at, wanted)
            kernel += (before & wanted).bit_count()
            ours = wanted & ~before
            while ours:
                lowest = ours & -ours
                claimed.append((intent, first + lowest.bit_length() - 1))
                ours ^= lowest
            at += 1
        intent.complete = intent.low << 32 | kernel

    def begun(self, intent: Intent, position: int) -> bool:
        """Whether anybody has claimed a copy of an open intent."""
        word = self._words[intent.base + self._claims + position // 32]
        return bool(word >> position % 32 & 1)

    def settle(self, intent: Intent) -> None:
        """All is known of it: the kernel may have its slot again."""
        intent.settled = True
        for freight, _, _, _ in intent.frames:
            freight.settle(intent)
        self._settled(intent.sequence)

    def _settled(self, sequence: int) -> None:
        if sequence != self.floor:
            self._ahead.add(sequence)
            return
        floor = sequence + 1
        while floor in self._ahead:
            self._ahead.remove(floor)
            floor += 1
        self.floor = floor
        self._shared[self._slot_limit] = floor + SLOTS

    def due(self) -> float | None:
        """When to look again."""
        if not self._open:
            return None
        first = self._open[0]
        return first.time + CLAIM_AFTER + (_SOON if first.claimed else 0)

    # -- keeping

    def forget(self, handled: float, named: Container[int]) -> None:
        """Those that no packet in flight names.

        :param handled: the relay has read all packets that came before. It asks for the intents
            of each, and would take one whose intent is not here for one that the kernel left alone.
        """
        gone = []
        for low, intent in self.kept.items():
            if handled - intent.time < KEEP:
                break
            if intent.settled and low not in named:
                gone.append(low)
        for low in gone:
            for freight, _, _, _ in self.kept.pop(low).frames:
                freight.forget()
