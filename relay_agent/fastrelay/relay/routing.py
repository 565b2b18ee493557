"""Who is asked for a track, and who is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt import messages as ms
from fastrelay.moqt.names import Namespace
from fastrelay.relay import loops
from fastrelay.relay.discovery import Announcement, TracksInterest, is_prefix
from fastrelay.relay.peer import Peer
from fastrelay.relay.ports import Upstreams
from fastrelay.relay.tracks import Track

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay

_SAME_SIZE_TRIES = 4096


class Routing:
    """The ways between publishers, this relay, its upstreams and subscribers."""

    def __init__(self, core: Relay, upstreams: Upstreams) -> None:
        self._core = core
        self._upstreams = upstreams

    def choose_alias(self, peer: Peer, wanted: int) -> int:
        """``wanted`` (the publisher's) if this peer has no such alias, else one as long as it."""
        varints = peer.draft.varints
        if wanted > varints.maximum:
            wanted = 0
        size = varints.size(wanted)
        alias = wanted
        step = 0
        while alias in peer.aliases or (varints.size(alias) != size and step < _SAME_SIZE_TRIES):
            step += 1
            alias = wanted ^ step
        peer.aliases.add(alias)
        return alias

    def publishers_of(self, track: Track) -> list[Peer]:
        """Sessions that published the track's namespace or a prefix of it (section 9.5)."""
        found: dict[Peer, None] = {}
        for announcement in self._core.namespaces.publishers(track.name.namespace):
            peer = announcement.peer
            if peer.info.upstream is None and self._may_ask(peer, track):
                found[peer] = None
        return list(found)

    def upstreams_for(self, track: Track) -> list[Peer]:
        """Upstream sessions to ask, those that announced the namespace first."""
        announced = {a.peer for a in self._core.namespaces.publishers(track.name.namespace)}
        upstreams = [
            peer
            for peer in self._core.peers
            if peer.info.upstream is not None
            and peer.ready
            and self.serves(peer, track.name.namespace)
            and self._may_ask(peer, track)
        ]
        return sorted(upstreams, key=lambda peer: peer not in announced)

    def serves(self, peer: Peer, namespace: Namespace) -> bool:
        """Whether an upstream is configured for this namespace."""
        prefixes = peer.info.prefixes
        return not prefixes or any(is_prefix(prefix, namespace) for prefix in prefixes)

    def _may_ask(self, peer: Peer, track: Track) -> bool:
        """Not the relay that a request came from, nor one it came through."""
        if peer.going_away:
            return False
        if peer.relay_id is None:
            return True
        for subscription in [*track.waiting, *track.subscriptions]:
            if subscription.peer.relay_id == peer.relay_id:
                return False
            if self.is_loop(peer, subscription.hops):
                return False
        return peer.relay_id != self._core.id

    def is_loop(self, peer: Peer, hops: bytes) -> bool:
        return peer.relay_id is not None and loops.contains(hops, peer.relay_id)

    def hop_tokens(self, peer: Peer, hops: bytes) -> tuple[ms.Token, ...]:
        return () if peer.relay_id is None else (loops.token(hops, self._core.id),)

    def upstreams_coming(self, track: Track) -> bool:
        """Whether a connection to an upstream is being made that could have the track."""
        return self._upstreams.want() > 0

    def namespace_added(self, announcement: Announcement) -> None:
        for track in list(self._core.tracks.values()):
            if is_prefix(announcement.namespace, track.name.namespace):
                track.sources.refused_by.discard(announcement.peer)
                track.available()

    def announce_track(self, track: Track) -> None:
        """Offer a track that is published now to whoever asked for all under a prefix."""
        for interest in self._core.namespaces.wanting_tracks(track.name.namespace):
            self._offer(track, interest)

    def offer_tracks(self, interest: TracksInterest) -> None:
        for track in list(self._core.tracks.values()):
            if is_prefix(interest.prefix, track.name.namespace):
                self._offer(track, interest)

    def _offer(self, track: Track, interest: TracksInterest) -> None:
        peer = interest.peer
        feeds = track.sources.published
        if (
            any(feed.pushed for feed in feeds)
            and all(feed.peer is not peer for feed in feeds)
            and track.name not in peer.subscriptions
            and self._core.policy.may_subscribe(track.name.namespace, interest.tokens)
        ):
            if len(peer.handles) < self._core.options.limits.requests_per_session:
                track.offer(peer, interest.parameters)
            else:
                interest.blocked(track.name)
