"""Which control messages each draft has, under which types (draft-18 section 10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fastrelay.moqt import bodies as b
from fastrelay.moqt import messages as m
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.ranges import read_fetch, write_fetch


@dataclass(frozen=True, slots=True)
class Kind:
    """One message type of a draft."""

    type: int
    read: b.Read
    write: b.Write


_COMMON: dict[type, Kind] = {
    m.RequestUpdate: Kind(0x02, b.read_update, b.write_update),
    m.Subscribe: Kind(0x03, *b.track_request(m.Subscribe)),
    m.SubscribeOk: Kind(0x04, b.read_subscribe_ok, b.write_subscribe_ok),
    m.RequestError: Kind(0x05, b.read_request_error, b.write_request_error),
    m.PublishNamespace: Kind(0x06, b.read_publish_namespace, b.write_publish_namespace),
    m.RequestOk: Kind(0x07, b.read_request_ok, b.write_request_ok),
    m.NamespaceAdded: Kind(0x08, *b.suffix(m.NamespaceAdded)),
    m.PublishDone: Kind(0x0B, b.read_publish_done, b.write_publish_done),
    m.TrackStatus: Kind(0x0D, *b.track_request(m.TrackStatus)),
    m.NamespaceDone: Kind(0x0E, *b.suffix(m.NamespaceDone)),
    m.GoAway: Kind(0x10, b.read_goaway, b.write_goaway),
    m.Fetch: Kind(
        0x16,
        lambda reader, context: read_fetch(reader, context.draft),
        lambda message, context: write_fetch(message, context.draft),
    ),
    m.FetchOk: Kind(0x18, b.read_fetch_ok, b.write_fetch_ok),
    m.Publish: Kind(0x1D, b.read_publish, b.write_publish),
}

_REQUEST_STREAMS: dict[type, Kind] = {
    m.PublishBlocked: Kind(0x0F, b.read_publish_blocked, b.write_publish_blocked),
    m.SubscribeNamespace: Kind(0x50, b.read_subscribe_namespace, b.write_subscribe_namespace),
    m.SubscribeTracks: Kind(0x51, b.read_subscribe_tracks, b.write_subscribe_tracks),
    m.Setup: Kind(0x2F00, b.read_setup, b.write_setup),
}

_ONE_STREAM: dict[type, Kind] = {
    m.PublishNamespaceDone: Kind(0x09, *b.integer(m.PublishNamespaceDone)),
    m.Unsubscribe: Kind(0x0A, *b.integer(m.Unsubscribe)),
    m.PublishNamespaceCancel: Kind(0x0C, b.read_namespace_cancel, b.write_namespace_cancel),
    m.SubscribeNamespace: Kind(0x11, b.read_subscribe_namespace, b.write_subscribe_namespace),
    m.MaxRequestId: Kind(0x15, *b.integer(m.MaxRequestId)),
    m.FetchCancel: Kind(0x17, *b.integer(m.FetchCancel)),
    m.RequestsBlocked: Kind(0x1A, *b.integer(m.RequestsBlocked, "maximum")),
}

_STATE_NOTIFY: dict[type, Kind] = {
    m.PublishStateNotify: Kind(0x22, b.read_state_notify, b.write_parameters),
}


@cache
def kinds_by_class(draft: Draft, is_client: bool, publish_ok: bool) -> dict[type, Kind]:
    """The messages that an end of a session of this draft may send."""
    kinds = {**_COMMON, **(_REQUEST_STREAMS if draft.request_streams else _ONE_STREAM)}
    if draft.publish_state_notify:
        kinds |= _STATE_NOTIFY
    if not draft.request_streams:
        setup = b.CLIENT_SETUP if is_client else b.SERVER_SETUP
        kinds[m.Setup] = Kind(setup, b.read_setup, b.write_setup)
        if publish_ok:
            kinds[m.RequestOk] = Kind(b.PUBLISH_OK, b.read_request_ok, b.write_request_ok)
    return kinds


@cache
def kinds_by_type(draft: Draft) -> dict[int, Kind]:
    """The messages that either end may receive."""
    ends = [kinds_by_class(draft, client, ok) for client in (True, False) for ok in (True, False)]
    return {kind.type: kind for kinds in ends for kind in kinds.values()}
