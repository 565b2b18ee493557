"""Subgroup streams: headers, objects in chunks of any size, joins, and what is malformed."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import MalformedTrackError, MoqtError, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import ObjectHeader, SubgroupHeader
from fastrelay.moqt.names import Location, ObjectStatus
from fastrelay.moqt.objects import (
    MAX_OBJECT_PROPERTIES,
    SubgroupParser,
    decode_subgroup_header,
    encode_object,
    encode_subgroup_header,
    is_subgroup_type,
    join_prefix,
    rewrite_subgroup_header,
)
from fastrelay.moqt.transcode import SubgroupTranscoder
from fastrelay.moqt.varint import IncompleteError

from .chunks import cuts, feed
from .strategies import drafts, integers, pairs

DRAFT = pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
NORMAL = ObjectStatus.NORMAL
PLAIN = SubgroupHeader(3, 7, 0, 128, False, False, True)
WITH_PROPERTIES = replace(PLAIN, has_properties=True)


class Object(NamedTuple):
    id: int
    payload: bytes = b""
    properties: tuple[keyvalue.KeyValue, ...] | None = None
    status: ObjectStatus = NORMAL


def write(objects: list[Object], draft: Draft) -> bytes:
    out, previous = b"", None
    for item in objects:
        properties = item.properties
        encoded = None if properties is None else keyvalue.encode(properties, draft.varints)
        out += encode_object(
            item.id, previous, len(item.payload), draft.varints, encoded, item.status
        )
        out += item.payload
        previous = item.id
    return out


def read(body: bytes, headers: list[ObjectHeader], draft: Draft) -> list[Object]:
    return [
        Object(
            header.location.object,
            body[header.payload_start : header.end],
            None
            if header.properties is None
            else tuple(keyvalue.decode(header.properties, draft.varints)),
            header.status,
        )
        for header in headers
    ]


headers = st.builds(
    SubgroupHeader,
    integers,
    integers,
    st.none() | integers,
    st.none() | st.integers(0, 255),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@st.composite
def streams(draw: st.DrawFn, *, has_properties: bool) -> list[Object]:
    """Objects of one subgroup; the last may be a status."""
    gaps = draw(st.lists(st.integers(0, 1 << 40) | st.just(0), max_size=5))
    object_id, objects = -1, []
    for gap in gaps:
        object_id += gap + 1
        payload = draw(st.binary(max_size=20) | st.just(b"x" * 200))
        objects.append(Object(object_id, payload, draw(pairs()) if has_properties else None))
    if draw(st.booleans()):
        status = draw(st.sampled_from((ObjectStatus.END_OF_GROUP, ObjectStatus.END_OF_TRACK)))
        objects.append(Object(object_id + 1, b"", () if has_properties else None, status))
    return objects


@settings(max_examples=60)
@given(header=headers, draft=drafts)
def test_header_round_trip(header: SubgroupHeader, draft: Draft) -> None:
    raw = encode_subgroup_header(header, draft)
    assert is_subgroup_type(raw[0], draft)
    decoded, end = decode_subgroup_header(raw + b"body", draft)
    assert end == len(raw)
    assert decoded.raw == raw
    assert replace(decoded, raw=b"", alias_length=0) == replace(
        header, first_object=header.first_object and draft.first_object
    )
    assert draft.varints.decode(raw, 1) == (header.track_alias, 1 + decoded.alias_length)
    for cut in range(len(raw)):
        with pytest.raises(IncompleteError):
            decode_subgroup_header(raw[:cut], draft)


@settings(max_examples=80)
@given(data=st.data(), draft=drafts, has_properties=st.booleans())
def test_objects_in_chunks(data: st.DataObject, draft: Draft, has_properties: bool) -> None:
    objects = data.draw(streams(has_properties=has_properties))
    body = write(objects, draft)
    header = replace(PLAIN, has_properties=has_properties)
    out, found = feed(SubgroupParser(header, draft), data.draw(st.composite(cuts)(body)))
    assert out == body
    assert read(body, found, draft) == objects
    assert [item.start for item in found[1:]] == [item.end for item in found[:-1]]


@settings(max_examples=80)
@given(data=st.data(), source=drafts, target=drafts, has_properties=st.booleans())
def test_transcoding_in_chunks(
    data: st.DataObject, source: Draft, target: Draft, has_properties: bool
) -> None:
    objects = data.draw(streams(has_properties=has_properties))
    header = replace(PLAIN, has_properties=has_properties)
    parser = SubgroupParser(header, source)
    transcoder = SubgroupTranscoder(source.varints, target.varints)
    out, found = b"", []
    for piece in data.draw(st.composite(cuts)(write(objects, source))):
        part, headers_of_part = transcoder.feed(*parser.feed(piece))
        out += part
        found += headers_of_part
    assert out == write(objects, target)
    assert found == SubgroupParser(header, target).feed(out, True)[1]


def test_transcoding_what_does_not_fit() -> None:
    body = write([Object(1 << 63, b"x")], DRAFT_18)
    transcoder = SubgroupTranscoder(DRAFT_18.varints, DRAFT_16.varints)
    with pytest.raises(ValueError, match="does not fit"):
        transcoder.feed(*SubgroupParser(PLAIN, DRAFT_18).feed(body))


@DRAFT
def test_whole_chunks_are_passed_on_without_a_copy(draft: Draft) -> None:
    parser = SubgroupParser(PLAIN, draft)
    body = write([Object(0, b"x" * 100), Object(1, b"y" * 1000)], draft)
    first, second, third = body[:300], body[300:500], body[500:]
    for piece in (first, second, third):
        assert parser.feed(piece)[0] is piece
    assert parser.feed(b"", True) == (b"", [])


@DRAFT
def test_payload_is_passed_on_as_it_comes_and_headers_are_not(draft: Draft) -> None:
    parser = SubgroupParser(WITH_PROPERTIES, draft)
    head = encode_object(0, None, 3, draft.varints, keyvalue.encode([(2, 300)], draft.varints))
    for byte in head[:-1]:
        assert parser.feed(bytes([byte])) == (b"", [])
    out, found = parser.feed(head[-1:])
    assert out == head
    assert (found[0].start, found[0].payload_start, found[0].end) == (0, len(head), len(head) + 3)
    assert parser.feed(b"a") == (b"a", [])
    assert parser.feed(b"bc" + head[:1]) == (b"bc", [])


def test_body_and_header_in_one_chunk() -> None:
    raw = encode_subgroup_header(PLAIN, DRAFT_18)
    body = write([Object(0, b"abc"), Object(1, b"defgh")], DRAFT_18)
    header, start = decode_subgroup_header(raw + body[:-4], DRAFT_18)
    parser = SubgroupParser(header, DRAFT_18)
    out, found = parser.feed(raw + body[:-4], start=start)
    assert out == body[:-4]
    assert [item.start for item in found] == [0, 5]
    assert parser.feed(body[-4:], True) == (body[-4:], [])
    # All of the chunk's rest is payload, or an incomplete header.
    parser = SubgroupParser(header, DRAFT_18)
    assert parser.feed(raw + body[:1], start=start) == (b"", [])
    assert parser.feed(b"??" + body[1:3], start=2)[0] == body[:3]
    assert parser.feed(b"??" + body[3:4], start=2) == (body[3:4], [])


def test_the_subgroup_id_may_be_the_first_objects() -> None:
    parser = SubgroupParser(replace(PLAIN, subgroup_id=None), DRAFT_18)
    assert parser.subgroup_id is None
    _, found = parser.feed(write([Object(5, b"a"), Object(9, b"b")], DRAFT_18))
    assert [item.subgroup_id for item in found] == [5, 5]
    assert parser.subgroup_id == 5


@settings(max_examples=60)
@given(data=st.data(), draft=drafts, header=headers, alias=integers)
def test_joining_in_the_middle(
    data: st.DataObject, draft: Draft, header: SubgroupHeader, alias: int
) -> None:
    objects = data.draw(streams(has_properties=header.has_properties).filter(bool))
    parser = SubgroupParser(header, draft)
    body, found = parser.feed(write(objects, draft), True)
    index = data.draw(st.integers(0, len(objects) - 1))
    first = found[index]
    stream = join_prefix(header, first, alias, draft) + body[first.payload_start :]

    joined, start = decode_subgroup_header(stream, draft)
    assert (joined.track_alias, joined.group_id) == (alias, header.group_id)
    assert joined.subgroup_id == parser.subgroup_id
    assert not joined.first_object
    assert joined.publisher_priority == header.publisher_priority
    assert joined.end_of_group == header.end_of_group
    rest, again = SubgroupParser(joined, draft).feed(stream, True, start)
    assert read(rest, again, draft) == objects[index:]


@settings(max_examples=60)
@given(header=headers, source=drafts, target=drafts, alias=integers)
def test_rewritten_headers(
    header: SubgroupHeader, source: Draft, target: Draft, alias: int
) -> None:
    received, _ = decode_subgroup_header(encode_subgroup_header(header, source), source)
    raw = rewrite_subgroup_header(received, source, target, alias)
    decoded, _ = decode_subgroup_header(raw, target)
    assert decoded.track_alias == alias
    assert replace(decoded, raw=b"", track_alias=0, alias_length=0) == replace(
        received,
        raw=b"",
        track_alias=0,
        alias_length=0,
        first_object=received.first_object and target.first_object,
    )


def test_a_header_for_the_same_alias_is_the_very_bytes() -> None:
    header, _ = decode_subgroup_header(bytes.fromhex("50 8003 07 80"), DRAFT_18)
    assert rewrite_subgroup_header(header, DRAFT_18, DRAFT_22, 3) is header.raw
    # Another alias: the rest stays as it came, even if it is not the shortest form.
    header, _ = decode_subgroup_header(bytes.fromhex("50 8003 8007 80"), DRAFT_18)
    assert rewrite_subgroup_header(header, DRAFT_18, DRAFT_22, 9).hex() == "5009800780"
    header = replace(header, raw=b"")
    assert rewrite_subgroup_header(header, DRAFT_18, DRAFT_22, 3).hex() == "50030780"


def test_a_type_in_a_longer_form_is_made_short() -> None:
    header, end = decode_subgroup_header(bytes.fromhex("8030 03 07 00"), DRAFT_18)
    assert end == 4
    assert header.raw.hex() == "300307"
    assert rewrite_subgroup_header(header, DRAFT_18, DRAFT_18, 9).hex() == "300907"


@DRAFT
def test_types(draft: Draft) -> None:
    valid = {
        kind
        for base in ((0x10, 0x30, 0x50, 0x70) if draft.first_object else (0x10, 0x30))
        for kind in (*range(base, base + 6), *range(base + 8, base + 14))
    }
    assert {kind for kind in range(0x200) if is_subgroup_type(kind, draft)} == valid
    for kind in {*range(0x80)} - valid:
        with pytest.raises(MoqtError) as caught:
            decode_subgroup_header(draft.varints.encode(kind) + b"\0" * 9, draft)
        assert caught.value.code is SessionError.PROTOCOL_VIOLATION


VIOLATIONS = {
    "status unknown": (PLAIN, "00 00 01"),
    "status unknown, large": (PLAIN, "00 00 05"),
    "status with properties": (WITH_PROPERTIES, "00 02 10 01 00 03"),
    "properties that are none": (WITH_PROPERTIES, "00 01 10 01 61"),
    "property beyond its block": (WITH_PROPERTIES, "00 02 11 05 01 61"),
}


@DRAFT
@pytest.mark.parametrize("case", VIOLATIONS)
def test_violations(draft: Draft, case: str) -> None:
    header, body = VIOLATIONS[case]
    with pytest.raises(MoqtError) as caught:
        SubgroupParser(header, draft).feed(bytes.fromhex(body))
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@DRAFT
def test_an_object_id_overflow(draft: Draft) -> None:
    largest = draft.varints.encode(draft.varints.maximum)
    parser = SubgroupParser(PLAIN, draft)
    assert parser.feed(largest + b"\x01a")[1][0].location == Location(7, draft.varints.maximum)
    with pytest.raises(MoqtError, match="object id") as caught:
        parser.feed(b"\x00\x01a")
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@DRAFT
@pytest.mark.parametrize("body", ["00", "00 02", "00 02 61", "00 01 61 00", "00 00"])
def test_the_end_within_an_object(draft: Draft, body: str) -> None:
    data = bytes.fromhex(body)
    for pieces in ([data], [bytes([byte]) for byte in data]):
        with pytest.raises(MoqtError, match="within an object") as caught:
            feed(SubgroupParser(PLAIN, draft), pieces)
        assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@DRAFT
def test_an_object_after_the_end(draft: Draft) -> None:
    for status in ("03", "04"):
        parser = SubgroupParser(PLAIN, draft)
        parser.feed(bytes.fromhex("00 00" + status))
        with pytest.raises(MalformedTrackError):
            parser.feed(bytes.fromhex("00 01 61"))


@DRAFT
def test_malformed_properties(draft: Draft) -> None:
    # A gap of two groups before group 1.
    header = replace(WITH_PROPERTIES, group_id=1)
    with pytest.raises(MalformedTrackError):
        SubgroupParser(header, draft).feed(bytes.fromhex("00 02 3c 02 01 61"))


@DRAFT
def test_properties_above_our_limit(draft: Draft) -> None:
    head = b"\x00" + draft.varints.encode(MAX_OBJECT_PROPERTIES + 1)
    with pytest.raises(MoqtError) as caught:
        SubgroupParser(WITH_PROPERTIES, draft).feed(head)
    assert caught.value.code is SessionError.INTERNAL_ERROR


def test_ids_must_ascend() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode_object(4, 4, 1, DRAFT_18.varints)
