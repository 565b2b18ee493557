"""What the core needs from, and tells, the program around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fastrelay.fastpath.ports import Link
from fastrelay.moqt.names import Namespace
from fastrelay.quic.lease import Source


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


class SharedTransport(Protocol):
    """What a transport offers beside :class:`fastrelay.moqt.transport.Transport` because the
    kernel may use its connection, too. Offsets are QUIC's, prefixes included."""

    @property
    def stream_prefix(self) -> bytes:
        """What each data stream of either side begins with, before MoQT's bytes."""

    @property
    def datagram_prefix(self) -> bytes:
        """The same of datagrams."""

    @property
    def datagram_place(self) -> tuple[int, int] | None:
        """Of the datagram that is being handed to the session: its packet's number, its place
        among the datagrams of that packet. None at all other times."""

    def adopt_stream(
        self, stream_id: int, source: Source, highest: int, *, continued: bool
    ) -> None:
        """A stream of ours that the kernel began, and on which it has sent up to ``highest``.
        May be called again. ``continued``: the kernel is through with it: ``send`` and
        ``reset`` go on there. Otherwise only :meth:`send_range` is possible."""

    def send_range(self, stream_id: int, start: int, stop: int, fin: bool) -> None:
        """Send a part of an adopted stream, read from its source when there is room."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """A session's connection, as user space and the kernel have it."""

    link: Link
    transport: SharedTransport


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
        """``reason``: ``delivery-timeout``, ``congestion``, ``priority``, ``too-far-behind``,
        ``datagram-size``, ``merged`` (a second publisher took over, and the first never brought
        what the kernel had sent of its stream); ``what``: ``stream``, ``datagram``,
        ``subscription``."""

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
    rendition_switches: dict[str, int] = field(default_factory=dict)
    """Of automatic tracks, ``up`` and ``down``."""

    sessions: int = 0
    tracks: int = 0
    subscriptions: int = 0
    upstream_subscriptions: int = 0
    fetches: int = 0
    cache_bytes: int = 0
