"""OBJECT_DATAGRAM: every type, both families, and what is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import MalformedTrackError, MoqtError, SessionError
from fastrelay.moqt.datagrams import decode_datagram, encode_datagram, rewrite_datagram
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.names import Location, ObjectStatus

from .strategies import drafts, integers, locations, pairs

DRAFT = pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
NORMAL = ObjectStatus.NORMAL


@settings(max_examples=120)
@given(
    alias=integers,
    other=integers,
    location=locations,
    priority=st.none() | st.integers(0, 255),
    payload=st.binary(max_size=30),
    chosen=pairs(),
    end_of_group=st.booleans(),
    status=st.sampled_from(ObjectStatus),
    source=drafts,
    target=drafts,
)
def test_round_trip_and_rewriting(
    alias: int,
    other: int,
    location: Location,
    priority: int | None,
    payload: bytes,
    chosen: tuple[keyvalue.KeyValue, ...],
    end_of_group: bool,
    status: ObjectStatus,
    source: Draft,
    target: Draft,
) -> None:
    if status is not NORMAL:
        payload, chosen, end_of_group = b"", (), False

    def write(alias: int, draft: Draft) -> bytes:
        return encode_datagram(
            alias,
            location,
            priority,
            payload,
            draft,
            properties=keyvalue.encode(chosen, draft.varints),
            status=status,
            end_of_group=end_of_group,
        )

    data = write(alias, source)
    decoded = decode_datagram(data, source)
    assert decoded.track_alias == alias
    assert decoded.location == location
    assert decoded.publisher_priority == priority
    assert decoded.payload == payload
    assert decoded.properties == (keyvalue.encode(chosen, source.varints) or None)
    assert decoded.status is status
    assert decoded.end_of_group == end_of_group
    assert decoded.raw == data
    assert source.varints.decode(data, 1) == (alias, 1 + decoded.alias_length)
    assert rewrite_datagram(decoded, source, target, other) == write(other, target)
    if source.varints is target.varints:
        assert rewrite_datagram(decoded, source, target, alias) is decoded.raw


@DRAFT
def test_types(draft: Draft) -> None:
    valid = {*range(0x10), 0x20, 0x21, 0x24, 0x25, 0x28, 0x29, 0x2C, 0x2D}
    for kind in range(0x60):
        # Alias, group, object, priority, and an empty or nearly empty rest.
        data = bytearray(draft.varints.encode(kind) + b"\x01\x02")
        if not kind & 4:
            data += b"\x03"
        if not kind & 8:
            data += b"\x80"
        if kind & 1:
            data += b"\x02\x10\x01"
        if kind & 0x20:
            data += b"\x00"
        if kind in valid:
            decoded = decode_datagram(bytes(data), draft)
            assert decoded.location == Location(2, 0 if kind & 4 else 3)
            assert decoded.payload == b""
        else:
            with pytest.raises(MoqtError, match="not the type") as caught:
                decode_datagram(bytes(data), draft)
            assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@DRAFT
@pytest.mark.parametrize(
    "data",
    [
        "",
        "00",
        "00 01",
        "00 01 02",
        "00 01 02 03",
        "04 01 02",
        "01 01 02 03 80",
        "01 01 02 03 80 00",
        "01 01 02 03 80 05 10",
        "01 01 02 03 80 01 10",
        "20 01 02 03 80",
        "20 01 02 03 80 02",
        "20 01 02 03 80 03 00",
        "21 01 02 03 80 02 10 01 03",
    ],
)
def test_violations(draft: Draft, data: str) -> None:
    with pytest.raises(MoqtError) as caught:
        decode_datagram(bytes.fromhex(data), draft)
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION
    assert caught.value.reason


@DRAFT
def test_malformed_properties(draft: Draft) -> None:
    with pytest.raises(MalformedTrackError):
        decode_datagram(bytes.fromhex("01 01 02 03 80 02 3e 04"), draft)


def test_a_type_in_a_longer_form_is_made_short() -> None:
    decoded = decode_datagram(bytes.fromhex("8004 07 01 80 61"), DRAFT_18)
    assert decoded.raw.hex() == "0407018061"
    assert rewrite_datagram(decoded, DRAFT_18, DRAFT_22, 9).hex() == "0409018061"


def test_what_cannot_be_written() -> None:
    end = ObjectStatus.END_OF_GROUP
    for payload, properties, end_of_group in (
        (b"x", None, False),
        (b"", b"\2\1", False),
        (b"", None, True),
    ):
        with pytest.raises(ValueError, match="nothing else"):
            encode_datagram(
                1,
                Location(0, 0),
                None,
                payload,
                DRAFT_18,
                properties=properties,
                status=end,
                end_of_group=end_of_group,
            )
    with pytest.raises(ValueError, match="does not fit"):
        encode_datagram(1, Location(1 << 62, 0), None, b"", DRAFT_16)
