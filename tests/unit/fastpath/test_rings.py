"""The reading end against a writer that reserves, submits and discards as the kernel does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.fastpath import layout, rings
from fastrelay.fastpath.maps import MemoryRing
from fastrelay.fastpath.rings import HEADER, Ring, RingError
from unit.fastpath.kernel import RingWriter

SIZE = 256
"""Six records of 40 bytes fit, and the seventh wraps."""


def ends(size: int = SIZE) -> tuple[RingWriter, Ring, MemoryRing]:
    memory = MemoryRing(size)
    writer = RingWriter(memory, layout.REPORT.dtype, size)
    return writer, Ring(memory.consumer, memory.producer, memory.data, layout.REPORT), memory


def record(number: int) -> Any:
    made = np.zeros((), layout.REPORT.dtype)
    made["packet_number"] = number
    return made


def numbers(ring: Ring) -> list[int]:
    return [number for number, *_ in ring.each(ring.read())]


@given(
    st.lists(st.sampled_from(["reserve", "submit", "discard", "read"]), max_size=200),
    st.sampled_from([0, 16]),
)
def test_records_come_once_and_in_order_of_their_reservation(steps: list[str], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rings, "_FEW", few)
        come_once_and_in_order(steps)


def come_once_and_in_order(steps: list[str]) -> None:
    writer, ring, memory = ends()
    open_: list[tuple[int, int]] = []
    expected: dict[int, int] = {}
    got: list[int] = []
    count = 0
    for step in steps:
        if step == "reserve" and (place := writer.reserve()) is not None:
            open_.append((place, count))
            count += 1
        elif step == "submit" and open_:
            place, number = open_.pop(len(open_) // 2)
            writer.submit(place, record(number))
            expected[place] = number
        elif step == "discard" and open_:
            place, _ = open_.pop()
            writer.discard(place)
        elif step == "read":
            got += numbers(ring)
            first_open = min((place for place, _ in open_), default=memory.producer[0])
            assert memory.consumer[0] == first_open
            assert ring.complete == (not open_)
    for place, number in open_:
        writer.submit(place, record(number))
        expected[place] = number
    got += numbers(ring)
    assert got == [expected[place] for place in sorted(expected)]
    assert not ring.waiting


def test_what_was_read_is_a_copy() -> None:
    writer, ring, memory = ends()
    writer.submit(writer.reserve() or 0, record(7))
    found = ring.read()
    memory.data[:] = bytes(len(memory.data))
    assert [number for number, *_ in ring.each(found)] == [7]
    assert ring.one(found, 0)[0] == 7


def test_a_record_of_another_size_is_an_error() -> None:
    writer, ring, memory = ends()
    writer.submit(writer.reserve() or 0, record(7))
    memory.data[0:4] = (24).to_bytes(4, "little")
    with pytest.raises(RingError, match="has not 32 bytes"):
        ring.read()


def test_skip_forgets() -> None:
    writer, ring, _ = ends()
    writer.submit(writer.reserve() or 0, record(7))
    ring.skip()
    assert not ring.waiting
    assert len(ring.read()) == 0
    assert HEADER == 8
