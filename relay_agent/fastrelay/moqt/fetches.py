"""Fetch streams (draft-18 section 11.4.4): answers to FETCH, and fills of draft 22.

Each object carries flags that say which fields follow and which are those of the object
before it. Draft 16 writes absolute groups and objects, later drafts differences.
"""

from __future__ import annotations

from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import FetchRange, ObjectHeader
from fastrelay.moqt.keyvalue import check_object_properties
from fastrelay.moqt.names import Location, ObjectStatus
from fastrelay.moqt.objects import FETCH_HEADER, MAX_OBJECT_PROPERTIES
from fastrelay.moqt.reader import violation
from fastrelay.moqt.varint import IncompleteError

_SUBGROUP = 0x03
_SUBGROUP_ZERO = 0
_SUBGROUP_PRIOR = 1
_SUBGROUP_NEXT = 2
_SUBGROUP_PRESENT = 3
_OBJECT = 0x04
_GROUP = 0x08
_PRIORITY = 0x10
_PROPERTIES = 0x20
_DATAGRAM = 0x40
_FLAGS_END = 0x80

NON_EXISTENT_RANGE = 0x8C
UNKNOWN_RANGE = 0x10C
TIMED_OUT_RANGE = 0x20C

_NORMAL = ObjectStatus.NORMAL


def encode_fetch_header(request_id: int, draft: Draft) -> bytes:
    """FETCH_HEADER, the beginning of the stream."""
    return draft.varints.encode(FETCH_HEADER) + draft.varints.encode(request_id)


def decode_fetch_header(data: bytes, draft: Draft) -> tuple[int, int]:
    """The request id, and where the body begins.

    :raises IncompleteError: the header is not complete.
    :raises MoqtError: PROTOCOL_VIOLATION; it is no fetch stream.
    """
    kind, position = draft.varints.decode(data, 0)
    if kind != FETCH_HEADER:
        raise violation(f"{kind:#x} is not the type of a fetch stream")
    return draft.varints.decode(data, position)


class FetchEncoder:
    """Writes the objects of one fetch stream, in the order of the fetch.

    :param descending: the fetch's group order.
    """

    __slots__ = ("_descending", "_draft", "_group", "_object", "_priority", "_subgroup")

    def __init__(self, draft: Draft, descending: bool = False) -> None:
        self._draft = draft
        self._descending = descending
        self._group: int | None = None
        self._object = 0
        self._subgroup: int | None = None
        self._priority: int | None = None

    def object(
        self,
        location: Location,
        subgroup_id: int,
        priority: int,
        payload_length: int,
        properties: bytes | None = None,
        *,
        datagram: bool = False,
    ) -> bytes:
        """An object's header; its payload follows.

        :param priority: the publisher's, a track's default resolved.
        :param datagram: it was published as a datagram and has no subgroup.
        :raises ValueError: against the group order, or a value that does not fit.
        """
        encode = self._draft.varints.encode
        group, object_id = location
        flags = 0
        fields = []
        if group != self._group:
            flags |= _GROUP | _OBJECT
            fields.append(encode(self._group_field(group)))
        if datagram:
            flags |= _DATAGRAM
        elif subgroup_id != 0:
            if self._subgroup is not None and subgroup_id == self._subgroup:
                flags |= _SUBGROUP_PRIOR
            elif self._subgroup is not None and subgroup_id == self._subgroup + 1:
                flags |= _SUBGROUP_NEXT
            else:
                flags |= _SUBGROUP_PRESENT
                fields.append(encode(subgroup_id))
        if flags & _GROUP:
            fields.append(encode(object_id))
        elif object_id != self._object + 1:
            if object_id <= self._object:
                raise ValueError(f"object {object_id} after object {self._object}")
            flags |= _OBJECT
            delta = self._object if self._draft.fetch_deltas else 0
            fields.append(encode(object_id - delta))
        if priority != self._priority:
            flags |= _PRIORITY
            fields.append(bytes([priority]))
        if properties:
            flags |= _PROPERTIES
            fields += (encode(len(properties)), properties)
        fields.append(encode(payload_length))
        self._group, self._object, self._priority = group, object_id, priority
        # Receivers differ in what "prior subgroup" means after a datagram: never refer to it.
        self._subgroup = None if datagram else subgroup_id
        return encode(flags) + b"".join(fields)

    def range_end(self, marker: FetchRange) -> bytes:
        """An end-of-range marker. Where the draft has no timed-out ranges they are unknown."""
        encode = self._draft.varints.encode
        kind = marker.kind
        if kind == TIMED_OUT_RANGE and not self._draft.timed_out_ranges:
            kind = UNKNOWN_RANGE
        self._group, self._object = marker.until
        return encode(kind) + encode(self._group) + encode(self._object)

    def _group_field(self, group: int) -> int:
        if self._group is None or not self._draft.fetch_deltas:
            return group
        return (self._group - group if self._descending else group - self._group) - 1


class FetchParser:
    """Turns a fetch stream's body, in chunks of any size, into valid bytes and headers.

    :param descending: the fetch's group order.
    """

    __slots__ = (
        "_descending",
        "_draft",
        "_group",
        "_held",
        "_object",
        "_offset",
        "_priority",
        "_range_ends",
        "_remaining",
        "_subgroup",
    )

    def __init__(self, draft: Draft, descending: bool = False) -> None:
        self._draft = draft
        self._descending = descending
        self._range_ends = (NON_EXISTENT_RANGE, UNKNOWN_RANGE) + (
            (TIMED_OUT_RANGE,) if draft.timed_out_ranges else ()
        )
        self._held = b""
        self._offset = 0
        self._remaining = 0
        self._group: int | None = None
        self._object = 0
        self._subgroup: int | None = None
        self._priority: int | None = None

    def feed(
        self, data: bytes, fin: bool = False, start: int = 0
    ) -> tuple[bytes, list[ObjectHeader | FetchRange]]:
        """The next bytes of the stream; as :meth:`SubgroupParser.feed`, with range markers
        among the objects.

        :raises MoqtError: PROTOCOL_VIOLATION, also for a FIN within an object; INTERNAL_ERROR
            for properties above our limit.
        :raises MalformedTrackError: properties that no object may have.
        """
        if self._held:
            data = self._held + data[start:]
            start = 0
            self._held = b""
        items: list[ObjectHeader | FetchRange] = []
        size = len(data)
        base = self._offset - start
        position = start + self._remaining
        while position < size:
            try:
                item, position = self._item(data, position, size, base)
            except IncompleteError:
                break
            items.append(item)
        if position < size:
            self._held = data[position:]
            self._remaining = 0
            data = data[start:position]
        else:
            self._remaining = position - size
            if start:
                data = data[start:]
        self._offset += len(data)
        if fin and (self._remaining or self._held):
            raise violation("the stream ends within an object")
        return data, items

    def _item(
        self, data: bytes, position: int, size: int, base: int
    ) -> tuple[ObjectHeader | FetchRange, int]:
        """The object or marker at ``position`` and where the next one begins. Our state changes
        only when all of it is there."""
        read = self._draft.varints.decode
        begin = position
        flags, position = read(data, position)
        if flags in self._range_ends:
            group, position = read(data, position)
            object_id, position = read(data, position)
            self._group, self._object = group, object_id
            return FetchRange(Location(group, object_id), flags), position
        if flags >= _FLAGS_END:
            raise violation(f"unknown flags {flags:#x} on a fetch object")

        group_field = subgroup_field = object_field = None
        if flags & _GROUP:
            group_field, position = read(data, position)
        mode = _SUBGROUP_ZERO if flags & _DATAGRAM else flags & _SUBGROUP
        if mode == _SUBGROUP_PRESENT:
            subgroup_field, position = read(data, position)
        if flags & _OBJECT:
            object_field, position = read(data, position)
        priority = self._priority
        if flags & _PRIORITY:
            if position >= size:
                raise IncompleteError
            priority = data[position]
            position += 1
        properties = None
        if flags & _PROPERTIES:
            length, position = read(data, position)
            if length > MAX_OBJECT_PROPERTIES:
                raise MoqtError(
                    SessionError.INTERNAL_ERROR, f"{length} bytes of properties on one object"
                )
            if position + length > size:
                raise IncompleteError
            properties = data[position : position + length]
            position += length
        length, position = read(data, position)

        location = self._locate(group_field, object_field)
        subgroup = self._subgroup_id(mode, subgroup_field)
        if priority is None:
            raise violation("the first fetch object refers to a priority before it")
        if properties:
            check_object_properties(properties, location, self._draft)
        self._group, self._object = location
        self._subgroup, self._priority = subgroup, priority
        end = position + length
        header = ObjectHeader(
            location=location,
            subgroup_id=subgroup,
            publisher_priority=priority,
            properties=properties,
            status=_NORMAL,
            start=base + begin,
            payload_start=base + position,
            end=base + end,
            datagram=bool(flags & _DATAGRAM),
        )
        return header, end

    def _locate(self, group_field: int | None, object_field: int | None) -> Location:
        if self._group is None:
            if group_field is None or object_field is None:
                raise violation("the first fetch object refers to a location before it")
            return Location(group_field, object_field)
        deltas = self._draft.fetch_deltas
        group = self._group
        if group_field is not None:
            if not deltas:
                group = group_field
            elif self._descending:
                group -= group_field + 1
            else:
                group += group_field + 1
        if object_field is None:
            object_id = self._object + 1
        elif deltas and group_field is None:
            object_id = self._object + object_field
        else:
            object_id = object_field
        maximum = self._draft.varints.maximum
        if not 0 <= group <= maximum or object_id > maximum:
            raise violation("a fetch object outside of the range of ids")
        return Location(group, object_id)

    def _subgroup_id(self, mode: int, field: int | None) -> int:
        if field is not None:
            return field
        if mode == _SUBGROUP_ZERO:
            return 0
        if self._subgroup is None:
            raise violation("the first fetch object refers to a subgroup before it")
        subgroup = self._subgroup + (mode == _SUBGROUP_NEXT)
        if subgroup > self._draft.varints.maximum:
            raise violation("a subgroup id above the largest integer")
        return subgroup
