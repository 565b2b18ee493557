"""Fetch streams: both ways of writing locations, chunks, range markers, malformed objects."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import MalformedTrackError, MoqtError, SessionError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft
from fastrelay.moqt.events import FetchRange, ObjectHeader
from fastrelay.moqt.fetches import (
    NON_EXISTENT_RANGE,
    TIMED_OUT_RANGE,
    UNKNOWN_RANGE,
    FetchEncoder,
    FetchParser,
    decode_fetch_header,
    encode_fetch_header,
)
from fastrelay.moqt.names import Location
from fastrelay.moqt.objects import MAX_OBJECT_PROPERTIES
from fastrelay.moqt.varint import IncompleteError

from .chunks import cuts, feed
from .strategies import drafts, integers, pairs

DRAFT = pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
LATER = (DRAFT_18, DRAFT_22)
Item = tuple[Location, int, int, bytes | None, bytes, bool] | FetchRange


@st.composite
def fetches(draw: st.DrawFn, draft: Draft, descending: bool) -> list[Item]:
    """Objects in the order of a fetch, with range markers among them."""
    steps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 90)), min_size=1, max_size=6))
    group, object_id = (1 << 40, 0)
    items: list[Item] = []
    for groups, objects in steps:
        if groups or not items:
            group += -groups if descending else groups
            object_id = objects
        else:
            object_id += objects + 1
        location = Location(group, object_id)
        if draw(st.integers(0, 4)) == 0:
            kinds = (NON_EXISTENT_RANGE, UNKNOWN_RANGE)
            kinds += (TIMED_OUT_RANGE,) if draft.timed_out_ranges else ()  # type: ignore[assignment]
            items.append(FetchRange(location, draw(st.sampled_from(kinds))))
            continue
        properties = keyvalue.encode(draw(pairs()), draft.varints) or None
        datagram = draw(st.booleans())
        subgroup = 0 if datagram else draw(st.integers(0, 3) | integers)
        priority = draw(st.sampled_from((0, 128)))
        items.append(
            (location, subgroup, priority, properties, draw(st.binary(max_size=99)), datagram)
        )
    return items


@settings(max_examples=80)
@given(data=st.data(), draft=drafts, descending=st.booleans())
def test_round_trip_in_chunks(data: st.DataObject, draft: Draft, descending: bool) -> None:
    items = data.draw(fetches(draft, descending))
    encoder = FetchEncoder(draft, descending)
    body = b""
    for item in items:
        if isinstance(item, FetchRange):
            body += encoder.range_end(item)
        else:
            location, subgroup, priority, properties, payload, datagram = item
            body += encoder.object(
                location, subgroup, priority, len(payload), properties, datagram=datagram
            )
            body += payload
    parser = FetchParser(draft, descending)
    out, found = feed(parser, data.draw(st.composite(cuts)(body)))
    assert out == body
    assert [
        item
        if isinstance(item, FetchRange)
        else (
            item.location,
            item.subgroup_id,
            item.publisher_priority,
            item.properties,
            body[item.payload_start : item.end],
            item.datagram,
        )
        for item in found
    ] == items


@DRAFT
def test_header(draft: Draft) -> None:
    raw = encode_fetch_header(300, draft)
    assert decode_fetch_header(raw + b"body", draft) == (300, len(raw))
    for cut in range(len(raw)):
        with pytest.raises(IncompleteError):
            decode_fetch_header(raw[:cut], draft)
    with pytest.raises(MoqtError, match="not the type of a fetch stream"):
        decode_fetch_header(b"\x06\x00", draft)


@DRAFT
def test_body_and_header_in_one_chunk(draft: Draft) -> None:
    raw = encode_fetch_header(2, draft)
    body = FetchEncoder(draft).object(Location(1, 2), 0, 5, 3) + b"abc"
    parser = FetchParser(draft)
    assert parser.feed(raw + body[:4], start=len(raw)) == (b"", [])
    out, found = parser.feed(body[4:-1])
    assert out == body[:-1]
    assert isinstance(found[0], ObjectHeader)
    assert found[0].end == len(body)
    assert parser.feed(body[-1:], True) == (body[-1:], [])


def test_a_range_that_timed_out_is_unknown_to_earlier_drafts() -> None:
    marker = FetchRange(Location(1, 2), TIMED_OUT_RANGE)
    for draft, kind in ((DRAFT_16, UNKNOWN_RANGE), (DRAFT_18, UNKNOWN_RANGE), (DRAFT_22, 0x20C)):
        _, found = FetchParser(draft).feed(FetchEncoder(draft).range_end(marker))
        assert found == [FetchRange(Location(1, 2), kind)]


def test_what_a_prior_object_is_after_a_marker() -> None:
    """Group and object are the marker's, subgroup and priority the last real object's."""
    encoder = FetchEncoder(DRAFT_18)
    body = encoder.object(Location(1, 0), 4, 9, 0)
    body += encoder.range_end(FetchRange(Location(2, 5), UNKNOWN_RANGE))
    tail = encoder.object(Location(2, 6), 4, 9, 0)
    assert tail.hex() == "0100"
    _, found = FetchParser(DRAFT_18).feed(body + tail)
    last = found[-1]
    assert isinstance(last, ObjectHeader)
    assert (last.location, last.subgroup_id, last.publisher_priority) == (Location(2, 6), 4, 9)


def test_against_the_order() -> None:
    encoder = FetchEncoder(DRAFT_18)
    encoder.object(Location(5, 5), 0, 0, 0)
    for location in (Location(5, 5), Location(5, 4), Location(4, 9)):
        with pytest.raises(ValueError, match=r"object|fit"):
            encoder.object(location, 0, 0, 0)


# Flags: 0x04 object, 0x08 group, 0x10 priority, 0x20 properties, 0x40 datagram, 0x03 subgroup.
FIRST = "1c 05 05 80 00"
"""{5, 5}, subgroup 0, priority 128, no payload; in draft 16 the priority is the same byte."""
VIOLATIONS = {
    "flags 0x80": (tuple(DRAFTS.values()), "8080 00", "4080 00"),
    "timed out before draft 20": ((DRAFT_16, DRAFT_18), "820c 00 00", "420c 00 00"),
    "first without group": (tuple(DRAFTS.values()), "14 05 80 00", "14 05 80 00"),
    "first without object": (tuple(DRAFTS.values()), "18 05 80 00", "18 05 80 00"),
    "first without priority": (tuple(DRAFTS.values()), "0c 05 05 00", "0c 05 05 00"),
    "first with prior subgroup": (tuple(DRAFTS.values()), "1d 05 05 80 00", "1d 05 05 80 00"),
    "first with next subgroup": (tuple(DRAFTS.values()), "1e 05 05 80 00", "1e 05 05 80 00"),
    "prior priority after a marker": (
        tuple(DRAFTS.values()),
        "808c 05 05 04 06 00",
        "408c 05 05 04 06 00",
    ),
    "properties that are none": (
        tuple(DRAFTS.values()),
        "3c 05 05 80 01 10 00",
        "3c 05 05 80 01 10 00",
    ),
    "object overflow": (LATER, FIRST + "04 ffffffffffffffffff 00", ""),
    "group overflow": (LATER, FIRST + "0c ffffffffffffffffff 00 00", ""),
    "prior plus one overflow": (LATER, "1c 05 ffffffffffffffffff 80 00 00 00", ""),
    "subgroup overflow": (LATER, "1f 05 ffffffffffffffffff 05 80 00 02 00", ""),
    "object overflow, draft 16": ((DRAFT_16,), "", "1c 05 ffffffffffffffff 80 00 00 00"),
}


@pytest.mark.parametrize(
    ("name", "draft"),
    [(name, draft) for name, (having, _, _) in VIOLATIONS.items() for draft in having],
    ids=str,
)
def test_violations(name: str, draft: Draft) -> None:
    _, later, old = VIOLATIONS[name]
    with pytest.raises(MoqtError) as caught:
        FetchParser(draft).feed(bytes.fromhex(old if draft is DRAFT_16 else later))
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@pytest.mark.parametrize("draft", LATER, ids=str)
def test_a_group_below_zero(draft: Draft) -> None:
    with pytest.raises(MoqtError) as caught:
        FetchParser(draft, True).feed(bytes.fromhex(FIRST + "0c 05 00 00"))
    assert caught.value.code is SessionError.PROTOCOL_VIOLATION


@DRAFT
@pytest.mark.parametrize("cut", range(1, 9))
def test_the_end_within_an_object(draft: Draft, cut: int) -> None:
    body = FetchEncoder(draft).object(Location(5, 6), 7, 8, 2) + b"ab"
    assert len(body) == 8
    if cut < len(body):
        with pytest.raises(MoqtError, match="within an object") as caught:
            FetchParser(draft).feed(body[:cut], True)
        assert caught.value.code is SessionError.PROTOCOL_VIOLATION
    else:
        FetchParser(draft).feed(body, True)


@DRAFT
def test_properties(draft: Draft) -> None:
    head = bytes.fromhex("3c 05 05 80")
    limit = head + draft.varints.encode(MAX_OBJECT_PROPERTIES + 1)
    with pytest.raises(MoqtError) as caught:
        FetchParser(draft).feed(limit)
    assert caught.value.code is SessionError.INTERNAL_ERROR
    with pytest.raises(MalformedTrackError):
        FetchParser(draft).feed(head + bytes.fromhex("02 3c 06 00"))


@DRAFT
def test_the_subgroup_of_a_datagram_reads_as_zero(draft: Draft) -> None:
    # A datagram with meaningless subgroup bits, then an object of the next subgroup.
    body = draft.varints.encode(0x5F) + bytes.fromhex("05 05 80 00 02 00")
    _, found = FetchParser(draft).feed(body, True)
    assert [
        (item.subgroup_id, item.datagram) for item in found if isinstance(item, ObjectHeader)
    ] == [(0, True), (1, False)]
