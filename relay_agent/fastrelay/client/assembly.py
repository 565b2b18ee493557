"""Whole objects out of the pieces in which stream bodies arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fastrelay.moqt.events import FetchRange, ObjectHeader


class Assembler:
    """Collects one stream's body and cuts payloads out of it by their headers."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        """Offset in the body of the buffer's first byte."""
        self._waiting: deque[tuple[ObjectHeader | FetchRange, float]] = deque()

    @property
    def held(self) -> int:
        """Bytes that wait for the end of their object."""
        return len(self._buffer)

    def feed(
        self, body: bytes, headers: list[ObjectHeader] | list[ObjectHeader | FetchRange], now: float
    ) -> Iterator[tuple[ObjectHeader | FetchRange, bytes, float]]:
        """Yield (header, payload, time of the header) of every object that is whole now."""
        self._buffer += body
        self._waiting.extend((header, now) for header in headers)
        buffer, start = self._buffer, self._start
        end = start + len(buffer)
        used = 0
        while self._waiting:
            header, at = self._waiting[0]
            if isinstance(header, FetchRange):
                payload = b""
            elif header.end > end:
                break
            else:
                payload = bytes(buffer[header.payload_start - start : header.end - start])
                used = header.end - start
            self._waiting.popleft()
            yield header, payload, at
        if used:
            del buffer[:used]
            self._start = start + used
