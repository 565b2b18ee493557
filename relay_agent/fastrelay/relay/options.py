"""What an operator decides about a relay, as plain values for the core."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastrelay.fastpath.bands import Shares
from fastrelay.moqt.names import Namespace

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Bounds of the cache of the whole relay.

    ``seconds``: a group is dropped this long after its last byte, unless it is the newest of a
    track that is still published. ``bytes``: beyond it, the groups used least recently go, the
    newest groups of live tracks last.
    """

    seconds: float = 10.0
    bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What one relay, and one session of it, may hold at most."""

    sessions: int = 10_000
    requests_per_session: int = 1_000
    fetches_per_session: int = 64
    fetch_bytes: int = 64 * MIB
    """Memory of all fetches together beside the cache (see :mod:`.backlog`)."""
    tracks: int = 10_000
    namespaces: int = 10_000
    namespaces_per_session: int = 1_000
    streams_behind: int = 512
    """Streams of one subscription that wait for a slow peer."""
    bytes_behind: int = 16 * MIB
    """Bytes of one subscription that wait for a slow peer. At half of it whole streams are
    given up; at all of it the subscription is, with TOO_FAR_BEHIND."""
    stalled_seconds: float = 5.0
    """A subscription that has lost streams and takes nothing for so long is ended as well."""
    unknown_alias_bytes: int = MIB
    """Data of a session that is kept until the answer naming its track alias arrives."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Who may do what under a namespace prefix; the longest matching prefix decides.

    ``publish`` and ``subscribe``: None is everybody, an empty tuple nobody, otherwise the
    secrets of which one has to be presented as a token, in SETUP or with the request.
    """

    prefix: Namespace
    publish: tuple[bytes, ...] | None = None
    subscribe: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Deviations:
    """Where the relay does more for players than the drafts say; each can be switched off."""

    replay_current_group: bool = True
    """A subscription from the next object or without a filter, to a track on which nothing moves
    at the moment (a catalog), begins with the current group's first object. While objects come
    it does not: a joining FETCH brings what came before, and nothing twice."""
    replay_past: bool = True
    """A subscription whose start lies in the past begins with what the cache has from there."""
    announce_unasked: bool = True
    """Drafts up to 18: a session that has asked for nothing shortly after its SETUP is told of
    every namespace with PUBLISH_NAMESPACE."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Everything the core takes from the resource ``MoQRelay``."""

    cache: CacheOptions = field(default_factory=CacheOptions)
    limits: Limits = field(default_factory=Limits)
    policy: tuple[PolicyRule, ...] = ()
    deviations: Deviations = field(default_factory=Deviations)
    linger_seconds: float = 5.0
    """How long an upstream subscription outlives its last subscriber."""
    orphan_seconds: float = 10.0
    """How long subscribers wait for a publisher that vanished to come back."""
    upstream_timeout_seconds: float = 10.0
    """Within this time a publisher has to answer a request."""
    max_rendezvous_seconds: float = 30.0
    fill_seconds: float = 5.0
    """How long a FETCH waits for objects from upstream, if it does not say so itself."""
    high_water_bytes: int = 256 * KIB
    """A transport with this backlog is given no more. Its own low-water mark has to be lower, or
    it would never say that it is writable again."""
    shares: Shares = field(default_factory=Shares)
    """How a subscriber's bands are cut."""
    limit_by_path: bool = False
    """Members are limited to what their paths carry."""
    peer_rate: int = 0
    """Bytes a second that one session is sent at most, for its bands to share; 0: no limit."""
    kernel_members: int = 1024
    """Subscriptions of one track that the kernel serves, if it forwards; user space serves more."""
    unasked_seconds: float = 0.2
