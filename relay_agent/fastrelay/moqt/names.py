"""Names, places and small values that every draft shares (draft-18 sections 1.4, 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

Namespace = tuple[bytes, ...]
"""A track namespace: up to 32 fields of at least one byte each, in order."""

MAX_NAMESPACE_FIELDS = 32
MAX_FULL_TRACK_NAME = 4096
"""Bytes of all namespace fields and the track name together."""


class Location(NamedTuple):
    """A place in a track; compares as the draft orders places (section 1.4.2)."""

    group: int
    object: int


@dataclass(frozen=True, slots=True)
class FullTrackName:
    """A namespace and a name within it: what the whole network calls one track."""

    namespace: Namespace
    name: bytes

    def __str__(self) -> str:
        return f"{format_namespace(self.namespace)}--{_readable(self.name)}"


class GroupOrder(IntEnum):
    """The order in which groups are to be sent (0, "as the publisher does", is absence)."""

    ASCENDING = 1
    DESCENDING = 2


class ObjectStatus(IntEnum):
    """What an object without payload says (section 11.2.1.1)."""

    NORMAL = 0
    END_OF_GROUP = 3
    END_OF_TRACK = 4


_LITERAL = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


def _readable(field: bytes) -> str:
    return "".join(chr(b) if b in _LITERAL else f".{b:02x}" for b in field)


def format_namespace(namespace: Namespace) -> str:
    """Fields joined by ``-``, other bytes than [A-Za-z0-9_] as ``.xx`` (MSF section on URLs)."""
    return "-".join(_readable(field) for field in namespace)


def parse_namespace(text: str) -> Namespace:
    """``live/demo`` as people type it: the fields are separated by slashes.

    :raises ValueError: a field is empty, or there are none or more than 32.
    """
    fields = tuple(part.encode() for part in text.strip("/").split("/"))
    if not all(fields):
        raise ValueError(f"namespace {text!r} has an empty field; write it like live/demo")
    if len(fields) > MAX_NAMESPACE_FIELDS:
        raise ValueError(f"namespace {text!r} has more than {MAX_NAMESPACE_FIELDS} fields")
    return fields
