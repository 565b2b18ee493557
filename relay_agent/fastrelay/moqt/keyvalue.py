"""Key-value pairs (draft-18 section 1.4.3) and the properties made of them (sections 2.5, 12).

A pair's type is written as the difference from the one before; the value of an even type
is an integer, that of an odd type bytes. Properties stay bytes in the whole package: a
relay passes on what it does not know. Here is what looks into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastrelay.moqt.codes import MalformedTrackError, MoqtError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.names import GroupOrder, Location
from fastrelay.moqt.reader import violation
from fastrelay.moqt.varint import IncompleteError, Varints

KeyValue = tuple[int, int | bytes]

MAX_VALUE = 0xFFFF
"""Bytes in the value of one odd type."""
MAX_TYPE = (1 << 64) - 1

OBJECT_DELIVERY_TIMEOUT = 0x02
MAX_CACHE_DURATION = 0x04
SUBGROUP_DELIVERY_TIMEOUT = 0x06
IMMUTABLE_PROPERTIES = 0x0B
DEFAULT_PUBLISHER_PRIORITY = 0x0E
DEFAULT_PUBLISHER_GROUP_ORDER = 0x22
DYNAMIC_GROUPS = 0x30
PRIOR_GROUP_ID_GAP = 0x3C
PRIOR_OBJECT_ID_GAP = 0x3E
MANDATORY = range(0x4000, 0x8000)
"""Track properties that whoever does not understand must refuse (section 2.5.1)."""

_AT_MOST_ONCE = (IMMUTABLE_PROPERTIES, PRIOR_GROUP_ID_GAP, PRIOR_OBJECT_ID_GAP)


def decode(data: bytes, varints: Varints) -> Iterator[KeyValue]:
    """The pairs in ``data``, in order.

    :raises MoqtError: PROTOCOL_VIOLATION; the data ends within a pair, a value is longer than
        65535 bytes or a type exceeds 2**64-1.
    """
    position, size, kind = 0, len(data), 0
    read, one_byte = varints.decode, varints.one_byte
    while position < size:
        try:
            delta = data[position]
            if delta < one_byte:
                position += 1
            else:
                delta, position = read(data, position)
            value, position = read(data, position)
        except IncompleteError:
            raise violation("the data ends within a key-value pair") from None
        kind += delta
        if kind > MAX_TYPE:
            raise violation("the type of a key-value pair exceeds 2**64-1")
        if not kind & 1:
            yield kind, value
            continue
        if value > MAX_VALUE:
            raise violation(f"a key-value pair of {value} bytes, more than {MAX_VALUE}")
        end = position + value
        if end > size:
            raise violation("the data ends within a key-value pair")
        yield kind, data[position:end]
        position = end


def encode(pairs: Iterable[KeyValue], varints: Varints) -> bytes:
    """``pairs`` must be in ascending order of their types.

    :raises ValueError: descending types, a value of the wrong sort or one that does not fit.
    """
    out, previous = [], 0
    for kind, value in pairs:
        out.append(varints.encode(kind - previous))
        previous = kind
        if isinstance(value, int) == bool(kind & 1):
            raise ValueError(f"key-value pair {kind:#x}: odd types take bytes, even ones integers")
        if isinstance(value, int):
            out.append(varints.encode(value))
        elif len(value) > MAX_VALUE:
            raise ValueError(f"key-value pair {kind:#x} of {len(value)} bytes")
        else:
            out += (varints.encode(len(value)), value)
    return b"".join(out)


def reencode(properties: bytes, source: Varints, target: Varints) -> bytes:
    """``properties`` in the other family's integers, also within IMMUTABLE_PROPERTIES: their
    pairs would be unreadable otherwise.

    :raises ValueError: a value does not fit the target family.
    """
    if source is target or not properties:
        return properties
    pairs = [
        (kind, reencode(value, source, target))
        if kind == IMMUTABLE_PROPERTIES and isinstance(value, bytes)
        else (kind, value)
        for kind, value in decode(properties, source)
    ]
    return encode(pairs, target)


def find(properties: bytes, kind: int, varints: Varints) -> int | bytes | None:
    """The first value of a type, among the mutable properties or the immutable ones."""
    for have, value in _flatten(properties, varints):
        if have == kind:
            return value
    return None


def _flatten(properties: bytes, varints: Varints) -> Iterator[KeyValue]:
    for kind, value in decode(properties, varints):
        yield kind, value
        if kind == IMMUTABLE_PROPERTIES and isinstance(value, bytes):
            yield from decode(value, varints)


def check_object_properties(properties: bytes, location: Location, draft: Draft) -> None:
    """What a receiver must check before it passes an object on (sections 2.5.1, 12.7 to 12.9).

    :raises MoqtError: the pairs are no pairs.
    :raises MalformedTrackError: immutable properties that are nested or unreadable, a gap
        property repeated or larger than the id, a mandatory track property on an object.
    """
    seen = 0
    for kind, value in decode(properties, draft.varints):
        if kind in MANDATORY and draft.mandatory_properties:
            raise MalformedTrackError(f"track property {kind:#x} on an object")
        if kind not in _AT_MOST_ONCE:
            continue
        if kind == seen:
            raise MalformedTrackError(f"property {kind:#x} twice on an object")
        seen = kind
        if isinstance(value, bytes):
            _check_immutable(value, draft.varints)
        elif value > (location.group if kind == PRIOR_GROUP_ID_GAP else location.object):
            raise MalformedTrackError(f"property {kind:#x}: a gap before the first id")


def _check_immutable(properties: bytes, varints: Varints) -> None:
    try:
        kinds = [kind for kind, _ in decode(properties, varints)]
    except MoqtError as error:
        raise MalformedTrackError(f"unreadable immutable properties: {error.reason}") from None
    if IMMUTABLE_PROPERTIES in kinds:
        raise MalformedTrackError("immutable properties within immutable properties")


@dataclass(frozen=True, slots=True)
class TrackProperties:
    """The properties of a track that MoQT itself defines; times are milliseconds, None is
    "not given". ``unknown_mandatory``: types for which the track must be refused with
    UNSUPPORTED_EXTENSION."""

    object_delivery_timeout: int | None = None
    subgroup_delivery_timeout: int | None = None
    max_cache_duration: int | None = None
    default_priority: int = 128
    default_group_order: GroupOrder = GroupOrder.ASCENDING
    dynamic_groups: bool = False
    unknown_mandatory: tuple[int, ...] = ()

    @classmethod
    def parse(cls, properties: bytes, draft: Draft) -> TrackProperties:
        """What ``properties`` say, the mutable ones and the immutable ones.

        :raises MoqtError: PROTOCOL_VIOLATION; pairs that are none, or a value that the draft
            forbids.
        """
        values: dict[int, int | bytes] = {}
        mandatory = []
        immutable = False
        for kind, value in _flatten(properties, draft.varints):
            if kind == IMMUTABLE_PROPERTIES:
                if immutable:
                    raise violation("immutable properties within immutable properties, or twice")
                immutable = True
            elif kind in MANDATORY and draft.mandatory_properties:
                mandatory.append(kind)
            values.setdefault(kind, value)

        def integer(kind: int, allowed: range | None = None) -> int | None:
            value = values.get(kind)
            if not isinstance(value, int):
                return None
            if allowed is not None and value not in allowed:
                raise violation(f"track property {kind:#x} has the value {value}")
            return value

        timeout = integer(OBJECT_DELIVERY_TIMEOUT)
        if timeout == 0 and not draft.zero_delivery_timeout:
            raise violation("a delivery timeout of 0")
        priority = integer(DEFAULT_PUBLISHER_PRIORITY, range(256))
        return cls(
            object_delivery_timeout=timeout,
            subgroup_delivery_timeout=integer(SUBGROUP_DELIVERY_TIMEOUT),
            max_cache_duration=integer(MAX_CACHE_DURATION),
            default_priority=128 if priority is None else priority,
            default_group_order=GroupOrder(
                integer(DEFAULT_PUBLISHER_GROUP_ORDER, range(1, 3)) or GroupOrder.ASCENDING
            ),
            dynamic_groups=bool(integer(DYNAMIC_GROUPS, range(2))),
            unknown_mandatory=tuple(mandatory),
        )
