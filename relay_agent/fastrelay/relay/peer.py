"""One session as the core sees it, and the scheduler of what waits for it.

The order (draft-18 section 7.2): subscriber priority, then publisher priority, then within a
request group order and subgroup id. Requests of equal priority take turns by bytes served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fastrelay.fastpath.bands import Bands
from fastrelay.fastpath.layout import BANDS
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.events import RequestUpdated, UpdateAnswered
from fastrelay.moqt.messages import Answer, Notification
from fastrelay.moqt.names import FullTrackName
from fastrelay.moqt.transport import Transport
from fastrelay.quic.measurements import Measurements
from fastrelay.relay.limits import Limiter
from fastrelay.relay.ports import PeerInfo, Sharing

if TYPE_CHECKING:
    from fastrelay.moqt.events import Event
    from fastrelay.moqt.session import Session
    from fastrelay.relay.auto import Auto
    from fastrelay.relay.feed import Feed
    from fastrelay.relay.feedback import Feedback
    from fastrelay.relay.fill import Fill
    from fastrelay.relay.subscription import Subscription


QUANTUM = 16 * 1024
"""Bytes given to a transport at a time when several streams wait."""


class Handle:
    """Whatever lives under a request id. What does not apply to a kind of request is ignored."""

    __slots__ = ()

    def answered(self, answer: Answer) -> None:
        """The peer answered our request."""

    def updated(self, event: RequestUpdated) -> None:
        """The peer wants the request changed."""

    def update_answered(self, event: UpdateAnswered) -> None:
        """The peer answered our change."""

    def notified(self, notification: Notification) -> None:
        """A message on the established request."""

    def cancelled(self) -> None:
        """The peer gave the request up."""

    def ended(self, code: int) -> None:
        """The peer ended our request without a message."""

    def lost(self) -> None:
        """The session is gone."""


class Outlet(Protocol):
    """Something with data for a peer: a subscription or a fetch."""

    served: int

    @property
    def band(self) -> int:
        """Of what it would send next."""

    def rank(self) -> tuple[int, int, int]:
        """Less is sent first: subscriber priority, publisher priority, bytes served."""

    def give(self) -> bool:
        """Send a little; whether there is more."""

    def review(self) -> None:
        """Look after lag and timeouts while the peer takes nothing."""


class Outflow(Protocol):
    """A data stream towards the peer."""

    def stopped(self) -> None: ...


class Inbound(Protocol):
    """A data stream from the peer."""

    def data(self, event: Any) -> None: ...

    def lost(self, code: int) -> None: ...

    def malformed(self, reason: str) -> None: ...


class Peer:
    """A session and all that the core keeps for it."""

    __slots__ = (
        "active",
        "ahead",
        "aliases",
        "announced_unasked",
        "asked",
        "autos",
        "bands",
        "born",
        "draft",
        "early",
        "early_bytes",
        "early_old",
        "expected_fetches",
        "fast",
        "feedback",
        "feeds",
        "fetches",
        "going_away",
        "handles",
        "high_water",
        "inflows",
        "info",
        "kernel_packets",
        "limiter",
        "measure",
        "namespaces",
        "outflows",
        "quantum",
        "ready",
        "relay_id",
        "session",
        "subscriptions",
        "tokens",
        "transport",
    )

    def __init__(
        self, session: Session, info: PeerInfo, high_water: int, now: float, limiter: Limiter
    ) -> None:
        self.session = session
        self.transport: Transport = session.transport
        self.draft: Draft = session.draft
        self.info = info
        self.high_water = high_water
        self.active: list[Outlet] = []
        """Those with something to send. While there are any, nothing that comes goes past them."""
        self.ahead = (high_water,) * BANDS
        """Up to how much backlog the transport is given more, by band."""
        self.quantum = QUANTUM
        """Bytes given to it at a time, of what waits."""
        self.born = now
        self.limiter = limiter
        self.bands: Bands = limiter.bands
        """Which streams and datagrams it gets when not all can be sent."""
        self.measure: Callable[[], Measurements] | None = None
        """What is known of the path to it."""
        self.fast: Sharing | None = None
        """The kernel's part in its connection."""
        self.ready = False
        """SETUP has come."""
        self.going_away = False
        self.relay_id: bytes | None = None
        """Of a peer that is such a relay itself."""
        self.tokens: tuple[tuple[int, bytes], ...] = ()
        """Tokens given in SETUP: they count for every request."""
        self.handles: dict[int, Handle] = {}
        """Requests of both sides: their ids never collide."""
        self.feedback: Feedback | None = None
        """The track on which it tells when objects arrive."""
        self.feeds: dict[int, Feed] = {}
        """By the alias the peer chose for a track it publishes."""
        self.aliases: set[int] = set()
        """Aliases chosen for tracks that the peer gets."""
        self.subscriptions: dict[FullTrackName, Subscription] = {}
        """What the peer gets; the latest of a track, where it may subscribe twice."""
        self.autos: dict[Auto, None] = {}
        """Subscriptions to tracks of the relay's own."""
        self.inflows: dict[int, Inbound] = {}
        self.expected_fetches: dict[int, Fill] = {}
        """FETCHes of the relay's, by request id."""
        self.outflows: dict[int, Outflow] = {}
        self.early: dict[int, list[Event]] = {}
        """Data events whose alias is not known yet, by alias."""
        self.early_bytes = 0
        self.early_old: set[int] = set()
        """Aliases that were unknown at the last sweep already."""
        self.namespaces = 0
        self.fetches = 0
        self.kernel_packets = 0
        """Sent by the kernel for subscriptions that are over."""
        self.asked = False
        """The peer has made a request: it does not wait to be told of namespaces."""
        self.announced_unasked = False

    @property
    def is_adapting(self) -> bool:
        """Less can be sent to it yet without dropping anything: by a smaller rendition."""
        return any(auto.is_adapting for auto in self.autos)

    def activate(self, outlet: Outlet) -> None:
        """This outlet has something to send."""
        if outlet not in self.active:
            self.active.append(outlet)

    def deactivate(self, outlet: Outlet) -> None:
        if outlet in self.active:
            self.active.remove(outlet)

    def pump(self) -> None:
        """Send what waits, the most urgent first, while the transport takes it."""
        active = self.active
        transport = self.transport
        while active:
            outlet = active[0] if len(active) == 1 else min(active, key=_rank)
            if transport.backlog >= self.ahead[outlet.band]:
                break
            if not outlet.give():
                self.deactivate(outlet)

    def review(self) -> None:
        """Give up what is too late or too much."""
        for outlet in list(self.active):
            outlet.review()


def _rank(outlet: Outlet) -> tuple[int, int, int]:
    return outlet.rank()
