"""One subscriber's view of a published track: which streams it has and where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.client.window import Window, after
from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.events import SubgroupHeader
from fastrelay.moqt.names import Location
from fastrelay.moqt.objects import encode_object
from fastrelay.moqt.session import Session

if TYPE_CHECKING:
    from fastrelay.client.publishing import PublishedTrack
    from fastrelay.client.subgroup import KeptObject, Subgroup

_Key = tuple[int, int]


class _Stream:
    __slots__ = ("previous", "stream_id")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.previous: int | None = None


class Feed:
    """Turns a track's objects into the streams of one subscription."""

    def __init__(
        self, session: Session, request_id: int, alias: int, window: Window, track: PublishedTrack
    ) -> None:
        self.request_id = request_id
        self.window = window
        self.forward = True
        self.joining: Location | None = None
        """The largest object when the subscription began to forward."""
        self.streams_opened = 0
        self._session = session
        self._alias = alias
        self._track = track
        self._streams: dict[_Key, _Stream | None] = {}
        """None: the subscriber gets no more of that subgroup."""

    def object(self, subgroup: Subgroup, kept: KeptObject) -> None:
        if not self.window.holds(kept.location):
            return
        key = (subgroup.group_id, subgroup.subgroup_id)
        if key not in self._streams:
            self._streams[key] = self._open(
                subgroup,
                properties=subgroup.has_properties,
                end_of_group=subgroup.end_of_group,
                first_object=kept is subgroup.objects[0],
            )
        stream = self._streams[key]
        if stream is None:
            return
        head = encode_object(
            kept.location.object,
            stream.previous,
            len(kept.payload),
            self._session.draft.varints,
            kept.properties,
            kept.status,
        )
        stream.previous = kept.location.object
        self._session.send(stream.stream_id, head + kept.payload)

    def fin(self, subgroup: Subgroup) -> None:
        """The subgroup is complete; FIN says that nothing up to its end is missing.

        Who joined the group behind the subgroup's last object gets a stream without objects: else
        it would not learn that what it has fetched is all (draft 18 section 11.4.3).
        """
        if not subgroup.objects:
            return
        key = (subgroup.group_id, subgroup.subgroup_id)
        last = subgroup.objects[-1].location
        if key not in self._streams:
            if last.group == self.window.start.group and last < self.window.start:
                self._tell_end(subgroup)
            return
        stream = self._streams.pop(key)
        if stream is not None:
            if self.window.holds(last):
                self._session.send(stream.stream_id, b"", fin=True)
            else:
                self._session.reset(stream.stream_id, StreamError.CANCELLED)

    def reset(self, subgroup: Subgroup, code: int) -> None:
        stream = self._streams.pop((subgroup.group_id, subgroup.subgroup_id), None)
        if stream is not None:
            self._session.reset(stream.stream_id, code)

    def datagram(self, location: Location, raw: bytes) -> None:
        if self.window.holds(location):
            self._session.send_datagram(raw)

    def set_forward(self, forward: bool, largest: Location | None) -> None:
        """Forward 0 ends every open stream early; 1 goes on with the next object."""
        self.forward = forward
        if not forward:
            self.drop()
        else:
            self.joining = largest
            if largest is not None:
                self.window = Window(max(self.window.start, after(largest)), self.window.end)

    def stopped(self, stream_id: int) -> None:
        """STOP_SENDING: this subgroup is not opened again."""
        for key, stream in self._streams.items():
            if stream is not None and stream.stream_id == stream_id:
                self._streams[key] = None

    def drop(self) -> None:
        """Reset what is open."""
        for stream in self._streams.values():
            if stream is not None:
                self._session.reset(stream.stream_id, StreamError.CANCELLED)
        self._streams.clear()

    def _tell_end(self, subgroup: Subgroup) -> None:
        # Nothing in it has properties or is the group's last.
        stream = self._open(subgroup, properties=False, end_of_group=False, first_object=False)
        if stream is not None:
            self._session.send(stream.stream_id, b"", fin=True)

    def _open(
        self, subgroup: Subgroup, *, properties: bool, end_of_group: bool, first_object: bool
    ) -> _Stream | None:
        if self._session.transport.backlog > self._track.max_backlog:
            return None
        header = SubgroupHeader(
            self._alias,
            subgroup.group_id,
            subgroup.subgroup_id,
            subgroup.priority,
            properties,
            end_of_group,
            first_object=first_object,
        )
        self.streams_opened += 1
        return _Stream(self._session.open_subgroup(header))
