"""How a subscription comes into a subgroup: from its first byte, or in the middle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastrelay.moqt.objects import encode_subgroup_header, join_prefix
from fastrelay.relay.delivery import Cursor
from fastrelay.relay.subgroup import State, Subgroup
from fastrelay.relay.window import OPEN_END

if TYPE_CHECKING:
    from fastrelay.relay.subscription import Subscription


def open_at_once(subscription: Subscription, subgroup: Subgroup) -> bool:
    """The usual case of a stream that has just begun upstream: all of it passes, and nothing
    waits for this peer. False: :func:`join` has to look closer."""
    peer = subscription.peer
    group = subgroup.group
    window = subscription.window
    draft = peer.draft
    if not (
        window.start.group < group.id < window.end_group
        and not peer.active
        and not subscription.has_declined(subgroup)
        and group.filling is None
        and draft.quic_varints == subgroup.body.draft.quic_varints
        and peer.transport.backlog < peer.high_water
    ):
        return False
    if not subscription.admits(subgroup):
        return True
    header = subgroup.header_for(subscription.alias, draft)
    cursor = Cursor(subscription, subgroup, subgroup.body, header, 0, None)
    subscription.cursors[cursor] = None
    subgroup.cursors.append(cursor)
    cursor.open()
    return True


def join(subscription: Subscription, subgroup: Subgroup) -> None:
    """Deliver what passes of a subgroup, from what is there of it on.

    :raises ValueError: a value in it does not fit the subscriber's draft.
    """
    group = subgroup.group
    first = subscription.window.first_object(group.id)
    if first is None:
        return
    if subscription.waits_for(group):
        return
    if subscription.has_declined(subgroup):
        return
    if subgroup.lending is not None and subgroup.lending.has(subscription):
        return
    body = subgroup.body_for(subscription.peer.draft)
    index = subscription.track.first_fresh(subgroup, body.first_from(first) if first else 0)
    last = subscription.window.last_object(group.id)
    if first == 0 == index or (index == 0 and body.objects):
        header = subgroup.header_for(subscription.alias, subscription.peer.draft)
        offset = 0
    elif index < len(body.objects):
        joined = body.objects[index]
        raw = join_prefix(subgroup.header, joined, subscription.alias, subscription.peer.draft)
        header = replace(
            subgroup.header, track_alias=subscription.alias, raw=raw, first_object=False
        )
        offset = joined.payload_start
    else:
        if subgroup.state is State.OPEN and subscription not in subgroup.partial:
            subgroup.partial.append(subscription)
        elif _ended_right_before(subgroup, first):
            tell_end(subscription, subgroup)
        return
    if subscription in subgroup.partial:
        subgroup.partial.remove(subscription)  # it begins earlier now than it was to
    if body.objects and last < body.objects[index].location.object:
        return
    cursor = Cursor(
        subscription, subgroup, body, header, offset, None if last == OPEN_END else last
    )
    subscription.cursors[cursor] = None
    subgroup.attach(cursor)
    subscription.counters.bytes_out += body.length - offset
    subscription.counters.objects_out += len(body.objects) - index
    cursor.wait(body.length - offset)


def _ended_right_before(subgroup: Subgroup, first: int) -> bool:
    """Whether the object before this one was its subgroup's last, and this is the subgroup's last
    run, as a publisher ended it."""
    if subgroup.state is not State.FINISHED or subgroup.subgroup_id is None:
        return False
    runs = subgroup.group.runs.get(subgroup.subgroup_id, [])
    sent = [run for run in runs if not run.open_ended]
    return sent[-1:] == [subgroup] and max(run.last_object for run in runs) == first - 1


def tell_end(subscription: Subscription, subgroup: Subgroup) -> None:
    """A stream without objects for a subgroup that has ended before any came for the
    subscription: FIN says that it got all of it (draft 18 section 11.4.3).

    Who has fetched what lies before does not learn otherwise that this is all.

    :raises ValueError: a value in it does not fit the subscriber's draft.
    """
    first = subscription.window.first_object(subgroup.group.id)
    if first is None or subgroup.last_object >= first or subscription.has_declined(subgroup):
        return
    draft = subscription.peer.draft
    body = subgroup.body_for(draft)
    # The id may be that of an object that is not in the stream, and no object is the group's last.
    header = replace(
        subgroup.header,
        track_alias=subscription.alias,
        subgroup_id=subgroup.subgroup_id,
        has_properties=False,
        end_of_group=False,
        first_object=False,
    )
    header.raw = encode_subgroup_header(header, draft)
    cursor = Cursor(subscription, subgroup, body, header, body.length, None)
    subscription.cursors[cursor] = None
    cursor.give()
