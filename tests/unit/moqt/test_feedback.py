"""Reports of arrivals."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.moqt.feedback import MAX_ARRIVALS, Arrival, decode, encode

NUMBERS = st.integers(0, (1 << 62) - 1)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.floats(0, 50)), min_size=1, max_size=64),
    st.floats(0, 1e9),
)
def test_what_is_written_is_read(entries: list[tuple[int, int, int, float]], base: float) -> None:
    arrivals = [Arrival(*names, base + after) for *names, after in entries]
    again = decode(encode(arrivals))
    assert [each[:3] for each in again] == [each[:3] for each in arrivals]
    for one, other in zip(again, arrivals, strict=True):
        assert one.at == pytest.approx(other.at, abs=2e-6)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "cut off"),
        (b"\x00", "without arrivals"),
        (b"\xff" * 8 + b"\x00" * 4, "beyond 2"),
        (b"\x00\x01\x02\x03", "cut off"),
        (b"\x00\x01\x02\x03\x80", "cut off"),
        (b"\x00" + b"\x01" * 4 * (MAX_ARRIVALS + 1), f"more than {MAX_ARRIVALS}"),
        (b"\x00\x01\x02\x03" + (0xC000_0000_0393_8701).to_bytes(8), "more than a minute"),
    ],
)
def test_what_cannot_be_is_refused(payload: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(payload)


@given(st.binary(max_size=1200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert 1 <= len(decode(payload)) <= MAX_ARRIVALS
