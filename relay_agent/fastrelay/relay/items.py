"""Objects of the store as a fetch stream carries them."""

from __future__ import annotations

from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import ObjectHeader
from fastrelay.moqt.fetches import FetchEncoder
from fastrelay.moqt.keyvalue import reencode
from fastrelay.moqt.names import Location, ObjectStatus
from fastrelay.relay.body import Body
from fastrelay.relay.coverage import Span
from fastrelay.relay.store import Group, StoredDatagram
from fastrelay.relay.subgroup import Subgroup
from fastrelay.relay.window import OPEN_END

Item = tuple[Subgroup, Body, ObjectHeader] | StoredDatagram
"""An object of a subgroup, with the body in the reader's wire family, or a datagram."""


def items_of(group: Group, span: Span, draft: Draft) -> list[Item]:
    """The objects of a group within ``span``, the last one first; those that only say that
    something ended are not fetched.

    :raises ValueError: a subgroup does not fit the draft's integers.
    """
    first = span.start.object if group.id == span.start.group else 0
    last = span.end.object if group.id == span.end.group else OPEN_END
    found: dict[int, Item] = {}
    for subgroup in group.subgroups:
        body = subgroup.body_for(draft)
        for header in body.objects[body.first_from(first) :]:
            object_id = header.location.object
            if object_id > last:
                break
            whole = header.end <= body.length
            if header.status is ObjectStatus.NORMAL and (whole or object_id not in found):
                found[object_id] = (subgroup, body, header)
    for object_id, datagram in group.datagrams.items():
        normal = datagram.event.status is ObjectStatus.NORMAL
        if first <= object_id <= last and normal:
            found.setdefault(object_id, datagram)
    return [found[object_id] for object_id in sorted(found, reverse=True)]


def location_of(item: Item) -> Location:
    return item.event.location if isinstance(item, StoredDatagram) else item[2].location


def head_of(item: Item, encoder: FetchEncoder, draft: Draft, default_priority: int) -> bytes:
    """The object's header; of a datagram, which is small, the payload too.

    :raises ValueError: a value does not fit the draft's integers.
    """
    if isinstance(item, StoredDatagram):
        event = item.event
        properties = event.properties
        if properties and item.draft.quic_varints != draft.quic_varints:
            properties = reencode(properties, item.draft.varints, draft.varints)
        priority = event.publisher_priority
        head = encoder.object(
            event.location,
            0,
            default_priority if priority is None else priority,
            len(event.payload),
            properties,
            datagram=True,
        )
        return head + event.payload
    subgroup, _, header = item
    priority = header.publisher_priority
    return encoder.object(
        header.location,
        subgroup.subgroup_id or 0,
        default_priority if priority is None else priority,
        header.end - header.payload_start,
        header.properties or None,
    )
