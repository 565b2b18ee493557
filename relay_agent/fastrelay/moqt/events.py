"""What a session tells its owner, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastrelay.moqt.messages import Answer, GoAway, Notification, Parameters, Request, Setup
from fastrelay.moqt.names import Location, ObjectStatus


@dataclass(slots=True)
class SetupReceived:
    """``tokens``: those of SETUP, resolved as in :class:`RequestReceived`."""

    setup: Setup
    tokens: tuple[tuple[int, bytes], ...] = ()


@dataclass(slots=True)
class RequestReceived:
    """Answer with ``Session.respond`` or ``Session.reject``. Tokens in ``tokens`` are resolved
    through the alias cache: pairs of token type and value."""

    request: Request
    tokens: tuple[tuple[int, bytes], ...] = ()


@dataclass(slots=True)
class RequestUpdated:
    """REQUEST_UPDATE for one of the peer's requests, or for a PUBLISH of ours.
    Answer with ``Session.respond_update`` or ``Session.reject_update``."""

    request_id: int
    update_id: int
    parameters: Parameters
    tokens: tuple[tuple[int, bytes], ...] = ()


@dataclass(slots=True)
class RequestCancelled:
    """The peer gave up one of its requests (or unsubscribed from a PUBLISH of ours)."""

    request_id: int


@dataclass(slots=True)
class AnswerReceived:
    """The first answer to one of our requests. After a ``RequestError`` the id is dead."""

    answer: Answer


@dataclass(slots=True)
class UpdateAnswered:
    request_id: int
    update_id: int
    answer: Answer


@dataclass(slots=True)
class NotificationReceived:
    """A message on an established request of ours, or PUBLISH_DONE for a peer's PUBLISH."""

    request_id: int
    notification: Notification


@dataclass(slots=True)
class RequestEnded:
    """The peer ended one of our established requests without a message (reset or FIN)."""

    request_id: int
    code: int


@dataclass(slots=True)
class GoAwayReceived:
    """``request_id`` set: only that request is to move (draft 19 on)."""

    goaway: GoAway
    request_id: int | None = None


@dataclass(slots=True)
class SubgroupHeader:
    """SUBGROUP_HEADER (section 11.4.2).

    ``subgroup_id`` None: it is the first object's id, known with the first object.
    ``publisher_priority`` None: the track's default. ``raw``: the bytes as received,
    ``alias_length``: bytes of the alias in it, which starts right after the one type byte.
    """

    track_alias: int
    group_id: int
    subgroup_id: int | None
    publisher_priority: int | None
    has_properties: bool
    end_of_group: bool
    first_object: bool
    raw: bytes = b""
    alias_length: int = 0


@dataclass(slots=True)
class ObjectHeader:
    """One object's header within a data stream.

    ``start``, ``payload_start``, ``end``: offsets in the stream's body, which begins right
    after the stream header; ``end`` may lie in bytes still to come. ``properties``: the
    key-value pairs without their length, None if the stream carries none.
    """

    location: Location
    subgroup_id: int
    publisher_priority: int | None
    properties: bytes | None
    status: ObjectStatus
    start: int
    payload_start: int
    end: int
    datagram: bool = False
    """In fetch streams: the object was published as a datagram, it has no subgroup."""


@dataclass(slots=True)
class SubgroupOpened:
    stream_id: int
    header: SubgroupHeader


@dataclass(slots=True)
class SubgroupRefused:
    """A stream beyond the limit was stopped; nothing of it follows."""

    stream_id: int
    header: SubgroupHeader


@dataclass(slots=True)
class SubgroupData:
    """Body bytes of a subgroup stream as they arrived.

    ``body`` ends at the last byte that belongs to a complete object header or to payload:
    bytes of a header still incomplete are held back, so that what is passed on is valid.
    ``objects``: those whose header became complete in this piece. ``fin``: the stream
    ended well, at an object's end.
    """

    stream_id: int
    body: bytes
    objects: list[ObjectHeader] = field(default_factory=list)
    fin: bool = False


@dataclass(slots=True)
class FetchRange:
    """An end-of-range marker in a fetch stream: nothing up to ``until`` (inclusive) follows.
    ``kind`` is the wire's flags value: 0x8C non-existent, 0x10C unknown, 0x20C timed out."""

    until: Location
    kind: int


@dataclass(slots=True)
class FetchOpened:
    """A fetch (or fill) stream for a request of ours."""

    stream_id: int
    request_id: int


@dataclass(slots=True)
class FetchData:
    """As :class:`SubgroupData`; ``objects`` in the stream's order, range markers among them."""

    stream_id: int
    body: bytes
    objects: list[ObjectHeader | FetchRange] = field(default_factory=list)
    fin: bool = False


@dataclass(slots=True)
class DataStreamReset:
    """A subgroup or fetch stream of the peer was reset."""

    stream_id: int
    code: int


@dataclass(slots=True)
class DataStreamStopped:
    """The peer no longer wants one of our data streams."""

    stream_id: int
    code: int


@dataclass(slots=True)
class DatagramReceived:
    """OBJECT_DATAGRAM (section 11.3.1); ``raw`` as received, ``alias_length`` as above."""

    track_alias: int
    location: Location
    publisher_priority: int | None
    properties: bytes | None
    status: ObjectStatus
    end_of_group: bool
    payload: bytes
    raw: bytes
    alias_length: int


@dataclass(slots=True)
class TrackMalformed:
    """What arrived breaks the rules of its track (section 2.4.2): cancel its subscriptions or
    fetch. A stream has been stopped and brings no more events; a datagram was dropped, it
    has no ``stream_id`` but names the track."""

    stream_id: int | None
    reason: str
    track_alias: int | None = None


@dataclass(slots=True)
class Writable:
    """The transport's backlog has become small again (``Receiver.writable``)."""


@dataclass(slots=True)
class SessionClosed:
    """The last event."""

    code: int
    reason: str


Event = (
    SetupReceived
    | RequestReceived
    | RequestUpdated
    | RequestCancelled
    | AnswerReceived
    | UpdateAnswered
    | NotificationReceived
    | RequestEnded
    | GoAwayReceived
    | SubgroupOpened
    | SubgroupRefused
    | SubgroupData
    | FetchOpened
    | FetchData
    | DataStreamReset
    | DataStreamStopped
    | DatagramReceived
    | TrackMalformed
    | Writable
    | SessionClosed
)
