"""Subgroup streams from one family of varints into the other.

The bodies of subgroup streams are the same in all drafts but for the integers in them. A
relay stores a subgroup as it came and, when a subscriber of the other family appears, once
more in that family: chunk by chunk, whatever the number of subscribers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fastrelay.moqt.events import ObjectHeader
from fastrelay.moqt.keyvalue import reencode
from fastrelay.moqt.objects import encode_object
from fastrelay.moqt.varint import Varints


class SubgroupTranscoder:
    """Re-encodes what a :class:`~fastrelay.moqt.objects.SubgroupParser` returned, from the
    first chunk on."""

    __slots__ = ("_previous", "_read", "_source", "_target", "_written")

    def __init__(self, source: Varints, target: Varints) -> None:
        self._source = source
        self._target = target
        self._previous: int | None = None
        self._read = 0
        self._written = 0

    def feed(
        self, body: bytes, objects: Iterable[ObjectHeader]
    ) -> tuple[bytes, list[ObjectHeader]]:
        """The chunk in the other family, and its objects with offsets and properties in it.

        :raises ValueError: a value does not fit the target family; the subgroup cannot be
            delivered to its subscribers.
        """
        out: list[bytes] = []
        headers: list[ObjectHeader] = []
        base, position = self._read, 0
        for header in objects:
            begin = header.start - base
            if begin > position:
                out.append(body[position:begin])
                self._written += begin - position
            properties = header.properties
            if properties:
                properties = reencode(properties, self._source, self._target)
            length = header.end - header.payload_start
            head = encode_object(
                header.location.object,
                self._previous,
                length,
                self._target,
                properties,
                header.status,
            )
            out.append(head)
            start = self._written
            payload = self._written = start + len(head)
            headers.append(
                replace(
                    header,
                    properties=properties,
                    start=start,
                    payload_start=payload,
                    end=payload + length,
                )
            )
            self._previous = header.location.object
            position = header.payload_start - base
        if position < len(body):
            out.append(body[position:])
            self._written += len(body) - position
        self._read = base + len(body)
        return b"".join(out), headers
