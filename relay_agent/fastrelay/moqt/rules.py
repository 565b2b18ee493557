"""Requests that a session refuses by itself, since only it knows the reason."""

from __future__ import annotations

from typing import NamedTuple

from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.context import Context
from fastrelay.moqt.filters import range_filter_fault
from fastrelay.moqt.messages import (
    Fetch,
    FetchKind,
    Parameters,
    Publish,
    PublishNamespace,
    Request,
    Subscribe,
    SubscribeNamespace,
    SubscribeTracks,
)
from fastrelay.moqt.names import FullTrackName
from fastrelay.moqt.requests import Phase, RequestState, RequestTable


class Refusal(NamedTuple):
    code: RequestErrorCode
    reason: str
    retry_after: int | None = None
    """Milliseconds."""


RETRY_AFTER_LOAD = 1000
"""Milliseconds after which a peer may repeat a request that was one too many."""


def refusal(request: Request, table: RequestTable, context: Context) -> Refusal | None:
    """Why the peer's new request is to be answered with an error right away, if it is."""
    if table.incoming >= context.limits.incoming_requests:
        return Refusal(RequestErrorCode.EXCESSIVE_LOAD, "too many open requests", RETRY_AFTER_LOAD)
    if _name_bytes(request) > context.limits.name_bytes:
        return Refusal(RequestErrorCode.NOT_SUPPORTED, "the name is too long for this endpoint")
    if isinstance(request, Subscribe | Publish) and not context.draft.duplicate_subscriptions:
        duplicate = _duplicate_subscription(request, table)
        if duplicate:
            return duplicate
    if isinstance(request, SubscribeNamespace | SubscribeTracks) and table.overlapping(
        type(request), request.prefix
    ):
        return Refusal(RequestErrorCode.PREFIX_OVERLAP, "the prefix overlaps an earlier one")
    return filter_refusal(request.parameters, context)


def join_refusal(fetch: Fetch, table: RequestTable) -> Refusal | None:
    """A joining fetch needs a subscription in which we are the publisher (section 10.12.2)."""
    if fetch.kind is not FetchKind.STANDALONE:
        joined = table.get(fetch.joining_request_id)
        if joined is None or not joined.publishes or not joined.is_subscription:
            return Refusal(
                RequestErrorCode.INVALID_JOINING_REQUEST_ID, "no such subscription to join"
            )
    return None


def update_refusal(
    state: RequestState, parameters: Parameters, table: RequestTable, context: Context
) -> Refusal | None:
    """Why an update of the peer's request is to be answered with an error, if it is."""
    prefix = parameters.namespace_prefix
    if prefix is not None and table.overlapping(type(state.request), prefix, but=state):
        return Refusal(RequestErrorCode.PREFIX_OVERLAP, "the prefix overlaps another one")
    return filter_refusal(parameters, context)


def filter_refusal(parameters: Parameters, context: Context) -> Refusal | None:
    """Range filters that are wrong or more than MAX_FILTER_RANGES (draft-19 section 5.1.3)."""
    for part in (parameters, parameters.fill):
        fault = part and range_filter_fault(part, context.limits.filter_ranges)
        if fault:
            return Refusal(RequestErrorCode.INVALID_FILTER, fault)
    return None


def _duplicate_subscription(request: Subscribe | Publish, table: RequestTable) -> Refusal | None:
    """Section 5.1: at most one subscription to a track and role, in drafts up to 18.

    A SUBSCRIBE of ours that waits for its answer does not stand in the way of a PUBLISH: it
    ends when the PUBLISH is accepted.
    """
    publishing = isinstance(request, Subscribe)
    for other in table.subscriptions(request.track, publishing=publishing):
        crossing = other.ours and other.phase is Phase.PENDING and not publishing
        if not crossing:
            return Refusal(
                RequestErrorCode.DUPLICATE_SUBSCRIPTION, "this session has the track already"
            )
    return None


def _name_bytes(request: Request) -> int:
    match request:
        case PublishNamespace(namespace=namespace):
            return sum(map(len, namespace))
        case SubscribeNamespace(prefix=prefix) | SubscribeTracks(prefix=prefix):
            return sum(map(len, prefix))
        case _:
            track: FullTrackName | None = request.track
            return sum(map(len, track.namespace)) + len(track.name) if track else 0
