"""Data streams from publishers into the store.

Normally one stream brings one subgroup and its bytes are kept as they are. With several
publishers of a track, streams of the same subgroup meet: whoever is first adds the next bytes,
the others are compared by object id and dropped; if one dies, another goes on in its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.events import ObjectHeader, SubgroupData, SubgroupHeader
from fastrelay.moqt.keyvalue import reencode
from fastrelay.moqt.names import ObjectStatus
from fastrelay.moqt.objects import encode_object
from fastrelay.relay.store import Group
from fastrelay.relay.subgroup import State, Subgroup
from fastrelay.relay.takeover import Takeover

if TYPE_CHECKING:
    from fastrelay.fastpath.ports import Loan
    from fastrelay.relay.feed import Feed

NORMAL = ObjectStatus.NORMAL


class Inflow:
    """One upstream subgroup stream.

    ``position``: bytes of its body that came. ``shift``: what to add to an offset in this
    stream to get one in the store's body; None while they have no object in common.
    """

    __slots__ = (
        "_current",
        "_delivered",
        "_group",
        "_held",
        "_loan",
        "feed",
        "header",
        "position",
        "shift",
        "sole",
        "stream_id",
        "subgroup",
    )

    def __init__(self, feed: Feed, stream_id: int, header: SubgroupHeader) -> None:
        self.feed = feed
        self.stream_id = stream_id
        self.header = header
        self.position = 0
        self.shift: int | None = None
        self.sole = False
        """The store's body is this stream's body, byte for byte."""
        self.subgroup: Subgroup | None = None
        self._group: Group | None = None
        """Set while objects up to ``_delivered`` are skipped: earlier runs had them."""
        self._delivered = -1
        self._current: ObjectHeader | None = None
        self._held: list[SubgroupData] | None = None
        """What has come, while another stream of the subgroup has to come first."""
        self._loan: Loan | None = feed.loan(stream_id)
        """What the kernel does with the stream, until that is known here."""
        if header.subgroup_id is not None:
            self._enter(header.subgroup_id)

    def _enter(self, subgroup_id: int) -> None:
        """Find out whether this subgroup is there already."""
        group = self.feed.track.group(self.header.group_id)
        if group is not None:
            self._place(group, subgroup_id)
        self._refuse_loan()

    def _refuse_loan(self) -> None:
        """The stream brings nothing new, or not as it is."""
        loan, self._loan = self._loan, None
        if loan is not None:
            self.feed.track.fast.refuse(loan, self.feed)

    def _place(self, group: Group, subgroup_id: int) -> None:
        known = group.newest(subgroup_id)
        if known is None:
            self._create(group, again=False)
        elif known.state is State.OPEN:
            self.subgroup = known
            self._join(known)
        elif known.state is State.RESET or known.open_ended or known.last_object < 0:
            # One without objects came from who had none left: another publisher may.
            self._delivered = group.last_whole(subgroup_id)
            if self._delivered < 0 and known.state is State.RESET:
                self._create(group, again=True)
            else:
                self._group = group
        # else: all of it came from another publisher already.

    def _join(self, subgroup: Subgroup) -> None:
        """Be one of several streams that bring the subgroup."""
        if subgroup.takeover is None:
            needed = subgroup.freeze()
            if needed > subgroup.body.length:
                subgroup.takeover = Takeover(subgroup, subgroup.inflows[0], needed)
        if subgroup.takeover is not None:
            self._held = []
            subgroup.takeover.wait(self)
        else:
            for other in subgroup.inflows:
                other.become_shared()
        subgroup.inflows.append(self)

    def admit(self) -> None:
        """Nothing has to come first any more."""
        held, self._held = self._held, None
        for event in held or ():
            self._take(event)

    def _create(self, group: Group, *, again: bool) -> None:
        self.sole = True
        self.shift = 0
        feed = self.feed
        loan, self._loan = self._loan, None
        if loan is None:
            self.subgroup = feed.track.create(group, self.header, feed.peer.draft)
        else:
            self.subgroup = feed.track.create_lent(group, self.header, feed, loan, again=again)
        self.subgroup.inflows.append(self)

    def become_shared(self) -> None:
        """Another stream of the subgroup has come."""
        if self.sole and self.subgroup is not None and self.shift is not None:
            self.sole = False
            self.subgroup.merge()
            objects = self.subgroup.body.objects
            if objects:
                newest = objects[-1]
                self._current = replace(
                    newest,
                    start=newest.start - self.shift,
                    payload_start=newest.payload_start - self.shift,
                    end=newest.end - self.shift,
                )

    def moved(self, shift: int) -> None:
        """The store's body has grown at its beginning."""
        if self.shift is not None:
            self.shift += shift

    def data(self, event: SubgroupData) -> None:
        begins = self.header.subgroup_id is None and self.position == 0 and event.objects
        if begins and self._held is None:
            self._enter(event.objects[0].subgroup_id)
        if self._held is None:
            self._take(event)
        else:
            self._held.append(event)

    def _take(self, event: SubgroupData) -> None:
        feed = self.feed
        body = event.body
        objects = event.objects
        start = self.position
        self.position = start + len(body)
        feed.received(len(objects), len(body), self.header.publisher_priority)
        if self.sole:
            assert self.subgroup is not None
            if objects:
                group = self.subgroup.group
                for header in objects[:-1]:
                    if header.status is not NORMAL and not feed.track.arrived(group, header):
                        return
                if not feed.track.arrived(group, objects[-1]):
                    return
                if self.shift:
                    for header in objects:
                        header.start += self.shift
                        header.payload_start += self.shift
                        header.end += self.shift
            if event.fin:
                self._leave()
            self.subgroup.write(body, objects, feed.track.core.timers.now(), event.fin)
            if event.fin:
                self._ended(self.subgroup)
            return
        self._merge(body, objects, start)
        if event.fin:
            self._merged_fin()

    def _ended(self, subgroup: Subgroup) -> None:
        """All of the subgroup came: it may tell where its group ends."""
        if self.header.end_of_group and subgroup.last_object >= 0:
            self.feed.track.group_ends(subgroup.group, subgroup.last_object)

    def _leave(self) -> None:
        if self.subgroup is not None and self in self.subgroup.inflows:
            self.subgroup.inflows.remove(self)
        self._refuse_loan()
        self.feed.closed(self)

    def lost(self, code: int) -> None:
        """The stream was reset, or its session is gone."""
        self._leave()
        subgroup = self.subgroup
        if subgroup is None:
            return
        if subgroup.takeover is not None:
            subgroup.takeover.lost(self)
        if not subgroup.inflows and subgroup.state is State.OPEN:
            subgroup.group.damaged = True
            subgroup.reset(code)

    def malformed(self, reason: str) -> None:
        """The stream broke the rules of its track; the session has stopped it."""
        self.feed.track.malformed(reason)

    # Several streams of one subgroup

    def _merge(self, body: bytes, objects: list[ObjectHeader], start: int) -> None:
        cuts = [header.start - start for header in objects]
        if not cuts:
            self._put(body, start)
            return
        if cuts[0] > 0:
            self._put(body[: cuts[0]], start)
        for header, cut, end in zip(objects, cuts, [*cuts[1:], len(body)], strict=True):
            self._object(header, body[cut:end])

    def _object(self, header: ObjectHeader, data: bytes) -> None:
        """A new object of this stream: old news for the store, its next object, or neither."""
        previous, self._current = self._current, header
        self.shift = None
        subgroup = self.subgroup
        if subgroup is None:
            if self._group is not None and header.location.object > self._delivered:
                self._begin_run(self._group, header, data)
                self._group = None
            return
        known = subgroup.body
        object_id = header.location.object
        index = known.first_from(object_id)
        if index < len(known.objects):
            same = known.objects[index]
            if same.location.object != object_id:
                return
            if same.end - same.payload_start != header.end - header.payload_start:
                self.feed.track.malformed(f"two payloads for object {header.location}")
                return
            self.shift = same.end - header.end
            self._put(data, header.start)
            return
        if subgroup.state is not State.OPEN:
            return
        last = subgroup.last_object
        follows = (
            last < 0
            or object_id == last + 1
            or (previous is not None and previous.location.object == last)
            or subgroup.open_ended
        )
        if not (follows and subgroup.at_boundary):
            if subgroup.inflows == [self]:
                self._restart(header, data)
            return
        self._append(header, data)

    def _append(self, header: ObjectHeader, data: bytes) -> None:
        """Write the object as the next of the store's run, in that run's family."""
        subgroup = self.subgroup
        assert subgroup is not None
        body = subgroup.body
        source = self.feed.peer.draft
        properties = header.properties
        if properties and source.quic_varints != body.draft.quic_varints:
            properties = reencode(properties, source.varints, body.draft.varints)
        if subgroup.header.has_properties:
            properties = properties or b""
        elif properties:
            self._restart(header, data)
            return
        else:
            properties = None
        size = header.end - header.payload_start
        last = subgroup.last_object
        lead = encode_object(
            header.location.object,
            last if last >= 0 else None,
            size,
            body.draft.varints,
            properties,
            header.status,
        )
        payload_start = body.length + len(lead)
        placed = ObjectHeader(
            header.location,
            header.subgroup_id,
            header.publisher_priority,
            properties,
            header.status,
            body.length,
            payload_start,
            payload_start + size,
        )
        self.shift = placed.end - header.end
        if not self.feed.track.arrived(subgroup.group, header):
            return
        payload = data[header.payload_start - header.start :]
        subgroup.write(lead + payload, [placed], self.feed.track.core.timers.now(), False)

    def _restart(self, header: ObjectHeader, data: bytes) -> None:
        """This stream is ahead of a run that nobody else continues: a new run begins."""
        old = self.subgroup
        assert old is not None
        old.inflows.remove(self)
        old.group.damaged = True
        old.reset(StreamError.CANCELLED)
        self._begin_run(old.group, header, data)

    def _begin_run(self, group: Group, header: ObjectHeader, data: bytes) -> None:
        """A run of the subgroup that begins with this object."""
        run = replace(self.header, subgroup_id=header.subgroup_id, first_object=False, raw=b"")
        self.subgroup = self.feed.track.create(group, run, self.feed.peer.draft)
        self.subgroup.inflows.append(self)
        self._append(header, data)

    def _put(self, data: bytes, at: int) -> None:
        """Bytes of the current object: add those that the store does not have."""
        subgroup, current = self.subgroup, self._current
        if self.shift is None or subgroup is None or current is None:
            return
        if subgroup.state is not State.OPEN:
            return
        body = subgroup.body
        begin = at + self.shift
        # Headers may be written differently; payloads have to be the same.
        skip = max(0, current.payload_start + self.shift - begin)
        known = data[skip : max(0, body.length - begin)]
        if known and body.holds(begin + skip):
            self.feed.track.core.counters.duplicates += 1
            if body.slice(begin + skip, begin + skip + len(known)) != known:
                self.feed.track.malformed(f"two payloads for object {current.location}")
                return
        if begin <= body.length < begin + len(data):
            now = self.feed.track.core.timers.now()
            subgroup.write(data[body.length - begin :], [], now, False)

    def _merged_fin(self) -> None:
        self._leave()
        subgroup = self.subgroup
        if subgroup is None or subgroup.state is not State.OPEN:
            return
        current = self._current
        if current is None:
            # Nothing of it from where the relay joined: it depends on the others what there is.
            whole = not subgroup.inflows
        else:
            whole = subgroup.at_boundary and current.location.object >= subgroup.last_object
        if whole:
            subgroup.open_ended = False
            subgroup.finish()
            self._ended(subgroup)
        elif not subgroup.inflows:
            subgroup.group.damaged = True
            subgroup.reset(StreamError.CANCELLED)
