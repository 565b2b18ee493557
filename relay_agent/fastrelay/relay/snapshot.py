"""The relay's state as plain values, for status pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrelay.fastpath.layout import BAND_LEVELS
from fastrelay.moqt.names import Location, format_namespace
from fastrelay.relay.auto import Auto
from fastrelay.relay.peer import Peer
from fastrelay.relay.subscription import Subscription
from fastrelay.relay.tracks import Track

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay


def of(relay: Relay) -> dict[str, Any]:
    """``relay``, ``sessions``, ``tracks`` and ``namespaces``."""
    return {
        "relay": {
            "id": relay.id.hex(),
            "draining": relay.draining,
            "sessions": len(relay.peers),
            "tracks": len(relay.tracks),
            "namespaces": len(relay.namespaces),
            "cache_bytes": relay.cache.total,
            "cache_limit": relay.cache.limit,
        },
        "sessions": [_session(relay, peer) for peer in relay.peers],
        "tracks": [_track(track) for track in relay.tracks.values()],
        "namespaces": [
            {
                "namespace": format_namespace(namespace),
                "publishers": [a.peer.info.address for a in announcements],
            }
            for namespace, announcements in relay.namespaces.items()
        ],
    }


def _session(relay: Relay, peer: Peer) -> dict[str, Any]:
    info = peer.info
    setup = peer.session.peer_setup
    return {
        "address": info.address,
        "transport": "webtransport" if info.webtransport else "quic",
        "draft": peer.draft.number,
        "upstream": info.upstream,
        "implementation": setup.implementation if setup is not None else None,
        "seconds": round(relay.timers.now() - peer.born, 3),
        "ready": peer.ready,
        "going_away": peer.going_away,
        "backlog": peer.transport.backlog,
        "requests": len(peer.handles),
        "namespaces": peer.namespaces,
        "publishes": [feed.track.label for feed in peer.feeds.values()],
        "subscriptions": [
            *(_subscription(s) for s in peer.subscriptions.values()),
            *(_automatic(auto) for auto in peer.autos),
        ],
        "fetches": peer.fetches,
        "kernel_packets": peer.kernel_packets + sum(s.seat.packets for s in _asked(peer)),
        "fast_path": _sharing(relay, peer),
        "bands": _bands(peer),
        "limit": _limit(peer),
        "feedback": peer.feedback.status() if peer.feedback is not None else None,
    }


def _bands(peer: Peer) -> dict[str, Any]:
    """``rate``: bytes a second, 0: no limit; ``level``: bands that are dropped, from the last."""
    bands, counted = peer.bands, peer.bands.counted()
    return {
        "rate": bands.rate,
        "level": bands.level / BAND_LEVELS,
        "bytes": list(counted.bytes),
        "dropped": list(counted.dropped),
    }


def _limit(peer: Peer) -> dict[str, Any]:
    """Why what ``bands`` says is in force, and what a person has set, if anything."""
    limiter = peer.limiter
    level = limiter.level_by_hand
    return {
        "why": limiter.why,
        "estimate": None if limiter.estimate is None else round(limiter.estimate),
        "rate_by_hand": limiter.rate_by_hand,
        "level_by_hand": None if level is None else level / BAND_LEVELS,
    }


def _asked(peer: Peer) -> Iterator[Subscription]:
    yield from (handle for handle in peer.handles.values() if isinstance(handle, Subscription))
    for auto in peer.autos:
        yield from (leg for leg in auto.legs if not leg.is_over)


def _sharing(relay: Relay, peer: Peer) -> str:
    """Why the kernel does nothing for a session's connection; empty if it does."""
    if relay.forwarder is None or peer.fast is None:
        return "the kernel does not forward"
    return relay.forwarder.reason or peer.fast.link.reason


def _subscription(subscription: Subscription) -> dict[str, Any]:
    return {
        "track": subscription.track.label,
        "state": subscription.phase.value,
        "alias": subscription.alias,
        "forward": subscription.forward,
        "priority": subscription.priority,
        "start": _location(subscription.window.start),
        "streams": subscription.stream_count,
        "open_streams": len(subscription.cursors),
        "bytes_behind": subscription.lane.behind,
        "fast_path": subscription.seat.reason,
        "kernel_streams": subscription.seat.streams,
        "kernel_packets": subscription.seat.packets,
        "falls_behind": subscription.seat.falls,
    }


def _automatic(auto: Auto) -> dict[str, Any]:
    """``rendition``: the one whose groups come now, empty if there is none yet; the rest as of
    every subscription. What is counted, is counted over all renditions."""
    leg = auto.current
    common = {} if leg is None else _subscription(leg)
    return common | {
        "track": str(auto.name),
        "state": auto.phase.value,
        "rendition": "" if leg is None else leg.rendition.label,
        "switches": auto.switches,
        "lag": round(auto.adapter.lag, 3),
        "streams": auto.streams,
        "kernel_streams": auto.kernel_streams,
        "kernel_packets": auto.kernel_packets,
    }


def _track(track: Track) -> dict[str, Any]:
    groups = track.store.groups
    return {
        "track": track.label,
        "publishers": [
            {
                "address": feed.peer.info.address,
                "state": feed.state.value,
                "alias": feed.alias,
                "pushed": feed.pushed,
                "forward": feed.forward,
            }
            for feed in track.sources.feeds
        ],
        "subscribers": len(track.subscriptions),
        "waiting": len(track.waiting),
        "fetches": track.fetches,
        "largest": _location(track.largest),
        "groups": len(groups),
        "bytes": sum(group.size for group in groups.values()),
        "fast_path": track.fast.reason,
    }


def _location(location: Location | None) -> list[int] | None:
    return None if location is None else list(location)
