"""The relay's table of namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fastrelay.moqt.names import Namespace
from fastrelay.relay.discovery import (
    Announcement,
    Interest,
    Passed,
    TracksInterest,
    TracksWatch,
    Watch,
    is_prefix,
)
from fastrelay.relay.peer import Peer

if TYPE_CHECKING:
    from fastrelay.relay.core import Relay


class Namespaces:
    """The relay's table of namespaces."""

    def __init__(self, core: Relay) -> None:
        self._core = core
        self._published: dict[Namespace, list[Announcement]] = {}
        self._interests: set[Interest] = set()
        self._tracks: set[TracksInterest] = set()
        self._passed: dict[Namespace, dict[Peer, Passed]] = {}
        self._watches: dict[Peer, dict[Namespace, TracksWatch]] = {}

    def __len__(self) -> int:
        return len(self._published)

    def items(self) -> Iterable[tuple[Namespace, list[Announcement]]]:
        return self._published.items()

    def publishers(self, namespace: Namespace) -> Iterator[Announcement]:
        """Of the namespace or any prefix of it, the most specific first (section 9.5)."""
        for length in range(len(namespace), -1, -1):
            yield from self._published.get(namespace[:length], ())

    def under(self, prefix: Namespace) -> Iterable[Namespace]:
        return [n for n in self._published if is_prefix(prefix, n)]

    def add(self, announcement: Announcement) -> None:
        namespace = announcement.namespace
        others = self._published.setdefault(namespace, [])
        others.append(announcement)
        announcement.peer.namespaces += 1
        if len(others) == 1:
            for interest in self._interests:
                if is_prefix(interest.prefix, namespace):
                    interest.tell(namespace)
        for peer in self._core.peers:
            self.pass_on(peer, announcement)
        self._core.routing.namespace_added(announcement)

    def pass_on(self, peer: Peer, announcement: Announcement) -> None:
        """Send PUBLISH_NAMESPACE to a peer that should have it without asking."""
        namespace = announcement.namespace
        source = announcement.peer
        if peer is source or not peer.ready or self.is_echo(peer, namespace):
            return
        if peer.info.upstream is not None:
            # What came from an upstream is not told to one: trees need no more, rings get no echo.
            routing = self._core.routing
            if source.info.upstream is not None or routing.is_loop(peer, announcement.hops):
                return
            if not self._core.routing.serves(peer, namespace):
                return
        elif not (
            peer.announced_unasked and self._core.policy.may_subscribe(namespace, peer.tokens)
        ):
            return
        passed = Passed(self._core, peer, namespace, announcement.hops)
        self._passed.setdefault(namespace, {})[peer] = passed

    def pass_all_on(self, peer: Peer) -> None:
        for announcements in list(self._published.values()):
            for announcement in announcements:
                self.pass_on(peer, announcement)

    def is_echo(self, peer: Peer, namespace: Namespace) -> bool:
        """Whether an upstream only tells us what we told it."""
        return peer in self._passed.get(namespace, ())

    def withdraw(self, announcement: Announcement) -> None:
        namespace = announcement.namespace
        others = self._published.get(namespace, [])
        if announcement not in others:
            return
        others.remove(announcement)
        announcement.peer.namespaces -= 1
        if others:
            return
        del self._published[namespace]
        for interest in self._interests:
            interest.untell(namespace)
        for passed in self._passed.pop(namespace, {}).values():
            passed.withdraw()

    def interested(self, interest: Interest | TracksInterest) -> None:
        if isinstance(interest, Interest):
            self._interests.add(interest)
            # It is told in answer to this from now on, and nothing twice.
            interest.peer.announced_unasked = False
        else:
            self._tracks.add(interest)
            self.watch_tracks()

    def uninterested(self, interest: Interest | TracksInterest) -> None:
        if isinstance(interest, Interest):
            self._interests.discard(interest)
        else:
            self._tracks.discard(interest)
            if interest.names is not None:
                self._interests.discard(interest.names)
            self.watch_tracks()

    def watch_tracks(self) -> None:
        """Ask upstreams for all tracks under the prefixes that are wanted here.

        Prefixes of one session must not overlap (section 10.18), so the shortest stand for all.
        """
        prefixes = {interest.prefix for interest in self._tracks}
        wanted = {
            prefix
            for prefix in prefixes
            if not any(prefix[:length] in prefixes for length in range(len(prefix)))
        }
        for peer, watches in self._watches.items():
            for prefix in watches.keys() - wanted:
                watches.pop(prefix).cancel()
            for prefix in wanted - watches.keys():
                legal = prefix or peer.draft.empty_namespaces
                if legal and self._core.routing.serves(peer, prefix):
                    watches[prefix] = TracksWatch(peer, prefix)

    def upstream_ready(self, peer: Peer) -> None:
        """An upstream can be asked now."""
        for prefix in peer.info.prefixes or ((),):
            if prefix or peer.draft.empty_namespaces:
                Watch(self._core, peer, prefix)
        self._watches[peer] = {}
        self.watch_tracks()
        self.pass_all_on(peer)

    def move(self, interest: Interest, prefix: Namespace) -> None:
        interest.prefix = prefix

    def wanting_tracks(self, namespace: Namespace) -> list[TracksInterest]:
        return [i for i in self._tracks if is_prefix(i.prefix, namespace)]

    def forget_peer(self, peer: Peer) -> None:
        for passed in self._passed.values():
            passed.pop(peer, None)
        self._watches.pop(peer, None)
