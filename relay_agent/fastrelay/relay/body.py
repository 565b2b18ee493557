"""Bytes of a subgroup stream, kept as the chunks that came."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import ObjectHeader

_SMALL = 128
"""A chunk of fewer bytes costs more memory than it brings: it is joined to the one before."""
_JOINED = 1024
"""Up to so many bytes, so that a stream that comes byte by byte is not copied again and again."""


class Body:
    """Bytes of a subgroup stream after its header, in one wire family, and their objects."""

    __slots__ = ("_chunks", "_starts", "draft", "length", "objects")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.length = 0
        self.objects: list[ObjectHeader] = []
        self._chunks: list[bytes] = []
        self._starts: list[int] = []

    def append(self, data: bytes) -> None:
        if not data:
            return
        chunks = self._chunks
        if len(data) < _SMALL and chunks and len(chunks[-1]) < _JOINED:
            chunks[-1] += data
        else:
            chunks.append(data)
            self._starts.append(self.length)
        self.length += len(data)

    def read(self, offset: int, limit: int) -> bytes:
        """At least one byte and at most ``limit`` from ``offset``, which lies in the body."""
        index = bisect_right(self._starts, offset) - 1
        skip = offset - self._starts[index]
        chunk = self._chunks[index]
        if skip or len(chunk) > limit:
            return chunk[skip : skip + limit]
        if index + 1 == len(self._chunks) or len(chunk) + len(self._chunks[index + 1]) > limit:
            return chunk
        pieces = [chunk]
        room = limit - len(chunk)
        for chunk in self._chunks[index + 1 :]:
            if len(chunk) > room:
                break
            pieces.append(chunk)
            room -= len(chunk)
        return b"".join(pieces)

    def holds(self, offset: int) -> bool:
        """Whether the byte at ``offset`` was not given up."""
        return bool(self._starts) and self._starts[0] <= offset < self.length

    def slice(self, start: int, end: int) -> bytes:
        """Exactly these bytes, all of which are there."""
        pieces = []
        while start < end:
            piece = self.read(start, end - start)
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def prepend(self, lead: bytes, first_start: int, headers: list[ObjectHeader]) -> int:
        """Replace everything before the first object's payload by ``lead``, in which
        ``headers`` lie and that object's header begins at ``first_start``.

        :returns: how far all that follows has moved.
        """
        first = self.objects[0]
        shift = len(lead) - first.payload_start
        rest = (
            self.slice(first.payload_start, self.length)
            if (self.length > first.payload_start)
            else b""
        )
        for header in self.objects:
            header.start += shift
            header.payload_start += shift
            header.end += shift
        first.start = first_start
        self.objects[:0] = headers
        self._chunks = [lead]
        self._starts = [0]
        self.length = len(lead)
        self.append(rest)
        return shift

    def forget(self, offset: int) -> None:
        """Give up whole chunks before ``offset``: nobody will read them again."""
        index = bisect_right(self._starts, offset) - 1
        if index > 0:
            del self._chunks[:index], self._starts[:index]

    def first_from(self, object_id: int) -> int:
        """Index of the first object whose id is at least ``object_id``."""
        return bisect_left(self.objects, object_id, key=_object_id)


def _object_id(header: ObjectHeader) -> int:
    return header.location.object
