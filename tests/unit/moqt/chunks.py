"""Feeding a parser in pieces and putting together what it returned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st


def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` in up to eight pieces of any size, empty ones too."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=7)))
    bounds = zip([0, *places], [*places, len(data)], strict=True)
    return [data[begin:end] for begin, end in bounds]


def feed(parser: Any, pieces: Iterable[bytes], *, fin: bool = True) -> tuple[bytes, list[Any]]:
    """Everything that came out, having checked each piece: what is passed on ends within
    payload or at an object's end, and holds the headers it claims."""
    body, items = b"", []
    pieces = list(pieces)
    for index, piece in enumerate(pieces):
        out, found = parser.feed(piece, fin and index == len(pieces) - 1)
        for item in found:
            if hasattr(item, "start"):
                assert len(body) <= item.start
                assert item.payload_start <= len(body) + len(out)
        body += out
        items += found
    return body, items
