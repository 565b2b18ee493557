"""Key-value pairs and properties: encodings, both families, and what is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import MalformedTrackError, MoqtError, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFTS, Draft
from fastrelay.moqt.keyvalue import KeyValue, TrackProperties
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.moqt.varint import LEADING_ONES, QUIC, Varints

from .strategies import pairs

FAMILIES = pytest.mark.parametrize("family", [QUIC, LEADING_ONES], ids=lambda f: f.name)
DRAFT = pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
HERE = Location(5, 5)


@FAMILIES
@settings(max_examples=60)
@given(chosen=pairs())
def test_round_trip(family: Varints, chosen: tuple[KeyValue, ...]) -> None:
    data = keyvalue.encode(chosen, family)
    assert tuple(keyvalue.decode(data, family)) == chosen
    for cut in range(len(data)):
        try:
            shorter = tuple(keyvalue.decode(data[:cut], family))
        except MoqtError:
            continue
        assert shorter == chosen[: len(shorter)]


@settings(max_examples=60)
@given(chosen=pairs(), nested=pairs())
def test_reencoding_keeps_the_values(
    chosen: tuple[KeyValue, ...], nested: tuple[KeyValue, ...]
) -> None:
    def written(family: Varints) -> bytes:
        immutable = (keyvalue.IMMUTABLE_PROPERTIES, keyvalue.encode(nested, family))
        return keyvalue.encode((immutable, *chosen), family)

    assert keyvalue.reencode(written(QUIC), QUIC, LEADING_ONES) == written(LEADING_ONES)
    assert keyvalue.reencode(written(LEADING_ONES), LEADING_ONES, QUIC) == written(QUIC)


def test_reencoding_within_a_family_is_no_copy() -> None:
    data = keyvalue.encode([(2, 300)], QUIC)
    assert keyvalue.reencode(data, QUIC, QUIC) is data
    assert keyvalue.reencode(b"", QUIC, LEADING_ONES) == b""


def test_reencoding_what_does_not_fit() -> None:
    data = keyvalue.encode([(2, 1 << 63)], LEADING_ONES)
    with pytest.raises(ValueError, match="does not fit"):
        keyvalue.reencode(data, LEADING_ONES, QUIC)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ([(4, 1), (2, 1)], "does not fit"),
        ([(4, b"")], "odd types"),
        ([(5, 1)], "odd types"),
        ([(5, bytes(65536))], "65536 bytes"),
    ],
)
def test_pairs_that_cannot_be_written(chosen: list[KeyValue], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        keyvalue.encode(chosen, LEADING_ONES)


@pytest.mark.parametrize(
    ("data", "family"),
    [
        ("02", QUIC),
        ("02 40", QUIC),
        ("40", QUIC),
        ("03 02 00", QUIC),
        ("03 80010000", QUIC),
        ("02 00 ffffffffffffffffff 00", LEADING_ONES),
        ("fffffffffffffffffe 00 02 00", LEADING_ONES),
    ],
)
def test_what_are_no_pairs(data: str, family: Varints) -> None:
    with pytest.raises(MoqtError) as caught:
        list(keyvalue.decode(bytes.fromhex(data), family))
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@FAMILIES
def test_find_looks_among_the_immutable_too(family: Varints) -> None:
    immutable = keyvalue.encode([(0x10, 1), (0x3D, b"x")], family)
    data = keyvalue.encode([(0x0B, immutable), (0x10, 2)], family)
    assert keyvalue.find(data, 0x10, family) == 1
    assert keyvalue.find(data, 0x3D, family) == b"x"
    assert keyvalue.find(data, 0x12, family) is None


def encoded(draft: Draft, *chosen: KeyValue) -> bytes:
    return keyvalue.encode(chosen, draft.varints)


@DRAFT
def test_track_properties(draft: Draft) -> None:
    immutable = encoded(draft, (0x06, 3), (0x22, 2), (0x30, 1))
    data = encoded(draft, (0x02, 1), (0x04, 2), (0x0B, immutable), (0x0E, 0), (0x22, 1))
    assert TrackProperties.parse(data, draft) == TrackProperties(
        object_delivery_timeout=1,
        subgroup_delivery_timeout=3,
        max_cache_duration=2,
        default_priority=0,
        default_group_order=GroupOrder.DESCENDING,
        dynamic_groups=True,
    )
    assert TrackProperties.parse(b"", draft) == TrackProperties()


@DRAFT
def test_mandatory_track_properties(draft: Draft) -> None:
    data = encoded(draft, (0x3FFF, b""), (0x4000, 1), (0x7FFF, b""), (0x8000, 1))
    found = TrackProperties.parse(data, draft).unknown_mandatory
    assert found == ((0x4000, 0x7FFF) if draft.mandatory_properties else ())


@DRAFT
@pytest.mark.parametrize(
    "chosen",
    [
        (),
        ((0x3C, 5), (0x3E, 5)),
        ((0x0B, b""), (0x3C, 0)),
        ((0x02, 1), (0x02, 1), (0x9D, b"x")),
    ],
)
def test_properties_that_an_object_may_have(draft: Draft, chosen: tuple[KeyValue, ...]) -> None:
    keyvalue.check_object_properties(encoded(draft, *chosen), HERE, draft)


@DRAFT
@pytest.mark.parametrize(
    "chosen",
    [
        ((0x3C, 6),),
        ((0x3E, 6),),
        ((0x3C, 1), (0x3C, 1)),
        ((0x3E, 1), (0x3E, 1)),
        ((0x0B, b""), (0x0B, b"")),
        ((0x0B, b"\x0b\x00"),),
        ((0x0B, b"\x03\x01"),),
    ],
)
def test_properties_that_make_a_track_malformed(draft: Draft, chosen: tuple[KeyValue, ...]) -> None:
    with pytest.raises(MalformedTrackError):
        keyvalue.check_object_properties(encoded(draft, *chosen), HERE, draft)


def test_a_mandatory_track_property_on_an_object() -> None:
    keyvalue.check_object_properties(encoded(DRAFT_16, (0x4000, 1)), HERE, DRAFT_16)
    with pytest.raises(MalformedTrackError, match="0x4000"):
        keyvalue.check_object_properties(encoded(DRAFT_18, (0x4000, 1)), HERE, DRAFT_18)


@settings(max_examples=60)
@given(data=st.binary(max_size=30))
def test_noise_is_properties_or_an_error(data: bytes) -> None:
    for draft in DRAFTS.values():
        try:
            keyvalue.check_object_properties(data, HERE, draft)
        except (MoqtError, MalformedTrackError):
            continue
        found = list(keyvalue.decode(data, draft.varints))
        assert list(keyvalue.decode(keyvalue.encode(found, draft.varints), draft.varints)) == found
