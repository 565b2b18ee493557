"""Where program A gives an upstream stream its row: ``bpf/stream.h`` in plain Python."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence

from fastrelay.fastpath.layout import (
    STREAM_BUCKET_KEYS,
    STREAM_ID_BITS,
    STREAM_INDEX_BUCKETS,
    STREAM_KEY_SET,
    STREAMS,
)
from fastrelay.fastpath.tables import table_hash

SEED = (0x5EED_0F_7AB1E5, 0x0DD_0F_7AB1E5)
"""Of the tables' hash, where it is to be the same in each run."""


def stream_key(connection: int, stream_id: int) -> int:
    return STREAM_KEY_SET | connection << STREAM_ID_BITS | stream_id


class StreamIndex:
    """``words``: the map ``stream_index``, or what stands for it."""

    def __init__(self, words: MutableSequence[int], seed: Sequence[int] = SEED) -> None:
        self.words = words
        self._seed = seed

    def buckets(self, key: int) -> tuple[range, range]:
        """The rows that a stream may have."""
        numbers = table_hash(self._seed, key, 0)
        first, second = (
            range(number * STREAM_BUCKET_KEYS, (number + 1) * STREAM_BUCKET_KEYS)
            for number in (numbers % STREAM_INDEX_BUCKETS, (numbers >> 16) % STREAM_INDEX_BUCKETS)
        )
        return first, second

    def find(self, connection: int, stream_id: int) -> int | None:
        """Its row."""
        key = stream_key(connection, stream_id)
        rows = (row for bucket in self.buckets(key) for row in bucket)
        return next((row for row in rows if self.words[row] == key), None)

    def claim(self, connection: int, stream_id: int) -> int | None:
        """A row for it, in the emptier bucket; None: there is none."""
        key = stream_key(connection, stream_id)
        free = [[row for row in bucket if not self.words[row]] for bucket in self.buckets(key)]
        rows = free[1] if len(free[1]) > len(free[0]) else free[0]
        if not rows:
            return None
        self.words[rows[0]] = key
        return rows[0]


def next_sequence(last: int, row: int) -> int:
    """Of a row, behind the last it had."""
    return (last | (STREAMS - 1)) + 1 + row
