"""What the core needs from, and tells, the program around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fastrelay.moqt.names import Namespace


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Where a session comes from.

    ``upstream``: the URL, for sessions this relay opened by itself to another relay, and
    ``prefixes``: the namespaces it is asked for (empty: all).
    """

    address: str = ""
    webtransport: bool = False
    upstream: str | None = None
    prefixes: tuple[Namespace, ...] = ()


class Upstreams(Protocol):
    """The configured upstream relays; the shell connects them and keeps them connected."""

    def want(self) -> int:
        """Something is needed from upstream: connect at once what is not connected.

        Returns the number of attempts under way. For each of them follows
        ``Relay.session_opened`` with ``upstream`` set, or ``Relay.upstream_failed``.
        """


class NoUpstreams:
    """A relay that stands alone."""

    def want(self) -> int:
        return 0


class Observer(Protocol):
    """Told of what is worth a line in a log or a histogram; must return at once."""

    def joined(self, seconds: float) -> None:
        """From a SUBSCRIBE's arrival to the first byte of an object sent for it."""

    def dropped(self, reason: str, what: str) -> None:
        """``reason``: ``delivery-timeout``, ``congestion``, ``too-far-behind``,
        ``datagram-size``; ``what``: ``stream``, ``datagram``, ``subscription``."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """``level``: ``debug``, ``info`` or ``warning``."""


class Silent:
    """An observer that does not care."""

    def joined(self, seconds: float) -> None: ...

    def dropped(self, reason: str, what: str) -> None: ...

    def log(self, level: str, event: str, **fields: object) -> None: ...


@dataclass(slots=True)
class Counters:
    """What happened since the start; the last block is what is there now."""

    objects_in: int = 0
    objects_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    datagrams_in: int = 0
    datagrams_out: int = 0
    streams_in: int = 0
    streams_out: int = 0
    duplicates: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    requests_rejected: dict[str, int] = field(default_factory=dict)

    sessions: int = 0
    tracks: int = 0
    subscriptions: int = 0
    upstream_subscriptions: int = 0
    fetches: int = 0
    cache_bytes: int = 0
