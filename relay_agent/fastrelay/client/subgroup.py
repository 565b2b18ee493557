"""What a publisher writes, and keeps for those who come late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.names import Location, ObjectStatus

if TYPE_CHECKING:
    from fastrelay.client.publishing import PublishedTrack


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object as it was written; ``properties`` in the session's varint family."""

    location: Location
    subgroup_id: int
    priority: int
    properties: bytes | None
    status: ObjectStatus
    payload: bytes
    datagram: bool


class Subgroup:
    """One subgroup that is being published; made by :meth:`PublishedTrack.open_subgroup`."""

    def __init__(
        self,
        track: PublishedTrack,
        group_id: int,
        subgroup_id: int,
        priority: int,
        has_properties: bool,
        end_of_group: bool,
    ) -> None:
        self.group_id = group_id
        self.subgroup_id = subgroup_id
        self.priority = priority
        self.has_properties = has_properties
        self.end_of_group = end_of_group
        self.objects: list[KeptObject] = []
        self.closed = False
        self.reset_code: int | None = None
        """With which it was given up."""
        self._track = track

    def write(
        self,
        payload: bytes,
        *,
        object_id: int | None = None,
        properties: bytes = b"",
        status: ObjectStatus = ObjectStatus.NORMAL,
    ) -> None:
        """Publish the next object; ``object_id`` only to leave ids out.

        :param properties: key-value pairs in the varints of draft 17 on, without a length;
            the subgroup must have been opened with ``properties=True``.
        :raises ValueError: the id is not above the last one, or properties are not expected.
        """
        if self.closed:
            raise ValueError("the subgroup is closed")
        last = self.objects[-1].location.object if self.objects else None
        if object_id is None:
            object_id = self.subgroup_id if last is None else last + 1
        elif last is not None and object_id <= last:
            raise ValueError(f"object {object_id} does not follow {last}")
        if properties and not self.has_properties:
            raise ValueError("open the subgroup with properties=True")
        kept = KeptObject(
            Location(self.group_id, object_id),
            self.subgroup_id,
            self.priority,
            self._track.in_session_family(properties) if self.has_properties else None,
            status,
            payload,
            False,
        )
        self.objects.append(kept)
        self._track.note_largest(kept.location)
        for feed in self._track.active_feeds():
            feed.object(self, kept)

    def close(self) -> None:
        """FIN: the subgroup is complete."""
        if not self.closed:
            self.closed = True
            for feed in self._track.active_feeds():
                feed.fin(self)

    def reset(self, code: int = StreamError.CANCELLED) -> None:
        """Give the subgroup up; what was written stays for FETCH."""
        if not self.closed:
            self.closed = True
            self.reset_code = code
            for feed in self._track.active_feeds():
                feed.reset(self, code)


@dataclass(slots=True)
class KeptGroup:
    """What is kept of one group."""

    subgroups: dict[int, Subgroup] = field(default_factory=dict)
    datagrams: list[KeptObject] = field(default_factory=list)
