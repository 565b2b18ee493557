"""The state of requests: what both sides remember of one, ids that were used, aliases."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from operator import eq

from fastrelay.moqt.deadlines import Deadlines
from fastrelay.moqt.messages import (
    Answer,
    Fetch,
    FetchOk,
    Publish,
    Request,
    RequestError,
    RequestOk,
    RequestUpdate,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
)
from fastrelay.moqt.names import FullTrackName, Namespace
from fastrelay.moqt.tokens import ResolvedToken

ANSWERS: dict[type[Request], type[Answer]] = {Subscribe: SubscribeOk, Fetch: FetchOk}
"""The answer to a request that succeeds, where it is not REQUEST_OK."""

MAX_GAPS = 1024
"""Holes in the peer's request ids that are remembered; older ones count as used."""


class Phase(Enum):
    PENDING = "pending"
    ESTABLISHED = "established"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Update:
    """A REQUEST_UPDATE of the peer, and our answer if that waits for its turn."""

    message: RequestUpdate
    tokens: tuple[ResolvedToken, ...] = ()
    answer: RequestOk | RequestError | None = None


@dataclass(slots=True, eq=False)
class RequestState:
    """One request, from its first message to its end."""

    request: Request
    ours: bool
    stream_id: int | None = None
    """Its bidirectional stream; None: it lives on the control stream, or is not sent yet."""
    phase: Phase = Phase.PENDING
    known: bool = True
    """The owner knows of it: it is ours, or has been passed on."""
    going_away: bool = False
    """A GOAWAY for this request alone has been received."""
    alias: int | None = None
    """The track alias that this subscription holds."""
    updates_sent: dict[int, RequestUpdate] = field(default_factory=dict)
    """Our unanswered updates by id, oldest first."""
    updates_held: list[RequestUpdate] = field(default_factory=list)
    """Updates that the peer does not allow us yet, oldest first."""
    updates_received: dict[int, Update] = field(default_factory=dict)
    """The peer's unanswered updates by id, oldest first."""
    data_stream: int | None = None
    """FETCH: the stream that carries its objects."""
    data_ended: bool = False
    prefix: Namespace = ()
    """SUBSCRIBE_NAMESPACE, SUBSCRIBE_TRACKS: the prefix now in force."""
    namespaces: set[Namespace] = field(default_factory=set)
    """SUBSCRIBE_NAMESPACE of ours: the live namespaces, in full."""

    @property
    def id(self) -> int:
        return self.request.request_id

    @property
    def publishes(self) -> bool:
        """Of a subscription: whether this end sends its objects."""
        return isinstance(self.request, Publish) is self.ours

    @property
    def is_subscription(self) -> bool:
        return isinstance(self.request, Subscribe | Publish)


class UsedIds:
    """The ids that a peer has used, whatever the order in which its streams arrived.

    :param first: the peer's first id (0 for a client, 1 for a server); ids step by 2.
    """

    def __init__(self, first: int) -> None:
        # Sorted, disjoint, half-open runs of ids: starts[i] <= id < ends[i].
        self._starts = [first]
        self._ends = [first]

    @property
    def next(self) -> int:
        """The smallest id above all that were used."""
        return self._ends[-1]

    def __contains__(self, request_id: int) -> bool:
        at = bisect_right(self._starts, request_id) - 1
        return at >= 0 and request_id < self._ends[at]

    def add(self, request_id: int) -> bool:
        """Mark an id of the right parity as used; False if it was already."""
        starts, ends = self._starts, self._ends
        if request_id == ends[-1]:
            ends[-1] += 2
            return True
        at = bisect_right(starts, request_id) - 1
        if at < 0 or request_id < ends[at]:
            return False
        joins_left = request_id == ends[at]
        joins_right = at + 1 < len(starts) and request_id + 2 == starts[at + 1]
        if joins_left and joins_right:
            ends[at] = ends.pop(at + 1)
            del starts[at + 1]
        elif joins_left:
            ends[at] += 2
        elif joins_right:
            starts[at + 1] = request_id
        else:
            starts.insert(at + 1, request_id)
            ends.insert(at + 1, request_id + 2)
            if len(starts) > MAX_GAPS:
                ends[0] = ends.pop(1)
                del starts[1]
        return True


class TrackAliases:
    """Track aliases of one direction (section 11.1): one track each, as long as it is used.

    Several subscriptions to one track may share an alias.
    """

    def __init__(self) -> None:
        self._holders: dict[int, tuple[FullTrackName, set[int]]] = {}

    def track(self, alias: int) -> FullTrackName | None:
        holder = self._holders.get(alias)
        return holder[0] if holder else None

    def hold(self, alias: int, track: FullTrackName, request_id: int) -> bool:
        """False if ``alias`` stands for another track."""
        holder = self._holders.setdefault(alias, (track, set()))
        if holder[0] != track:
            return False
        holder[1].add(request_id)
        return True

    def release(self, alias: int, request_id: int) -> None:
        holders = self._holders[alias][1]
        holders.discard(request_id)
        if not holders:
            del self._holders[alias]


def _nothing() -> None:
    return


class RequestTable:
    """All live requests of a session, ours and the peer's, and the aliases of their tracks."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._states: dict[int, RequestState] = {}
        self._subscriptions: dict[tuple[bool, FullTrackName], list[RequestState]] = {}
        self._discoveries: list[RequestState] = []
        self.fetch_streams: dict[int, RequestState] = {}
        """Our open streams with objects for a FETCH of the peer."""
        self._aliases = {True: TrackAliases(), False: TrackAliases()}
        self.incoming = 0
        """How many of them are the peer's."""
        self.on_freed: Callable[[], None] = _nothing
        """Called when a request or update of the peer is over, so that it may send another."""

    def __len__(self) -> int:
        return len(self._states)

    def get(self, request_id: int) -> RequestState | None:
        return self._states.get(request_id)

    def add(self, state: RequestState) -> None:
        self._states[state.id] = state
        request = state.request
        if isinstance(request, Subscribe | Publish):
            key = (state.publishes, request.track)
            self._subscriptions.setdefault(key, []).append(state)
        if isinstance(request, SubscribeNamespace | SubscribeTracks):
            state.prefix = request.prefix
            if not state.ours:
                self._discoveries.append(state)
        self.incoming += not state.ours

    def end(self, state: RequestState) -> None:
        """The request is over; its id and alias mean nothing any more."""
        state.phase = Phase.ENDED
        del self._states[state.id]
        request = state.request
        if isinstance(request, Subscribe | Publish):
            key = (state.publishes, request.track)
            self._subscriptions[key].remove(state)
            if not self._subscriptions[key]:
                del self._subscriptions[key]
            if state.alias is not None:
                self._aliases[state.publishes].release(state.alias, state.id)
        if isinstance(request, SubscribeNamespace | SubscribeTracks) and not state.ours:
            self._discoveries.remove(state)
        if state.ours:
            self._deadlines.stop(("answer", state.id))
        else:
            if state.data_stream is not None:
                self.fetch_streams.pop(state.data_stream, None)
            self.incoming -= 1
            self.on_freed()

    def alias_is_free(self, alias: int, track: FullTrackName, *, publishing: bool) -> bool:
        """Whether ``alias`` may stand for ``track`` in that direction."""
        return self._aliases[publishing].track(alias) in (None, track)

    def hold_alias(self, state: RequestState, alias: int) -> bool:
        """Give a subscription its alias; False if that stands for another track."""
        assert isinstance(state.request, Subscribe | Publish)
        if not self._aliases[state.publishes].hold(alias, state.request.track, state.id):
            return False
        state.alias = alias
        return True

    def subscriptions(self, track: FullTrackName, *, publishing: bool) -> list[RequestState]:
        """Live subscriptions to ``track`` in which this end has the role asked for."""
        return self._subscriptions.get((publishing, track), [])

    def overlapping(
        self, kind: type[Request], prefix: Namespace, but: RequestState | None = None
    ) -> bool:
        """Whether the peer has a discovery of that kind whose prefix begins or continues
        ``prefix``."""
        return any(
            isinstance(state.request, kind)
            and state is not but
            and all(map(eq, state.prefix, prefix))
            for state in self._discoveries
        )
