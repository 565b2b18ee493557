"""The bodies of control messages (draft-18 sections 10.3 to 10.20): a reader and a writer for
each. Readers raise MoqtError for what is malformed, writers ValueError for what cannot be said.

Answers and notifications name their request only where all requests share one stream; where
each has its own, the context says which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastrelay.moqt import messages as m
from fastrelay.moqt import parameters, setup
from fastrelay.moqt import reader as fields
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.keyvalue import TrackProperties
from fastrelay.moqt.ranges import read_fetch_end, write_fetch_end
from fastrelay.moqt.reader import MAX_REASON, MAX_URI, Reader, violation
from fastrelay.moqt.scopes import SCOPES, Scope
from fastrelay.moqt.varint import Varints

CLIENT_SETUP = 0x20
SERVER_SETUP = 0x21
PUBLISH_OK = 0x1E


class Context(NamedTuple):
    """What a body alone does not tell."""

    draft: Draft
    message_type: int
    """On the wire; PUBLISH_OK also for the REQUEST_OK that answers a PUBLISH."""
    request_id: int
    """Of the request whose stream this is, where requests have streams."""
    from_client: bool
    """The message's sender is the client."""

    @property
    def varints(self) -> Varints:
        return self.draft.varints


Read = Callable[[Reader, Context], Any]
Write = Callable[[Any, Context], bytes]
Pair = tuple[Read, Write]


def _request_id(reader: Reader, context: Context) -> int:
    return context.request_id if context.draft.request_streams else reader.integer()


def _write_request_id(request_id: int, context: Context) -> bytes:
    return b"" if context.draft.request_streams else context.varints.encode(request_id)


def _scope(message: type, context: Context) -> Scope:
    rules = SCOPES[context.draft.number]
    return rules.answers[m.Publish] if context.message_type == PUBLISH_OK else rules.of(message)


def _parameters(message: type, reader: Reader, context: Context) -> m.Parameters:
    return parameters.read(reader, _scope(message, context), context.draft)


def write_parameters(message: Any, context: Context) -> bytes:
    scope = _scope(type(message), context)
    return parameters.write(message.parameters, scope, context.draft)


def _properties(reader: Reader, context: Context) -> m.Properties:
    properties = reader.rest()
    if properties:
        TrackProperties.parse(properties, context.draft)
    return properties


# Messages of the same form


def track_request(message: type) -> Pair:
    """SUBSCRIBE and TRACK_STATUS."""

    def read(reader: Reader, context: Context) -> Any:
        return message(
            reader.integer(),
            reader.track(may_be_empty=context.draft.empty_namespaces),
            _parameters(message, reader, context),
        )

    def write(value: Any, context: Context) -> bytes:
        return (
            context.varints.encode(value.request_id)
            + fields.track(value.track, context.varints)
            + write_parameters(value, context)
        )

    return read, write


def suffix(message: type) -> Pair:
    """NAMESPACE and NAMESPACE_DONE."""

    def read(reader: Reader, context: Context) -> Any:
        return message(reader.namespace())

    def write(value: Any, context: Context) -> bytes:
        return fields.namespace(value.suffix, context.varints)

    return read, write


def integer(message: type, field: str = "request_id") -> Pair:
    """Messages of draft 16 that hold nothing but a request id."""

    def read(reader: Reader, context: Context) -> Any:
        return message(reader.integer())

    def write(value: Any, context: Context) -> bytes:
        return context.varints.encode(getattr(value, field))

    return read, write


# Requests


def read_publish(reader: Reader, context: Context) -> m.Publish:
    return m.Publish(
        reader.integer(),
        reader.track(may_be_empty=context.draft.empty_namespaces),
        reader.integer(),
        _parameters(m.Publish, reader, context),
        _properties(reader, context),
    )


def write_publish(message: m.Publish, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.track(message.track, context.varints)
        + context.varints.encode(message.track_alias)
        + write_parameters(message, context)
        + message.properties
    )


def read_publish_namespace(reader: Reader, context: Context) -> m.PublishNamespace:
    return m.PublishNamespace(
        reader.integer(),
        reader.namespace(may_be_empty=context.draft.empty_namespaces),
        _parameters(m.PublishNamespace, reader, context),
    )


def write_publish_namespace(message: m.PublishNamespace, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.namespace(message.namespace, context.varints)
        + write_parameters(message, context)
    )


def read_subscribe_namespace(reader: Reader, context: Context) -> m.SubscribeNamespace:
    request_id, prefix, options = reader.integer(), reader.namespace(), 1
    if not context.draft.request_streams:
        options = reader.integer()
        if options > 2:
            raise violation(f"unknown options {options} in SUBSCRIBE_NAMESPACE")
    return m.SubscribeNamespace(
        request_id, prefix, _parameters(m.SubscribeNamespace, reader, context), options
    )


def write_subscribe_namespace(message: m.SubscribeNamespace, context: Context) -> bytes:
    encode = context.varints.encode
    options = b"" if context.draft.request_streams else encode(message.options)
    return (
        encode(message.request_id)
        + fields.namespace(message.prefix, context.varints)
        + options
        + write_parameters(message, context)
    )


def read_subscribe_tracks(reader: Reader, context: Context) -> m.SubscribeTracks:
    return m.SubscribeTracks(
        reader.integer(), reader.namespace(), _parameters(m.SubscribeTracks, reader, context)
    )


def write_subscribe_tracks(message: m.SubscribeTracks, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + fields.namespace(message.prefix, context.varints)
        + write_parameters(message, context)
    )


def read_update(reader: Reader, context: Context) -> m.RequestUpdate:
    return m.RequestUpdate(
        reader.integer(),
        _request_id(reader, context),
        _parameters(m.RequestUpdate, reader, context),
    )


def write_update(message: m.RequestUpdate, context: Context) -> bytes:
    return (
        context.varints.encode(message.request_id)
        + _write_request_id(message.existing_request_id, context)
        + write_parameters(message, context)
    )


# Answers


def read_subscribe_ok(reader: Reader, context: Context) -> m.SubscribeOk:
    return m.SubscribeOk(
        _request_id(reader, context),
        reader.integer(),
        _parameters(m.SubscribeOk, reader, context),
        _properties(reader, context),
    )


def write_subscribe_ok(message: m.SubscribeOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + context.varints.encode(message.track_alias)
        + write_parameters(message, context)
        + message.properties
    )


def read_request_ok(reader: Reader, context: Context) -> m.RequestOk:
    return m.RequestOk(
        _request_id(reader, context),
        _parameters(m.RequestOk, reader, context),
        _properties(reader, context) if context.draft.redirects else b"",
    )


def write_request_ok(message: m.RequestOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + write_parameters(message, context)
        + (message.properties if context.draft.redirects else b"")
    )


def read_fetch_ok(reader: Reader, context: Context) -> m.FetchOk:
    return m.FetchOk(
        _request_id(reader, context),
        *read_fetch_end(reader, context.draft),
        _parameters(m.FetchOk, reader, context),
        _properties(reader, context),
    )


def write_fetch_ok(message: m.FetchOk, context: Context) -> bytes:
    return (
        _write_request_id(message.request_id, context)
        + write_fetch_end(message, context.draft)
        + write_parameters(message, context)
        + message.properties
    )


def read_request_error(reader: Reader, context: Context) -> m.RequestError:
    request_id = _request_id(reader, context)
    code, retry, reason = reader.integer(), reader.integer(), reader.reason()
    redirect = None
    if code == RequestErrorCode.REDIRECT and context.draft.redirects and reader.remaining:
        uri = reader.uri()
        if uri and context.from_client:
            raise violation("a client redirects to a URI")
        redirect = m.Redirect(uri, reader.track())
    return m.RequestError(request_id, code, reason, retry - 1 if retry else None, redirect)


def write_request_error(message: m.RequestError, context: Context) -> bytes:
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


def read_publish_done(reader: Reader, context: Context) -> m.PublishDone:
    draft = context.draft
    request_id = _request_id(reader, context)
    status, count = draft.publish_done_from_wire(reader.integer()), reader.integer()
    return m.PublishDone(
        request_id, status, None if count == draft.unknown_stream_count else count, reader.reason()
    )


def write_publish_done(message: m.PublishDone, context: Context) -> bytes:
    draft, encode = context.draft, context.varints.encode
    count = draft.unknown_stream_count if message.stream_count is None else message.stream_count
    return (
        _write_request_id(message.request_id, context)
        + encode(draft.publish_done_to_wire(message.status))
        + encode(count)
        + fields.text(message.reason, MAX_REASON, context.varints)
    )


def read_publish_blocked(reader: Reader, context: Context) -> m.PublishBlocked:
    track = reader.track()
    return m.PublishBlocked(track.namespace, track.name)


def write_publish_blocked(message: m.PublishBlocked, context: Context) -> bytes:
    return fields.namespace(message.suffix, context.varints) + fields.prefixed(
        message.name, context.varints
    )


def read_state_notify(reader: Reader, context: Context) -> m.PublishStateNotify:
    return m.PublishStateNotify(_parameters(m.PublishStateNotify, reader, context))


# The session itself


def read_setup(reader: Reader, context: Context) -> m.Setup:
    if context.message_type == (SERVER_SETUP if context.from_client else CLIENT_SETUP):
        raise violation("a SETUP of the wrong side")
    return setup.read_setup(reader, context.draft, from_client=context.from_client)


def write_setup(message: m.Setup, context: Context) -> bytes:
    return setup.write_setup(message, context.draft)


def read_goaway(reader: Reader, context: Context) -> m.GoAway:
    draft = context.draft
    uri = reader.uri()
    if uri and context.from_client:
        raise violation("a client's GOAWAY with a URI")
    timeout = reader.integer() if draft.goaway_timeout else 0
    request_id = reader.integer() if draft.goaway_request_id and reader.remaining else None
    return m.GoAway(uri, timeout, request_id)


def write_goaway(message: m.GoAway, context: Context) -> bytes:
    draft, encode = context.draft, context.varints.encode
    out = fields.text(message.new_session_uri, MAX_URI, context.varints)
    if draft.goaway_timeout:
        out += encode(message.timeout)
    if draft.goaway_request_id and message.request_id is not None:
        out += encode(message.request_id)
    return out


def read_namespace_cancel(reader: Reader, context: Context) -> m.PublishNamespaceCancel:
    return m.PublishNamespaceCancel(reader.integer(), reader.integer(), reader.reason())


def write_namespace_cancel(message: m.PublishNamespaceCancel, context: Context) -> bytes:
    encode = context.varints.encode
    return (
        encode(message.request_id)
        + encode(context.draft.request_error_to_wire(message.code))
        + fields.text(message.reason, MAX_REASON, context.varints)
    )
