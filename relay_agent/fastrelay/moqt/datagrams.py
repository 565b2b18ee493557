"""OBJECT_DATAGRAM (draft-18 section 11.3.1): one object in one datagram."""

from __future__ import annotations

from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived
from fastrelay.moqt.keyvalue import check_object_properties, reencode
from fastrelay.moqt.names import Location, ObjectStatus
from fastrelay.moqt.objects import check_status
from fastrelay.moqt.reader import violation
from fastrelay.moqt.varint import IncompleteError

_PROPERTIES = 0x01
_END_OF_GROUP = 0x02
_ZERO_OBJECT_ID = 0x04
_DEFAULT_PRIORITY = 0x08
_STATUS = 0x20
_BITS = 0x2F


def decode_datagram(data: bytes, draft: Draft) -> DatagramReceived:
    """The object in a datagram. Padding datagrams are for the caller to know by their type.

    :raises MoqtError: PROTOCOL_VIOLATION; an unknown type, or not the fields of its type.
    :raises MalformedTrackError: properties that no object may have.
    """
    try:
        return _decode(data, draft)
    except (IncompleteError, IndexError):
        raise violation("the datagram ends within its header") from None


def _decode(data: bytes, draft: Draft) -> DatagramReceived:
    read = draft.varints.decode
    kind, position = read(data, 0)
    if kind & ~_BITS or kind & (_STATUS | _END_OF_GROUP) == _STATUS | _END_OF_GROUP:
        raise violation(f"{kind:#x} is not the type of a datagram")
    type_end = position
    alias, position = read(data, position)
    alias_length = position - type_end
    group, position = read(data, position)
    object_id = 0
    if not kind & _ZERO_OBJECT_ID:
        object_id, position = read(data, position)
    location = Location(group, object_id)
    priority = None
    if not kind & _DEFAULT_PRIORITY:
        priority = data[position]
        position += 1
    properties = None
    if kind & _PROPERTIES:
        length, position = read(data, position)
        properties = data[position : position + length]
        if not length or len(properties) < length:
            raise violation(f"{length} bytes of properties announced in a datagram")
        position += length
    status = ObjectStatus.NORMAL
    if kind & _STATUS:
        value, position = read(data, position)
        if position < len(data):
            raise violation("a datagram with both a status and a payload")
        status = check_status(value, properties)
    if properties:
        check_object_properties(properties, location, draft)
    return DatagramReceived(
        track_alias=alias,
        location=location,
        publisher_priority=priority,
        properties=properties,
        status=status,
        end_of_group=bool(kind & _END_OF_GROUP),
        payload=data[position:],
        # A type may come in a longer form than needed; raw promises one byte.
        raw=data if type_end == 1 else bytes([kind]) + data[type_end:],
        alias_length=alias_length,
    )


def encode_datagram(
    track_alias: int,
    location: Location,
    priority: int | None,
    payload: bytes,
    draft: Draft,
    *,
    properties: bytes | None = None,
    status: ObjectStatus = ObjectStatus.NORMAL,
    end_of_group: bool = False,
) -> bytes:
    """A whole datagram.

    :param priority: None for the track's default.
    :raises ValueError: a value does not fit the draft's integers, or a status with a payload,
        properties or the end of its group.
    """
    encode = draft.varints.encode
    kind = _END_OF_GROUP if end_of_group else 0
    fields = [encode(track_alias), encode(location.group)]
    if location.object:
        fields.append(encode(location.object))
    else:
        kind |= _ZERO_OBJECT_ID
    if priority is None:
        kind |= _DEFAULT_PRIORITY
    else:
        fields.append(bytes([priority]))
    if properties:
        kind |= _PROPERTIES
        fields += (encode(len(properties)), properties)
    if status is not ObjectStatus.NORMAL:
        if payload or properties or end_of_group:
            raise ValueError(f"a datagram of status {status.name} has nothing else")
        kind |= _STATUS
        payload = encode(status)
    return b"".join((encode(kind), *fields, payload))


def rewrite_datagram(datagram: DatagramReceived, source: Draft, target: Draft, alias: int) -> bytes:
    """A received datagram for another session, as :func:`rewrite_subgroup_header` does it.

    :raises ValueError: a value does not fit the target's integers.
    """
    if source.varints is not target.varints:
        properties = datagram.properties
        return encode_datagram(
            alias,
            datagram.location,
            datagram.publisher_priority,
            datagram.payload,
            target,
            properties=properties and reencode(properties, source.varints, target.varints),
            status=datagram.status,
            end_of_group=datagram.end_of_group,
        )
    if alias == datagram.track_alias:
        return datagram.raw
    raw = datagram.raw
    return b"".join((raw[:1], target.varints.encode(alias), raw[1 + datagram.alias_length :]))
