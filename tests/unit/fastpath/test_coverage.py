from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastrelay.fastpath.coverage import Ranges

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=12)


@given(RANGES, st.integers(0, 50), st.integers(0, 50))
def test_ranges_are_sets_of_bytes(spans: list[tuple[int, int]], start: int, size: int) -> None:
    ranges, model = Ranges(), set[int]()
    for low, length in spans:
        ranges.add(low, low + length)
        model |= set(range(low, low + length))
    assert {at for low, high in ranges.spans for at in range(low, high)} == model
    edges = [edge for span in ranges.spans for edge in span]
    assert edges == sorted(set(edges))
    gaps = ranges.gaps(start, start + size)
    assert [at for gap in gaps for at in range(*gap)] == sorted(
        set(range(start, start + size)) - model
    )
    assert ranges.stop == max(model, default=-1) + 1
