"""Fetched objects become part of the store, as if they had come by subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.datagrams import encode_datagram
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import DatagramReceived, ObjectHeader, SubgroupHeader
from fastrelay.moqt.keyvalue import reencode
from fastrelay.moqt.objects import encode_object
from fastrelay.relay.store import Group, StoredDatagram
from fastrelay.relay.subgroup import OBJECT_OVERHEAD, State, Subgroup

if TYPE_CHECKING:
    from fastrelay.relay.tracks import Track

Fetched = tuple[ObjectHeader, bytes]


def absorb(track: Track, draft: Draft, group_id: int, objects: list[Fetched]) -> Group:
    """Put the objects of one group where the store lacks them."""
    group = track.store.group(group_id, track.core.timers.now())
    by_subgroup: dict[int, list[Fetched]] = {}
    for header, payload in objects:
        if header.datagram:
            _absorb_datagram(track, group, draft, header, payload)
        else:
            by_subgroup.setdefault(header.subgroup_id, []).append((header, payload))
    for subgroup_id, fetched in by_subgroup.items():
        missing = _missing(group, subgroup_id, fetched)
        run = group.newest(subgroup_id)
        if missing and run is not None and run.state is State.OPEN:
            _prepend(run, draft, missing)
        elif missing:
            _create(track, group, draft, missing)
    return group


def _missing(group: Group, subgroup_id: int, fetched: list[Fetched]) -> list[Fetched]:
    """Those that no run of the subgroup has as a whole."""
    known = {
        header.location.object
        for run in group.runs.get(subgroup_id, ())
        for header in run.body.objects
        if header.end <= run.body.length
    }
    return [item for item in fetched if item[0].location.object not in known]


def _absorb_datagram(
    track: Track, group: Group, draft: Draft, header: ObjectHeader, payload: bytes
) -> None:
    object_id = header.location.object
    if object_id in group.datagrams:
        return
    now = track.core.timers.now()
    priority = header.publisher_priority
    raw = encode_datagram(
        0,
        header.location,
        priority,
        payload,
        draft,
        properties=header.properties or None,
        status=header.status,
    )
    event = DatagramReceived(
        0,
        header.location,
        priority,
        header.properties or None,
        header.status,
        False,
        payload,
        raw,
        1,
    )
    group.datagrams[object_id] = StoredDatagram(event, draft, now)
    group.grown(len(raw) + OBJECT_OVERHEAD, now)


def _create(track: Track, group: Group, draft: Draft, fetched: list[Fetched]) -> None:
    """A subgroup that nobody sent by subscription."""
    first = fetched[0][0]
    header = SubgroupHeader(
        track.sources.alias,
        group.id,
        first.subgroup_id,
        first.publisher_priority,
        any(header.properties for header, _ in fetched),
        False,
        first.location.object == 0,
    )
    subgroup = Subgroup(group, header, draft)
    group.add(subgroup)
    subgroup.open_ended = True
    track.store.open_ended.append(subgroup)
    data, headers = _encode(subgroup, draft, fetched, 0, None)
    subgroup.write(data, headers, track.core.timers.now(), False)
    if not (track.store.published and group.id >= track.store.newest):
        subgroup.finish()
        return
    # What the publisher sends next may continue this run: then everybody who wants that joins.
    subgroup.partial += [
        subscription
        for subscription in track.subscriptions
        if subscription.window.first_object(group.id) is not None
        and not subscription.waits_for(group)
    ]


def _encode(
    subgroup: Subgroup,
    source: Draft,
    fetched: list[Fetched],
    offset: int,
    previous: int | None,
) -> tuple[bytes, list[ObjectHeader]]:
    """The objects as a stretch of the subgroup's body that begins at ``offset``."""
    draft = subgroup.body.draft
    parts: list[bytes] = []
    headers: list[ObjectHeader] = []
    for header, payload in fetched:
        properties = header.properties
        if not subgroup.header.has_properties:
            properties = None
        elif properties and source.quic_varints != draft.quic_varints:
            properties = reencode(properties, source.varints, draft.varints)
        else:
            properties = properties or b""
        head = encode_object(
            header.location.object,
            previous,
            len(payload),
            draft.varints,
            properties,
            header.status,
        )
        start = offset
        payload_start = start + len(head)
        offset = payload_start + len(payload)
        previous = header.location.object
        parts += (head, payload)
        headers.append(
            ObjectHeader(
                header.location,
                subgroup.header.subgroup_id or header.subgroup_id,
                header.publisher_priority,
                properties,
                header.status,
                start,
                payload_start,
                offset,
            )
        )
    return b"".join(parts), headers


def _prepend(subgroup: Subgroup, draft: Draft, fetched: list[Fetched]) -> None:
    """Objects from before the first one that came by subscription."""
    objects = subgroup.body.objects
    if objects:
        fetched = [f for f in fetched if f[0].location.object < objects[0].location.object]
    if not fetched:
        return
    if not subgroup.header.has_properties and any(header.properties for header, _ in fetched):
        return
    data, headers = _encode(subgroup, draft, fetched, 0, None)
    subgroup.prepend(data, headers)
