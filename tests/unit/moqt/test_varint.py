"""Both varint families: known encodings, limits, truncation, round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.moqt.varint import LEADING_ONES, QUIC, IncompleteError, Varints

FAMILIES = pytest.mark.parametrize("family", [QUIC, LEADING_ONES], ids=lambda f: f.name)

# RFC 9000 appendix A.1, and the table of draft-18 section 1.4.1 at its corners.
KNOWN = [
    (QUIC, 0, "00"),
    (QUIC, 37, "25"),
    (QUIC, 63, "3f"),
    (QUIC, 64, "4040"),
    (QUIC, 15293, "7bbd"),
    (QUIC, 16383, "7fff"),
    (QUIC, 16384, "80004000"),
    (QUIC, 494878333, "9d7f3e7d"),
    (QUIC, (1 << 30) - 1, "bfffffff"),
    (QUIC, 1 << 30, "c000000040000000"),
    (QUIC, 151288809941952652, "c2197c5eff14e88c"),
    (QUIC, (1 << 62) - 1, "ffffffffffffffff"),
    (LEADING_ONES, 0, "00"),
    (LEADING_ONES, 127, "7f"),
    (LEADING_ONES, 128, "8080"),
    (LEADING_ONES, 0x2F00, "af00"),
    (LEADING_ONES, (1 << 14) - 1, "bfff"),
    (LEADING_ONES, 1 << 14, "c04000"),
    (LEADING_ONES, (1 << 21) - 1, "dfffff"),
    (LEADING_ONES, 1 << 21, "e0200000"),
    (LEADING_ONES, 1 << 28, "f010000000"),
    (LEADING_ONES, (1 << 42) - 1, "fbffffffffff"),
    (LEADING_ONES, 1 << 42, "fc040000000000"),
    (LEADING_ONES, 1 << 49, "fe02000000000000"),
    (LEADING_ONES, (1 << 56) - 1, "feffffffffffffff"),
    (LEADING_ONES, 1 << 56, "ff0100000000000000"),
    (LEADING_ONES, (1 << 64) - 1, "ffffffffffffffffff"),
]


@pytest.mark.parametrize(("family", "value", "wire"), KNOWN)
def test_known_encodings(family: Varints, value: int, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert family.encode(value) == data
    assert family.decode(data, 0) == (value, len(data))
    assert family.length[data[0]] == len(data) == family.size(value)


@FAMILIES
@pytest.mark.parametrize("offset", [-1, None])
def test_what_does_not_fit_is_refused(family: Varints, offset: int | None) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        family.encode(family.maximum + 1 if offset is None else offset)


@FAMILIES
def test_every_truncation_is_incomplete(family: Varints) -> None:
    for value in (0, family.one_byte, 1 << 20, family.maximum):
        wire = family.encode(value)
        for cut in range(len(wire)):
            with pytest.raises(IncompleteError):
                family.decode(wire[:cut], 0)


@pytest.mark.parametrize(
    ("family", "wire", "value"),
    [
        (QUIC, "4025", 37),
        (QUIC, "c000000000000025", 37),
        (LEADING_ONES, "8025", 37),
        (LEADING_ONES, "fe00000000000025", 37),
        (LEADING_ONES, "ff0000000000000025", 37),
    ],
)
def test_longer_forms_are_legal(family: Varints, wire: str, value: int) -> None:
    data = bytes.fromhex(wire)
    assert family.decode(data, 0) == (value, len(data))


@FAMILIES
@given(data=st.data(), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_round_trip(family: Varints, data: st.DataObject, before: bytes, after: bytes) -> None:
    bits = data.draw(st.integers(0, family.maximum.bit_length()))
    value = data.draw(st.integers(0, (1 << bits) - 1))
    wire = family.encode(value)
    end = len(before) + len(wire)
    for buffer in (bytes, bytearray, memoryview):
        assert family.decode(buffer(before + wire + after), len(before)) == (value, end)
    assert (value < family.one_byte) == (len(wire) == 1)
