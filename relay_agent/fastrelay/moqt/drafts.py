"""The drafts of MoQT that this package speaks, and what differs between them.

Every difference has one field here; the rest of the package asks the field and
never compares draft numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, StreamError
from fastrelay.moqt.varint import LEADING_ONES, QUIC, Varints


def _codes(changed: Mapping[int, int], absent: tuple[int, ...] = ()) -> Mapping[int, int]:
    """Our number to the draft's; codes that the draft lacks become its INTERNAL_ERROR, 0."""
    return {**dict.fromkeys(absent, 0), **changed}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Draft:
    """One draft. Differences are fields, so that a new draft is a new row of this table."""

    number: int
    quic_varints: bool
    """RFC 9000 varints (draft 16) instead of leading-ones varints (17 on). Two sessions of
    equal ``quic_varints`` carry byte-identical data streams, but for FIRST_OBJECT (0x40)."""

    # Sessions
    request_streams: bool
    """Each request on its own bidirectional stream, answers without request id; otherwise
    all on one control stream, with CLIENT_SETUP and SERVER_SETUP and credit for requests."""
    duplicate_subscriptions: bool
    """A session may subscribe twice to a track."""
    forwards_publish_namespace: bool
    """Relays pass PUBLISH_NAMESPACE on to interested sessions by themselves."""
    fin_cancels_discovery: bool
    """A FIN of the subscriber ends its SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS."""
    padding: bool
    """Padding streams and datagrams exist."""

    # Control messages
    typed_parameters: bool
    """Each message parameter has its own encoding (17 on); otherwise they are key-value
    pairs, whose encoding follows from an odd or even type."""
    ignores_misplaced_parameters: bool
    """A parameter in a message that may not hold it is ignored, not a violation."""
    zero_delivery_timeout: bool
    """A delivery timeout of 0 is legal and means none."""
    end_group_delta: bool
    """The end group of a subscription filter is written relative to its start."""
    location_filter: bool
    """Parameter 0x21 is a typed LOCATION_FILTER and may be in a FETCH."""
    fill: bool
    """FETCH carries its range in LOCATION_FILTER, joining fetches are replaced by fills."""
    range_filters: bool
    """MAX_FILTER_RANGES, MAX_REQUEST_UPDATES and parameters 0x25-0x29 exist."""
    empty_namespaces: bool
    """A track namespace may have no fields."""
    publish_ok_parameters: bool
    """PUBLISH_OK says how the subscription is to be (without FORWARD: 1); otherwise only
    REQUEST_UPDATE changes what PUBLISH said."""
    publish_state_notify: bool
    """PUBLISH_STATE_NOTIFY exists."""
    goaway_timeout: bool
    goaway_request_id: bool
    """GOAWAY on the control stream names the first request that was not processed."""
    redirects: bool
    """REQUEST_ERROR may carry a Redirect, REQUEST_OK track properties."""
    mandatory_properties: bool
    """Properties 0x4000-0x7FFF must be understood (section 2.5.1)."""
    unknown_stream_count: int
    """Stream Count of a PUBLISH_DONE whose sender did not count."""

    # Data streams
    first_object: bool
    """SUBGROUP_HEADER has the FIRST_OBJECT bit."""
    fetch_deltas: bool
    """Fetch objects give groups and objects relative to the prior object."""
    timed_out_ranges: bool
    """Fetch streams may mark a range as timed out (0x20C)."""

    # Codes: ours (codes.py) to the draft's, where they differ.
    request_errors: Mapping[int, int] = field(default_factory=dict)
    publish_done_statuses: Mapping[int, int] = field(default_factory=dict)
    stream_errors: Mapping[int, int] = field(default_factory=dict)

    @property
    def alpn(self) -> str:
        """ALPN token for raw QUIC, and the name in the WebTransport headers (section 3.1)."""
        return f"moqt-{self.number}"

    @property
    def varints(self) -> Varints:
        """The family of this draft's variable-length integers."""
        return QUIC if self.quic_varints else LEADING_ONES

    def request_error_to_wire(self, code: int) -> int:
        return self.request_errors.get(code, code)

    def publish_done_to_wire(self, status: int) -> int:
        return self.publish_done_statuses.get(status, status)

    def publish_done_from_wire(self, status: int) -> int:
        return _reverse(self.publish_done_statuses, status)

    def stream_error_to_wire(self, code: int) -> int:
        """For RESET_STREAM and STOP_SENDING."""
        return self.stream_errors.get(code, code)

    def stream_error_from_wire(self, code: int) -> int:
        return _reverse(self.stream_errors, code)

    def __repr__(self) -> str:
        return self.alpn


def _reverse(codes: Mapping[int, int], wire: int) -> int:
    return next((ours for ours, theirs in codes.items() if theirs == wire != 0), wire)


DRAFT_16 = Draft(
    number=16,
    quic_varints=True,
    request_streams=False,
    duplicate_subscriptions=False,
    forwards_publish_namespace=True,
    fin_cancels_discovery=True,
    padding=False,
    typed_parameters=False,
    ignores_misplaced_parameters=True,
    zero_delivery_timeout=False,
    end_group_delta=False,
    location_filter=False,
    fill=False,
    range_filters=False,
    empty_namespaces=False,
    publish_ok_parameters=True,
    publish_state_notify=False,
    goaway_timeout=False,
    goaway_request_id=False,
    redirects=False,
    mandatory_properties=False,
    unknown_stream_count=(1 << 62) - 1,
    first_object=False,
    fetch_deltas=False,
    timed_out_ranges=False,
    request_errors=_codes(
        {},
        (
            RequestErrorCode.GOING_AWAY,
            RequestErrorCode.EXCESSIVE_LOAD,
            RequestErrorCode.NAMESPACE_TOO_LARGE,
            RequestErrorCode.UNSUPPORTED_EXTENSION,
            RequestErrorCode.REDIRECT,
            RequestErrorCode.CONFLICTING_FILTERS,
            RequestErrorCode.INVALID_FILTER,
        ),
    ),
    publish_done_statuses=_codes(
        {PublishDoneStatus.EXPIRED: 0x5, PublishDoneStatus.TOO_FAR_BEHIND: 0x6},
        (PublishDoneStatus.EXCESSIVE_LOAD,),
    ),
    stream_errors=_codes(
        {StreamError.UNKNOWN_OBJECT_STATUS: 0x4},
        (
            StreamError.GOING_AWAY,
            StreamError.TOO_FAR_BEHIND,
            StreamError.EXPIRED_AUTH_TOKEN,
            StreamError.EXCESSIVE_LOAD,
        ),
    ),
)

DRAFT_18 = Draft(
    number=18,
    quic_varints=False,
    request_streams=True,
    duplicate_subscriptions=False,
    forwards_publish_namespace=True,
    fin_cancels_discovery=True,
    padding=True,
    typed_parameters=True,
    ignores_misplaced_parameters=False,
    zero_delivery_timeout=True,
    end_group_delta=True,
    location_filter=False,
    fill=False,
    range_filters=False,
    empty_namespaces=True,
    publish_ok_parameters=True,
    publish_state_notify=False,
    goaway_timeout=True,
    goaway_request_id=True,
    redirects=True,
    mandatory_properties=True,
    unknown_stream_count=(1 << 62) - 1,
    first_object=True,
    fetch_deltas=True,
    timed_out_ranges=False,
    request_errors=_codes(
        {}, (RequestErrorCode.CONFLICTING_FILTERS, RequestErrorCode.INVALID_FILTER)
    ),
)

DRAFT_22 = Draft(
    number=22,
    quic_varints=False,
    request_streams=True,
    duplicate_subscriptions=True,
    forwards_publish_namespace=False,
    fin_cancels_discovery=False,
    padding=True,
    typed_parameters=True,
    ignores_misplaced_parameters=False,
    zero_delivery_timeout=True,
    end_group_delta=True,
    location_filter=True,
    fill=True,
    range_filters=True,
    empty_namespaces=True,
    publish_ok_parameters=False,
    publish_state_notify=True,
    goaway_timeout=True,
    goaway_request_id=False,
    redirects=True,
    mandatory_properties=True,
    unknown_stream_count=(1 << 64) - 1,
    first_object=True,
    fetch_deltas=True,
    timed_out_ranges=True,
    request_errors=_codes(
        {}, (RequestErrorCode.DUPLICATE_SUBSCRIPTION, RequestErrorCode.INVALID_JOINING_REQUEST_ID)
    ),
    publish_done_statuses=_codes({}, (PublishDoneStatus.SUBSCRIPTION_ENDED,)),
)

DRAFTS: dict[int, Draft] = {d.number: d for d in (DRAFT_18, DRAFT_22, DRAFT_16)}
"""By number, in the order of preference."""
