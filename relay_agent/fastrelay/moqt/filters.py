"""Filters in message parameters: locations (draft-18 section 5.1.2) and ranges (draft 19 on)."""

from __future__ import annotations

from fastrelay.moqt import reader as fields
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import (
    FilterKind,
    LocationFilter,
    Parameters,
    RangeFilter,
    RangeFilterKind,
)
from fastrelay.moqt.reader import Reader, violation

# Types of draft 16's and 18's SUBSCRIPTION_FILTER.
_NEXT_GROUP_START = 1
_LARGEST_OBJECT = 2
_ABSOLUTE_START = 3
_ABSOLUTE_RANGE = 4

# Types of draft 22's LOCATION_FILTER.
_NONE = 0
_RELATIVE_START = 1
_FROM_START = 2
_TO_GROUP = 3
_TO_OBJECT = 4
_NEXT_OBJECT = 5

_MAXIMUM = (1 << 64) - 1
_PROPERTY_FILTERS = (RangeFilterKind.OBJECT_PROPERTY, RangeFilterKind.TRACK_PROPERTY)


def read_location_filter(reader: Reader, draft: Draft) -> LocationFilter:
    """The value of parameter 0x21.

    :raises MoqtError: PROTOCOL_VIOLATION; an unknown type, or an end beyond 2**64-1.
    """
    if draft.location_filter:
        return _read_typed(reader)
    value = reader.value()
    kind = value.integer()
    if kind == _NEXT_GROUP_START:
        result = LocationFilter(FilterKind.NEXT_GROUP)
    elif kind == _LARGEST_OBJECT:
        result = LocationFilter(FilterKind.NEXT_OBJECT)
    elif kind in (_ABSOLUTE_START, _ABSOLUTE_RANGE):
        start = value.location()
        end_group = None
        if kind == _ABSOLUTE_RANGE:
            end_group = value.integer()
            if draft.end_group_delta:
                end_group = _end_group(start.group, end_group)
        result = LocationFilter(FilterKind.ABSOLUTE, start, end_group=end_group)
    else:
        raise violation(f"unknown subscription filter {kind:#x}")
    value.finish()
    return result


def _read_typed(reader: Reader) -> LocationFilter:
    kind = reader.integer()
    if kind == _NONE:
        return LocationFilter(FilterKind.UNFILTERED)
    if kind == _NEXT_OBJECT:
        return LocationFilter(FilterKind.NEXT_OBJECT)
    if kind == _RELATIVE_START:
        groups = reader.integer()
        if not groups:
            return LocationFilter(FilterKind.NEXT_GROUP)
        return LocationFilter(FilterKind.RELATIVE, groups_back=groups - 1)
    if kind > _NEXT_OBJECT:
        raise violation(f"unknown location filter {kind:#x}")
    start = reader.location()
    end_group = end_object = None
    if kind != _FROM_START:
        end_group = _end_group(start.group, reader.integer())
    if kind == _TO_OBJECT:
        end_object = reader.integer()
    return LocationFilter(FilterKind.ABSOLUTE, start, end_group=end_group, end_object=end_object)


def _end_group(start: int, delta: int) -> int:
    if start + delta > _MAXIMUM:
        raise violation("a filter's end group exceeds 2**64-1")
    return start + delta


def write_location_filter(value: LocationFilter, draft: Draft) -> bytes:
    """The value of parameter 0x21.

    :raises ValueError: what the draft cannot say, or an end before the start.
    """
    encode = draft.varints.encode
    start = fields.location(value.start, draft.varints)
    end_group = value.end_group
    if end_group is not None and end_group < value.start.group:
        raise ValueError(f"a filter from group {value.start.group} to {end_group}")
    if draft.location_filter:
        return _write_typed(value, draft)
    if value.kind is FilterKind.NEXT_GROUP:
        out = encode(_NEXT_GROUP_START)
    elif value.kind is FilterKind.NEXT_OBJECT:
        out = encode(_LARGEST_OBJECT)
    elif value.kind is FilterKind.RELATIVE or value.end_object is not None:
        raise ValueError(f"{draft} has no such subscription filter: {value}")
    elif end_group is None:
        # Unfiltered is the same as from {0, 0} on, which is the default of ``start``.
        out = encode(_ABSOLUTE_START) + start
    else:
        end = end_group - value.start.group if draft.end_group_delta else end_group
        out = encode(_ABSOLUTE_RANGE) + start + encode(end)
    return fields.prefixed(out, draft.varints)


def _write_typed(value: LocationFilter, draft: Draft) -> bytes:
    encode = draft.varints.encode
    if value.kind is FilterKind.UNFILTERED:
        return encode(_NONE)
    if value.kind is FilterKind.NEXT_OBJECT:
        return encode(_NEXT_OBJECT)
    if value.kind is FilterKind.NEXT_GROUP:
        return encode(_RELATIVE_START) + encode(0)
    if value.kind is FilterKind.RELATIVE:
        return encode(_RELATIVE_START) + encode(value.groups_back + 1)
    start = fields.location(value.start, draft.varints)
    if value.end_group is None:
        return encode(_FROM_START) + start
    delta = encode(value.end_group - value.start.group)
    if value.end_object is None:
        return encode(_TO_GROUP) + start + delta
    return encode(_TO_OBJECT) + start + delta + encode(value.end_object)


def read_range_filter(reader: Reader, kind: RangeFilterKind) -> RangeFilter:
    """The value of parameters 0x25 to 0x29. Ranges beyond 2**64-1 are kept: they are for
    :func:`range_filter_fault` to find."""
    value = reader.value()
    if not value.remaining:
        return RangeFilter(kind, None, ())
    set_id = value.byte()
    property_type = value.integer() if kind in _PROPERTY_FILTERS else None
    ranges: list[tuple[int, int | None]] = []
    previous = 0
    while value.remaining:
        start = previous + value.integer()
        if not value.remaining:
            ranges.append((start, None))
            break
        previous = start + value.integer()
        ranges.append((start, previous))
    return RangeFilter(kind, set_id, tuple(ranges), property_type)


def write_range_filter(value: RangeFilter, draft: Draft) -> bytes:
    """The value of parameters 0x25 to 0x29.

    :raises ValueError: ranges that do not ascend, an open one that is not the last, or a
        property type too much or too little.
    """
    encode = draft.varints.encode
    if value.set_id is None:
        return encode(0)
    out = bytes([value.set_id])
    if (value.kind in _PROPERTY_FILTERS) != (value.property_type is not None):
        raise ValueError(f"{value.kind.name} filter with property type {value.property_type}")
    if value.property_type is not None:
        out += encode(value.property_type)
    previous: int | None = 0
    for start, end in value.ranges:
        if previous is None:
            raise ValueError("only the last range of a filter may be open")
        out += encode(start - previous)
        if end is not None:
            out += encode(end - start)
        previous = end
    return fields.prefixed(out, draft.varints)


def range_filter_fault(parameters: Parameters, maximum: int) -> str | None:
    """Why a request with these parameters is to be refused with INVALID_FILTER, or None.

    :param maximum: the MAX_FILTER_RANGES that the peer was told; 0 forbids such filters.
    """
    seen = set()
    ranges = 0
    for item in parameters.range_filters:
        key = (item.kind, item.set_id, item.property_type)
        if key in seen:
            return f"{item.kind.name} filter of set {item.set_id} twice"
        seen.add(key)
        if item.property_type is not None and item.property_type & 1:
            return f"property {item.property_type:#x} is no integer"
        largest = 255 if item.kind is RangeFilterKind.PRIORITY else _MAXIMUM
        for start, end in item.ranges:
            if max(start, end or 0) > largest:
                return f"{item.kind.name} filter beyond {largest}"
        ranges += len(item.ranges)
    if ranges > maximum:
        return f"{ranges} ranges, more than {maximum}"
    return None
