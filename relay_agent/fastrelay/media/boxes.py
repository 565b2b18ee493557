"""Boxes of the ISO base media file format (ISO/IEC 14496-12 section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from fastrelay.media.formats import MediaError


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box with a four-character type."""
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4) + kind + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A box that begins with a version and 24 flags."""
    return box(kind, bytes([version]), flags.to_bytes(3), *parts)


def iterate(
    data: bytes, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Type, start of the content and end of each box between ``start`` and ``end``.

    :raises MediaError: a box is truncated or its size impossible.
    """
    position = start
    limit = len(data) if end is None else end
    while position < limit:
        header = 8
        size = int.from_bytes(data[position : position + 4])
        if size == 1:
            header = 16
            size = int.from_bytes(data[position + 8 : position + 16])
        elif size == 0:
            size = limit - position
        if size < header or position + size > limit:
            raise MediaError("an MP4 box is truncated")
        yield data[position + 4 : position + 8], position + header, position + size
        position += size


def find(data: bytes, path: str, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """Content of the first box at ``path``, written like ``mdia/minf/stbl``.

    :raises MediaError: there is none.
    """
    first, _, rest = path.partition("/")
    for kind, inner, after in iterate(data, start, end):
        if kind == first.encode():
            return find(data, rest, inner, after) if rest else (inner, after)
    raise MediaError(f"there is no {first} box where one belongs")
