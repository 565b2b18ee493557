"""The bodies of control messages (draft-18 sections 10.3 to 10.20): a reader and a writer for
each, and each draft's message types.

Answers and notifications name their request only where all requests share one stream; where
each has its own, the context says which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from fastrelay.moqt import messages as m
from fastrelay.moqt import parameters
from fastrelay.moqt import reader as fields
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.keyvalue import TrackProperties
from fastrelay.moqt.ranges import read_fetch, read_fetch_ok, write_fetch, write_fetch_ok
from fastrelay.moqt.reader import MAX_REASON, MAX_URI, Reader, violation
from fastrelay.moqt.scopes import SCOPES, Scope
from fastrelay.moqt.setup import read_setup, write_setup
from fastrelay.moqt.varint import Varints

_CLIENT_SETUP = 0x20
_SERVER_SETUP = 0x21
_PUBLISH_OK = 0x1E


class Context(NamedTuple):
    """What a body alone does not tell."""

    draft: Draft
    message_type: int
    request_id: int
    """Of the request whose stream this is, where requests have streams."""
    from_client: bool
    """The message's sender is the client."""

    @property
    def varints(self) -> Varints:
        return self.draft.varints


@dataclass(frozen=True, slots=True)
class Kind:
    type: int
    read: Callable[[Reader, Context], Any]
    write: Callable[[Any, Context], bytes]


def _request_id(reader: Reader, context: Context) -> int:
    return context.request_id if context.draft.request_streams else reader.integer()


def _write_request_id(request_id: int, context: Context) -> bytes:
    return b"" if context.draft.request_streams else context.varints.encode(request_id)


def _scope(message: type, context: Context) -> Scope:
    rules = SCOPES[context.draft.number]
    return rules.answers[m.Publish] if context.message_type == _PUBLISH_OK else rules.of(message)


def _parameters(message: type, reader: Reader, context: Context) -> m.Parameters:
    return parameters.read(reader, _scope(message, context), context.draft)


def _write_parameters(message: Any, context: Context) -> bytes:
    scope = _scope(type(message), context)
    return parameters.write(message.parameters, scope, context.draft)


def _properties(reader: Reader, context: Context) -> m.Properties:
    properties = reader.rest()
    if properties:
        TrackProperties.parse(properties, context.draft)
    return properties


# Requests that name a track


def _read_subscribe(reader: Reader, context: Context) -> m.Subscribe:
    return m.Subscribe(
        reader.integer(),
        reader.track(may_be_empty=context.draft.empty_namespaces),
        _parameters(m.Subscribe, reader, context),
    )


def _read_track_status(reader: Reader, context: Context) -> m.TrackStatus:
    return m.TrackStatus(
        reader.integer(),
        reader.track(may_be_empty=context.draft.empty_namespaces),
        _parameters(m.TrackStatus, reader, context),
    )


def _write_track_request(message: m.Subscribe | m.TrackStatus, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.track(message.track, context.varints)
        + _write_parameters(message, context)
    )


def _read_publish(reader: Reader, context: Context) -> m.Publish:
    return m.Publish(
        reader.integer(),
        reader.track(may_be_empty=context.draft.empty_namespaces),
        reader.integer(),
        _parameters(m.Publish, reader, context),
        _properties(reader, context),
    )


def _write_publish(message: m.Publish, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.track(message.track, context.varints)
        + context.varints.encode(message.track_alias)
        + _write_parameters(message, context)
        + message.properties
    )


# Requests that name a namespace


def _read_publish_namespace(reader: Reader, context: Context) -> m.PublishNamespace:
    return m.PublishNamespace(
        reader.integer(),
        reader.namespace(may_be_empty=context.draft.empty_namespaces),
        _parameters(m.PublishNamespace, reader, context),
    )


def _write_publish_namespace(message: m.PublishNamespace, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.namespace(message.namespace, context.varints)
        + _write_parameters(message, context)
    )


def _read_subscribe_namespace(reader: Reader, context: Context) -> m.SubscribeNamespace:
    request_id, prefix, options = reader.integer(), reader.namespace(), 1
    if not context.draft.request_streams:
        options = reader.integer()
        if options > 2:
            raise violation(f"unknown options {options} in SUBSCRIBE_NAMESPACE")
    return m.SubscribeNamespace(
        request_id, prefix, _parameters(m.SubscribeNamespace, reader, context), options
    )


def _write_subscribe_namespace(message: m.SubscribeNamespace, context: Context) -> bytes:
    encode = context.varints.encode
    options = b"" if context.draft.request_streams else encode(message.options)
    return (
        encode(message.request_id)
        + fields.namespace(message.prefix, context.varints)
        + options
        + _write_parameters(message, context)
    )


def _read_subscribe_tracks(reader: Reader, context: Context) -> m.SubscribeTracks:
    return m.SubscribeTracks(
        reader.integer(), reader.namespace(), _parameters(m.SubscribeTracks, reader, context)
    )


def _write_subscribe_tracks(message: m.SubscribeTracks, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.namespace(message.prefix, context.varints)
        + _write_parameters(message, context)
    )


def _read_update(reader: Reader, context: Context) -> m.RequestUpdate:
    return m.RequestUpdate(
        reader.integer(),
        _request_id(reader, context),
        _parameters(m.RequestUpdate, reader, context),
    )


def _write_update(message: m.RequestUpdate, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + _write_request_id(message.existing_request_id, context)
        + _write_parameters(message, context)
    )


# Answers


def _read_subscribe_ok(reader: Reader, context: Context) -> m.SubscribeOk:
    return m.SubscribeOk(
        _request_id(reader, context),
        reader.integer(),
        _parameters(m.SubscribeOk, reader, context),
        _properties(reader, context),
    )


def _write_subscribe_ok(message: m.SubscribeOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + context.varints.encode(message.track_alias)
        + _write_parameters(message, context)
        + message.properties
    )


def _read_request_ok(reader: Reader, context: Context) -> m.RequestOk:
    return m.RequestOk(
        _request_id(reader, context),
        _parameters(m.RequestOk, reader, context),
        _properties(reader, context) if context.draft.redirects else b"",
    )


def _write_request_ok(message: m.RequestOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + _write_parameters(message, context)
        + (message.properties if context.draft.redirects else b"")
    )


def _read_fetch_ok(reader: Reader, context: Context) -> m.FetchOk:
    return m.FetchOk(
        _request_id(reader, context),
        *read_fetch_ok(reader, context.draft),
        _parameters(m.FetchOk, reader, context),
        _properties(reader, context),
    )


def _write_fetch_ok(message: m.FetchOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + write_fetch_ok(message, context.draft)
        + _write_parameters(message, context)
        + message.properties
    )


def _read_request_error(reader: Reader, context: Context) -> m.RequestError:
    request_id = _request_id(reader, context)
    code, retry, reason = reader.integer(), reader.integer(), reader.reason()
    redirect = None
    if code == RequestErrorCode.REDIRECT and context.draft.redirects and reader.remaining:
        uri = reader.uri()
        if uri and context.from_client:
            raise violation("a client redirects to a URI")
        redirect = m.Redirect(uri, reader.track())
    return m.RequestError(request_id, code, reason, retry - 1 if retry else None, redirect)


def _write_request_error(message: m.RequestError, context: Context) -> bytes:
    encode = context.varints.encode
    code = context.draft.request_error_to_wire(message.code)
    out = _write_request_id(message.request_id, context) + encode(code)
    out += encode(0 if message.retry_after is None else message.retry_after + 1)
    out += fields.text(message.reason, MAX_REASON, context.varints)
    if message.redirect is not None and code == RequestErrorCode.REDIRECT:
        out += fields.text(message.redirect.uri, MAX_URI, context.varints)
        out += fields.track(message.redirect.track, context.varints)
    return out


# What follows on an established request


def _read_publish_done(reader: Reader, context: Context) -> m.PublishDone:
    draft = context.draft
    request_id = _request_id(reader, context)
    status, count = draft.publish_done_from_wire(reader.integer()), reader.integer()
    return m.PublishDone(
        request_id, status, None if count == draft.unknown_stream_count else count, reader.reason()
    )


def _write_publish_done(message: m.PublishDone, context: Context) -> bytes:
    draft, encode = context.draft, context.varints.encode
    count = draft.unknown_stream_count if message.stream_count is None else message.stream_count
    return (
        _write_request_id(message.request_id, context)
        + encode(draft.publish_done_to_wire(message.status))
        + encode(count)
        + fields.text(message.reason, MAX_REASON, context.varints)
    )


def _read_namespace_added(reader: Reader, context: Context) -> m.NamespaceAdded:
    return m.NamespaceAdded(reader.namespace())


def _read_namespace_done(reader: Reader, context: Context) -> m.NamespaceDone:
    return m.NamespaceDone(reader.namespace())


def _write_suffix(message: m.NamespaceAdded | m.NamespaceDone, context: Context) -> bytes:
    return fields.namespace(message.suffix, context.varints)


def _read_publish_blocked(reader: Reader, context: Context) -> m.PublishBlocked:
    track = reader.track()
    return m.PublishBlocked(track.namespace, track.name)


def _write_publish_blocked(message: m.PublishBlocked, context: Context) -> bytes:
    return fields.namespace(message.suffix, context.varints) + fields.prefixed(
        message.name, context.varints
    )


def _read_state_notify(reader: Reader, context: Context) -> m.PublishStateNotify:
    return m.PublishStateNotify(_parameters(m.PublishStateNotify, reader, context))


# The session itself


def _read_setup(reader: Reader, context: Context) -> m.Setup:
    if context.message_type == (_SERVER_SETUP if context.from_client else _CLIENT_SETUP):
        raise violation("a SETUP of the wrong side")
    return read_setup(reader, context.draft, from_client=context.from_client)


def _write_setup(message: m.Setup, context: Context) -> bytes:
    return write_setup(message, context.draft)


def _read_goaway(reader: Reader, context: Context) -> m.GoAway:
    draft = context.draft
    uri = reader.uri()
    if uri and context.from_client:
        raise violation("a client's GOAWAY with a URI")
    timeout = reader.integer() if draft.goaway_timeout else 0
    request_id = reader.integer() if draft.goaway_request_id and reader.remaining else None
    return m.GoAway(uri, timeout, request_id)


def _write_goaway(message: m.GoAway, context: Context) -> bytes:
    draft, encode = context.draft, context.varints.encode
    out = fields.text(message.new_session_uri, MAX_URI, context.varints)
    if draft.goaway_timeout:
        out += encode(message.timeout)
    if draft.goaway_request_id and message.request_id is not None:
        out += encode(message.request_id)
    return out


def _read_namespace_cancel(reader: Reader, context: Context) -> m.PublishNamespaceCancel:
    return m.PublishNamespaceCancel(reader.integer(), reader.integer(), reader.reason())


def _write_namespace_cancel(message: m.PublishNamespaceCancel, context: Context) -> bytes:
    encode = context.varints.encode
    return (
        encode(message.request_id)
        + encode(context.draft.request_error_to_wire(message.code))
        + fields.text(message.reason, MAX_REASON, context.varints)
    )


def _single_integer(message: type, field: str) -> tuple[Any, Any]:
    def read(reader: Reader, context: Context) -> Any:
        return message(reader.integer())

    def write(value: Any, context: Context) -> bytes:
        return context.varints.encode(getattr(value, field))

    return read, write


# Which messages a draft has

_COMMON: dict[type, Kind] = {
    m.RequestUpdate: Kind(0x02, _read_update, _write_update),
    m.Subscribe: Kind(0x03, _read_subscribe, _write_track_request),
    m.SubscribeOk: Kind(0x04, _read_subscribe_ok, _write_subscribe_ok),
    m.RequestError: Kind(0x05, _read_request_error, _write_request_error),
    m.PublishNamespace: Kind(0x06, _read_publish_namespace, _write_publish_namespace),
    m.RequestOk: Kind(0x07, _read_request_ok, _write_request_ok),
    m.NamespaceAdded: Kind(0x08, _read_namespace_added, _write_suffix),
    m.PublishDone: Kind(0x0B, _read_publish_done, _write_publish_done),
    m.TrackStatus: Kind(0x0D, _read_track_status, _write_track_request),
    m.NamespaceDone: Kind(0x0E, _read_namespace_done, _write_suffix),
    m.GoAway: Kind(0x10, _read_goaway, _write_goaway),
    m.Fetch: Kind(
        0x16,
        lambda reader, context: read_fetch(reader, context.draft),
        lambda message, context: write_fetch(message, context.draft),
    ),
    m.FetchOk: Kind(0x18, _read_fetch_ok, _write_fetch_ok),
    m.Publish: Kind(0x1D, _read_publish, _write_publish),
}

_REQUEST_STREAMS: dict[type, Kind] = {
    m.PublishBlocked: Kind(0x0F, _read_publish_blocked, _write_publish_blocked),
    m.SubscribeNamespace: Kind(0x50, _read_subscribe_namespace, _write_subscribe_namespace),
    m.SubscribeTracks: Kind(0x51, _read_subscribe_tracks, _write_subscribe_tracks),
    m.Setup: Kind(0x2F00, _read_setup, _write_setup),
}

_ONE_STREAM: dict[type, Kind] = {
    m.PublishNamespaceDone: Kind(0x09, *_single_integer(m.PublishNamespaceDone, "request_id")),
    m.Unsubscribe: Kind(0x0A, *_single_integer(m.Unsubscribe, "request_id")),
    m.PublishNamespaceCancel: Kind(0x0C, _read_namespace_cancel, _write_namespace_cancel),
    m.SubscribeNamespace: Kind(0x11, _read_subscribe_namespace, _write_subscribe_namespace),
    m.MaxRequestId: Kind(0x15, *_single_integer(m.MaxRequestId, "request_id")),
    m.FetchCancel: Kind(0x17, *_single_integer(m.FetchCancel, "request_id")),
    m.RequestsBlocked: Kind(0x1A, *_single_integer(m.RequestsBlocked, "maximum")),
}

_STATE_NOTIFY: dict[type, Kind] = {
    m.PublishStateNotify: Kind(0x22, _read_state_notify, _write_parameters),
}


@cache
def kinds_by_class(draft: Draft, is_client: bool, publish_ok: bool) -> dict[type, Kind]:
    """The messages that an end of a session of this draft may send."""
    kinds = {**_COMMON, **(_REQUEST_STREAMS if draft.request_streams else _ONE_STREAM)}
    if draft.publish_state_notify:
        kinds |= _STATE_NOTIFY
    if not draft.request_streams:
        setup = _CLIENT_SETUP if is_client else _SERVER_SETUP
        kinds[m.Setup] = Kind(setup, _read_setup, _write_setup)
        if publish_ok:
            kinds[m.RequestOk] = Kind(_PUBLISH_OK, _read_request_ok, _write_request_ok)
    return kinds


@cache
def kinds_by_type(draft: Draft) -> dict[int, Kind]:
    """The messages that either end may receive."""
    ends = [kinds_by_class(draft, client, ok) for client in (True, False) for ok in (True, False)]
    return {kind.type: kind for kinds in ends for kind in kinds.values()}
