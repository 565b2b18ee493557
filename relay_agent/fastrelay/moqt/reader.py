"""Reading and writing of the fields that control messages share (draft-18 sections 1.4, 2.4).

A :class:`Reader` is bounded by the length that the message declared; whatever does not
fit, is too long or too many is a PROTOCOL_VIOLATION, as the draft wants in each case.
"""

from __future__ import annotations

from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.names import (
    MAX_FULL_TRACK_NAME,
    MAX_NAMESPACE_FIELDS,
    FullTrackName,
    Location,
    Namespace,
)
from fastrelay.moqt.varint import IncompleteError, Varints

MAX_REASON = 1024
MAX_URI = 8192


def violation(reason: str) -> MoqtError:
    """What most malformed input is."""
    return MoqtError(SessionError.PROTOCOL_VIOLATION, reason)


class Reader:
    """A cursor over the body of one message or one length-prefixed value."""

    __slots__ = ("data", "position", "varints")

    def __init__(self, data: bytes, varints: Varints) -> None:
        self.data = data
        self.position = 0
        self.varints = varints

    @property
    def remaining(self) -> int:
        return len(self.data) - self.position

    def integer(self) -> int:
        try:
            value, self.position = self.varints.decode(self.data, self.position)
        except IncompleteError:
            raise violation("the message ends within an integer") from None
        return value

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise violation(f"{size} bytes announced, {self.remaining} left in the message")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def prefixed(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.integer())

    def value(self) -> Reader:
        """A reader for a length-prefixed value, which must be consumed whole."""
        return Reader(self.prefixed(), self.varints)

    def rest(self) -> bytes:
        taken = self.data[self.position :]
        self.position = len(self.data)
        return taken

    def finish(self) -> None:
        """Nothing may be left."""
        if self.remaining:
            raise violation(f"{self.remaining} bytes too many")

    def text(self, what: str, maximum: int) -> str:
        size = self.integer()
        if size > maximum:
            raise violation(f"{what} of {size} bytes, more than {maximum}")
        return self.take(size).decode(errors="replace")

    def reason(self) -> str:
        return self.text("reason phrase", MAX_REASON)

    def uri(self) -> str:
        return self.text("URI", MAX_URI)

    def location(self) -> Location:
        return Location(self.integer(), self.integer())

    def namespace(self, *, may_be_empty: bool = True) -> Namespace:
        count = self.integer()
        if count > MAX_NAMESPACE_FIELDS:
            raise violation(f"namespace of {count} fields, more than {MAX_NAMESPACE_FIELDS}")
        if not count and not may_be_empty:
            raise violation("namespace without fields")
        fields = tuple([self.prefixed() for _ in range(count)])
        if not all(fields):
            raise violation("namespace with an empty field")
        _check_size(fields, b"")
        return fields

    def track(self, *, may_be_empty: bool = True) -> FullTrackName:
        namespace = self.namespace(may_be_empty=may_be_empty)
        name = self.prefixed()
        _check_size(namespace, name)
        return FullTrackName(namespace, name)


def _check_size(namespace: Namespace, name: bytes) -> None:
    size = sum(map(len, namespace)) + len(name)
    if size > MAX_FULL_TRACK_NAME:
        raise violation(f"track name of {size} bytes, more than {MAX_FULL_TRACK_NAME}")


def prefixed(data: bytes, varints: Varints) -> bytes:
    return varints.encode(len(data)) + data


def text(value: str, maximum: int, varints: Varints) -> bytes:
    """:raises ValueError: longer than ``maximum`` bytes."""
    data = value.encode()
    if len(data) > maximum:
        raise ValueError(f"text of {len(data)} bytes, more than {maximum}")
    return prefixed(data, varints)


def location(value: Location, varints: Varints) -> bytes:
    return varints.encode(value.group) + varints.encode(value.object)


def namespace(value: Namespace, varints: Varints) -> bytes:
    return varints.encode(len(value)) + b"".join([prefixed(field, varints) for field in value])


def track(value: FullTrackName, varints: Varints) -> bytes:
    return namespace(value.namespace, varints) + prefixed(value.name, varints)
