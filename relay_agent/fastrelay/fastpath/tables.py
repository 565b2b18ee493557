"""Tables that the relay writes and programs read: what a key of an owner's stands for.

A pair lies in one of two buckets of its table, the emptier one when it was put there. The hash
has a secret seed: what others choose (track aliases) does not choose buckets. When both are full
the pair is not in the table, and what it is about is user space's.

Programs look a pair up while it is written or erased. They read key and value one after the
other, in any order. So the value comes last and goes first, an erased pair has no key that
anybody looks for, and it rests for longer than a program runs before it is used for another.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import (
    BUCKET_PAIRS,
    TABLE_ERASED,
    TABLE_MULTIPLIER,
    TABLE_NONE,
)

REST = 0.01
"""Seconds after which no program reads what was taken away from the ways that lead to it."""
_MASK = (1 << 64) - 1
_HALF = (1 << 32) - 1


class Pair(NamedTuple):
    key: int
    owner: int
    value: int


def new_seed() -> tuple[int, int]:
    """The second multiplies: it is odd."""
    return secrets.randbits(64), secrets.randbits(64) | 1


def table_hash(seed: Sequence[int], key: int, owner: int) -> int:
    """Two bucket numbers, of 16 bits each; as in ``bpf/table.h``."""
    mixed = (key ^ seed[0]) * seed[1] & _MASK
    mixed ^= mixed >> 32
    return ((mixed + owner) * TABLE_MULTIPLIER & _MASK) >> 32


class Table:
    """``words``: the map's memory, two a pair. ``seed``: that of ``shared``, of two words."""

    def __init__(self, words: memoryview[int], seed: Sequence[int]) -> None:
        self._words = words
        self._seed = seed
        self._buckets = len(words) // (2 * BUCKET_PAIRS)
        self._resting: dict[int, float] = {}
        """Places of pairs that were erased, and until when, in this order."""

    def clear(self) -> None:
        """Erase all pairs, also what was put with another seed. To be called first of all."""
        for place in list(self._places()):
            self._erase(place)
        for at in range(0, len(self._words), 2):
            self._words[at] = TABLE_ERASED

    def find(self, key: int, owner: int) -> int | None:
        place = self._place(key, owner)
        return None if place is None else self._words[2 * place + 1] & _HALF

    def put(self, key: int, owner: int, value: int) -> bool:
        """False: there is no room where it would be looked for.

        :param key: of 64 bits, not in the table for this owner.
        :param owner: from 1 on, below 2**32. :param value: below 2**32 - 1.
        """
        assert 0 < owner <= _HALF
        assert 0 <= value < TABLE_NONE
        if key == TABLE_ERASED:
            return False
        self._wake()
        first, second = (
            [place for place in bucket if not self._words[2 * place + 1] and not self._rests(place)]
            for bucket in self._candidates(key, owner)
        )
        free = first if len(first) >= len(second) else second
        if not free:
            return False
        self._words[2 * free[0]] = key
        fence()
        self._words[2 * free[0] + 1] = owner << 32 | value
        return True

    def remove(self, key: int, owner: int) -> bool:
        """Whether it was there."""
        place = self._place(key, owner)
        if place is not None:
            self._erase(place)
        return place is not None

    def pairs(self) -> list[Pair]:
        """All there are, in no order."""
        words = self._words
        return [
            Pair(words[2 * place], words[2 * place + 1] >> 32, words[2 * place + 1] & _HALF)
            for place in self._places()
        ]

    def _places(self) -> Iterator[int]:
        return (at for at in range(BUCKET_PAIRS * self._buckets) if self._words[2 * at + 1])

    def _candidates(self, key: int, owner: int) -> tuple[range, range]:
        numbers = table_hash(self._seed, key, owner)
        first, second = (
            range(BUCKET_PAIRS * bucket, BUCKET_PAIRS * (bucket + 1))
            for bucket in (numbers & (self._buckets - 1), numbers >> 16 & (self._buckets - 1))
        )
        return first, second

    def _place(self, key: int, owner: int) -> int | None:
        for bucket in self._candidates(key, owner):
            for place in bucket:
                value = self._words[2 * place + 1]
                if value and self._words[2 * place] == key and value >> 32 == owner:
                    return place
        return None

    def _erase(self, place: int) -> None:
        self._words[2 * place + 1] = 0
        fence()
        self._words[2 * place] = TABLE_ERASED
        self._resting[place] = time.monotonic() + REST

    def _rests(self, place: int) -> bool:
        return place in self._resting

    def _wake(self) -> None:
        now = time.monotonic()
        while self._resting:
            place, until = next(iter(self._resting.items()))
            if until > now:
                return
            del self._resting[place]
