"""FETCH and FETCH_OK: the ranges in them, which drafts write differently.

Up to draft 19 an end is the last object plus one, object 0 meaning the whole group; from
draft 20 on it is the last object itself, and FETCH has its range in a LOCATION_FILTER.
"""

from __future__ import annotations

from dataclasses import replace

from fastrelay.moqt import parameters
from fastrelay.moqt import reader as fields
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    FetchOk,
    FilterKind,
    LocationFilter,
)
from fastrelay.moqt.names import Location
from fastrelay.moqt.reader import Reader, violation
from fastrelay.moqt.scopes import SCOPES


def read_fetch(reader: Reader, draft: Draft) -> Fetch:
    """The body of FETCH.

    :raises MoqtError: PROTOCOL_VIOLATION.
    """
    request_id = reader.integer()
    scope = SCOPES[draft.number].of(Fetch)
    if draft.fill:
        track = reader.track(may_be_empty=draft.empty_namespaces)
        params = parameters.read(reader, scope, draft)
        wanted = params.filter or LocationFilter(FilterKind.UNFILTERED)
        if wanted.kind not in (FilterKind.ABSOLUTE, FilterKind.UNFILTERED):
            return Fetch(request_id, FetchKind.STANDALONE, track, parameters=params)
        return Fetch(
            request_id,
            FetchKind.STANDALONE,
            track,
            start=wanted.start,
            end_group=wanted.end_group,
            end_object=wanted.end_object,
            parameters=replace(params, filter=None),
        )
    kind = reader.integer()
    if kind not in tuple(FetchKind):
        raise violation(f"unknown fetch type {kind:#x}")
    if kind != FetchKind.STANDALONE:
        return Fetch(
            request_id,
            FetchKind(kind),
            joining_request_id=reader.integer(),
            joining_start=reader.integer(),
            parameters=parameters.read(reader, scope, draft),
        )
    track = reader.track(may_be_empty=draft.empty_namespaces)
    start = reader.location()
    end_group, end_object = _read_end(reader, draft)
    return Fetch(
        request_id,
        FetchKind.STANDALONE,
        track,
        start=start,
        end_group=end_group,
        end_object=end_object,
        parameters=parameters.read(reader, scope, draft),
    )


def write_fetch(fetch: Fetch, draft: Draft) -> bytes:
    """The body of FETCH.

    :raises ValueError: a joining fetch or a range that the draft cannot say.
    """
    encode = draft.varints.encode
    out = encode(fetch.request_id)
    scope = SCOPES[draft.number].of(Fetch)
    params = fetch.parameters
    if fetch.kind is not FetchKind.STANDALONE:
        if draft.fill:
            raise ValueError(f"{draft} has no joining fetches")
        out += encode(fetch.kind)
        out += encode(fetch.joining_request_id) + encode(fetch.joining_start)
        return out + parameters.write(params, scope, draft)
    if fetch.track is None:
        raise ValueError("a standalone fetch without a track")
    track = fields.track(fetch.track, draft.varints)
    if draft.fill:
        if params.filter is None:
            absolute = LocationFilter(
                FilterKind.ABSOLUTE,
                fetch.start,
                end_group=fetch.end_group,
                end_object=fetch.end_object,
            )
            params = replace(params, filter=absolute)
        return out + track + parameters.write(params, scope, draft)
    out += encode(fetch.kind) + track + fields.location(fetch.start, draft.varints)
    out += _write_end(fetch.end_group, fetch.end_object, draft)
    return out + parameters.write(params, scope, draft)


def read_fetch_end(reader: Reader, draft: Draft) -> tuple[bool, int, int | None]:
    """FETCH_OK's end of track, end group and end object.

    :raises MoqtError: PROTOCOL_VIOLATION.
    """
    end_of_track = reader.byte()
    if end_of_track > 1:
        raise violation(f"End Of Track has the value {end_of_track}")
    return bool(end_of_track), *_read_end(reader, draft)


def write_fetch_end(answer: FetchOk, draft: Draft) -> bytes:
    """The same three fields."""
    return bytes([answer.end_of_track]) + _write_end(answer.end_group, answer.end_object, draft)


def _read_end(reader: Reader, draft: Draft) -> tuple[int, int | None]:
    end = reader.location()
    if draft.fill:
        return end.group, None if end.object == draft.varints.maximum else end.object
    return end.group, end.object - 1 if end.object else None


def _write_end(group: int | None, end_object: int | None, draft: Draft) -> bytes:
    """No group is the end of the track, no object the end of its group: these become the
    largest number where the draft has no other way."""
    maximum = draft.varints.maximum
    if group is None:
        group, end_object = maximum, None
    if draft.fill:
        last = maximum if end_object is None else end_object
    else:
        last = 0 if end_object is None else end_object + 1
    return fields.location(Location(group, last), draft.varints)
