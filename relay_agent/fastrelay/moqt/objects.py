"""Subgroup streams (draft-18 section 11.4.2): the stream's header and its objects.

A receiver decodes the header with :func:`decode_subgroup_header` and gives everything after
it to a :class:`SubgroupParser`. A sender writes :func:`encode_subgroup_header` and for each
object :func:`encode_object` and the payload. A relay forwards the body as it came and needs
only :func:`rewrite_subgroup_header`, or :func:`join_prefix` for who comes in the middle.
"""

from __future__ import annotations

from fastrelay.moqt.codes import MalformedTrackError, MoqtError, SessionError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import ObjectHeader, SubgroupHeader
from fastrelay.moqt.keyvalue import check_object_properties
from fastrelay.moqt.names import Location, ObjectStatus
from fastrelay.moqt.reader import violation
from fastrelay.moqt.varint import IncompleteError, Varints

# Types of unidirectional streams and datagrams (section 3.4), other than the ranges.
FETCH_HEADER = 0x05
CONTROL_STREAM = 0x2F00
PADDING_STREAM = 0x132B3E28
PADDING_DATAGRAM = 0x132B3E29

# Bits of a SUBGROUP_HEADER's type.
_SUBGROUP = 0x10
_PROPERTIES = 0x01
_MODE = 0x06
_MODE_ZERO = 0x00
_MODE_FIRST_OBJECT = 0x02
_MODE_PRESENT = 0x04
_END_OF_GROUP = 0x08
_DEFAULT_PRIORITY = 0x20
_FIRST_OBJECT = 0x40

MAX_OBJECT_PROPERTIES = 0x10000
"""Bytes of properties that we take on one object. The draft names no limit, but they must be
held until they are complete."""

_STATUSES = {int(status): status for status in ObjectStatus}
_NORMAL = ObjectStatus.NORMAL


def is_subgroup_type(stream_type: int, draft: Draft) -> bool:
    """Whether a stream of this type is a subgroup. Types whose subgroup id mode is reserved
    (0b11) are none."""
    form = stream_type & ~(_FIRST_OBJECT if draft.first_object else 0)
    return form & ~0x2F == _SUBGROUP and form & _MODE != _MODE


def decode_subgroup_header(data: bytes, draft: Draft) -> tuple[SubgroupHeader, int]:
    """The header at the beginning of a stream's bytes, its type included, and where the body
    begins.

    :raises IncompleteError: the header is not complete.
    :raises MoqtError: PROTOCOL_VIOLATION; the type is not that of a subgroup.
    """
    read = draft.varints.decode
    kind, position = read(data, 0)
    if not is_subgroup_type(kind, draft):
        raise violation(f"{kind:#x} is not the type of a subgroup stream")
    type_end = position
    alias, position = read(data, position)
    alias_length = position - type_end
    group, position = read(data, position)
    subgroup: int | None = 0
    if kind & _MODE == _MODE_PRESENT:
        subgroup, position = read(data, position)
    elif kind & _MODE == _MODE_FIRST_OBJECT:
        subgroup = None
    priority = None
    if not kind & _DEFAULT_PRIORITY:
        if position >= len(data):
            raise IncompleteError
        priority = data[position]
        position += 1
    # A type may come in a longer form than needed; raw promises one byte.
    raw = bytes(data[:position]) if type_end == 1 else bytes([kind]) + data[type_end:position]
    header = SubgroupHeader(
        track_alias=alias,
        group_id=group,
        subgroup_id=subgroup,
        publisher_priority=priority,
        has_properties=bool(kind & _PROPERTIES),
        end_of_group=bool(kind & _END_OF_GROUP),
        first_object=bool(kind & _FIRST_OBJECT),
        raw=raw,
        alias_length=alias_length,
    )
    return header, position


def encode_subgroup_header(header: SubgroupHeader, draft: Draft, alias: int | None = None) -> bytes:
    """The header's bytes, from its values. ``alias`` replaces the header's track alias.

    :raises ValueError: a value does not fit the draft's integers.
    """
    subgroup = header.subgroup_id
    return _encode_header(
        header,
        _MODE_FIRST_OBJECT if subgroup is None else _MODE_PRESENT if subgroup else _MODE_ZERO,
        subgroup,
        header.first_object,
        header.track_alias if alias is None else alias,
        draft,
    )


def _encode_header(
    header: SubgroupHeader,
    mode: int,
    subgroup: int | None,
    first_object: bool,
    alias: int,
    draft: Draft,
) -> bytes:
    encode = draft.varints.encode
    kind = _SUBGROUP | mode
    if header.has_properties:
        kind |= _PROPERTIES
    if header.end_of_group:
        kind |= _END_OF_GROUP
    if first_object and draft.first_object:
        kind |= _FIRST_OBJECT
    tail = b""
    if header.publisher_priority is None:
        kind |= _DEFAULT_PRIORITY
    else:
        tail = bytes([header.publisher_priority])
    if mode == _MODE_PRESENT and subgroup is not None:
        tail = encode(subgroup) + tail
    return encode(kind) + encode(alias) + encode(header.group_id) + tail


def rewrite_subgroup_header(
    header: SubgroupHeader, source: Draft, target: Draft, alias: int
) -> bytes:
    """The header as received from a peer of draft ``source``, for a peer of draft ``target``
    which knows the track by ``alias``. If the alias is the same and the drafts' integers too,
    these are the very bytes of ``header.raw``; otherwise nothing but what must differ does.

    :raises ValueError: a value does not fit the target's integers.
    """
    if not header.raw or source.varints is not target.varints:
        return encode_subgroup_header(header, target, alias)
    if alias == header.track_alias:
        return header.raw
    written = target.varints.encode(alias)
    return b"".join((header.raw[:1], written, header.raw[1 + header.alias_length :]))


def encode_object(
    object_id: int,
    previous: int | None,
    payload_length: int,
    varints: Varints,
    properties: bytes | None = None,
    status: ObjectStatus = _NORMAL,
) -> bytes:
    """An object's header; its payload follows.

    :param previous: the id of the object before it in this stream, None for the first one.
    :param properties: None if the stream's header says that its objects have none.
    :raises ValueError: ids that do not ascend, or values too large for the integers.
    """
    encode = varints.encode
    head = encode(object_id if previous is None else object_id - previous - 1)
    if properties is not None:
        head += encode(len(properties)) + properties
    if payload_length:
        return head + encode(payload_length)
    return head + b"\0" + encode(status)


def join_prefix(header: SubgroupHeader, first: ObjectHeader, alias: int, draft: Draft) -> bytes:
    """What a receiver gets that joins a subgroup at the object ``first``: a header with the
    subgroup id written out and FIRST_OBJECT cleared, and the object's header with its absolute
    id. The body goes on, unaltered, at ``first.payload_start``.

    :param draft: the receiver's; ``first`` must be of the same varint family.
    :raises ValueError: a value does not fit the draft's integers.
    """
    return _encode_header(
        header, _MODE_PRESENT, first.subgroup_id, False, alias, draft
    ) + encode_object(
        first.location.object,
        None,
        first.end - first.payload_start,
        draft.varints,
        first.properties,
        first.status,
    )


class SubgroupParser:
    """Turns a subgroup stream's body, in chunks of any size, into valid bytes and headers.

    :param header: from :func:`decode_subgroup_header`.
    """

    __slots__ = (
        "_draft",
        "_ended",
        "_group",
        "_has_properties",
        "_held",
        "_offset",
        "_one_byte",
        "_previous",
        "_priority",
        "_read",
        "_remaining",
        "subgroup_id",
    )

    subgroup_id: int | None
    """Known from the header, or from the first object on."""

    def __init__(self, header: SubgroupHeader, draft: Draft) -> None:
        self._draft = draft
        self._group = header.group_id
        self._priority = header.publisher_priority
        self._has_properties = header.has_properties
        self._read = draft.varints.decode
        self._one_byte = draft.varints.one_byte
        self._held = b""
        """The beginning of an object's header that is not complete yet."""
        self._offset = 0
        """Bytes of the body passed on."""
        self._previous = -1
        self._remaining = 0
        """Bytes of the current object's payload still to come."""
        self._ended = False
        self.subgroup_id = header.subgroup_id

    def feed(
        self, data: bytes, fin: bool = False, start: int = 0
    ) -> tuple[bytes, list[ObjectHeader]]:
        """The next bytes of the stream.

        :param start: where the body begins in ``data``, in the chunk that had the header too.
        :returns: body bytes up to the last that belongs to a complete header or to payload
            (``data`` itself if that is all of it), and the objects whose headers are in them,
            with offsets in the body.
        :raises MoqtError: PROTOCOL_VIOLATION, also for a FIN within an object; INTERNAL_ERROR
            for properties above our limit.
        :raises MalformedTrackError: see there.
        """
        size = len(data)
        remaining = self._remaining
        if remaining and size - start <= remaining:
            # All of it is payload: the way of most chunks of large objects.
            self._remaining = remaining - (size - start)
            self._offset += size - start
            if fin and self._remaining:
                raise violation("the stream ends within an object")
            return (data[start:] if start else data), []
        if self._held:
            data = self._held + (data[start:] if start else data)
            size, start = len(data), 0
            self._held = b""
        objects: list[ObjectHeader] = []
        base = self._offset - start
        position = start + remaining
        while position < size:
            try:
                header = self._header(data, position, size, base)
            except IncompleteError:
                break
            objects.append(header)
            position = header.end - base
        if position < size:
            # An incomplete header is held back, so that what is passed on is valid.
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
        return data, objects

    def _header(self, data: bytes, position: int, size: int, base: int) -> ObjectHeader:
        begin = position
        value = data[position]
        if value < self._one_byte:
            position += 1
        else:
            value, position = self._read(data, position)
        object_id = self._previous + value + 1
        properties = None
        if self._has_properties:
            value, position = self._read(data, position)
            end = position + value
            if value > MAX_OBJECT_PROPERTIES:
                raise MoqtError(
                    SessionError.INTERNAL_ERROR, f"{value} bytes of properties on one object"
                )
            if end > size:
                raise IncompleteError
            properties = data[position:end]
            position = end
        length, position = self._read(data, position)
        status = _NORMAL
        if not length:
            value, position = self._read(data, position)
            if value:
                status = check_status(value, properties)
        # Complete: now the object counts.
        if object_id > self._draft.varints.maximum:
            raise violation("an object id above the largest integer")
        if self._ended:
            raise MalformedTrackError(f"object {object_id} after the end of its group or track")
        location = Location(self._group, object_id)
        if properties:
            check_object_properties(properties, location, self._draft)
        self._previous = object_id
        self._ended = status is not _NORMAL
        subgroup = self.subgroup_id
        if subgroup is None:
            subgroup = self.subgroup_id = object_id
        payload = base + position
        return ObjectHeader(
            location, subgroup, self._priority, properties, status,
            base + begin, payload, payload + length,
        )  # fmt: skip


def check_status(value: int, properties: bytes | None) -> ObjectStatus:
    """The status of an object without payload.

    :raises MoqtError: PROTOCOL_VIOLATION; an unknown status, or properties beside one that is
        not NORMAL.
    """
    status = _STATUSES.get(value)
    if status is None:
        raise violation(f"unknown object status {value:#x}")
    if status is not _NORMAL and properties:
        raise violation("properties on an object whose status is not normal")
    return status
