"""A publisher whose every byte is known, and subscribers that hold what they get against it."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastrelay.client import Client, PublishedTrack, ReceivedObject, Subscription
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.names import FullTrackName
from integration.fastpath.harness import FastRelay
from integration.harness import Certificate, connect
from integration.third_party.content import OBJECTS_PER_GROUP, payload

INTERVAL = 0.004
"""Seconds between two objects."""
TIMEOUT = 120.0


class Broadcast:
    """One track, published until the block ends, a group a stream."""

    def __init__(
        self, name: str, relay: FastRelay, certificate: Certificate, *, encryption: bool = True
    ) -> None:
        """``encryption``: False: its clients ask to do without."""
        self.track = FullTrackName((b"fast", name.encode()), b"video")
        self.groups = 0
        """Begun so far."""
        self._relay = relay
        self._options = replace(certificate.client_options, encryption=encryption)

    @asynccontextmanager
    async def client(self, draft: Draft, *, webtransport: bool) -> AsyncIterator[Client]:
        url = self._relay.url(webtransport=webtransport)
        async with connect(url, drafts=(draft,), options=self._options) as client:
            yield client

    @asynccontextmanager
    async def published(self, draft: Draft, *, webtransport: bool = False) -> AsyncIterator[None]:
        async with self.client(draft, webtransport=webtransport) as client:
            track = client.add_track(self.track)
            await client.publish_namespace(self.track.namespace)
            publishing = asyncio.create_task(self._publish(track))
            try:
                yield
            finally:
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)

    async def _publish(self, track: PublishedTrack) -> None:
        for group in itertools.count():
            self.groups = group + 1
            subgroup = track.open_subgroup(group, end_of_group=True)
            for obj in range(OBJECTS_PER_GROUP):
                subgroup.write(payload("video", group, obj))
                await asyncio.sleep(INTERVAL)
            subgroup.close()

    @asynccontextmanager
    async def watched(self, draft: Draft, *, webtransport: bool = False) -> AsyncIterator[Watcher]:
        async with self.client(draft, webtransport=webtransport) as client:
            watcher = Watcher(await client.subscribe(self.track))
            receiving = asyncio.create_task(watcher.receive())
            try:
                yield watcher
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)


class Watcher:
    """Checks each object as it comes; :meth:`complete` waits for whole groups."""

    def __init__(self, subscription: Subscription) -> None:
        self.fault = ""
        self._subscription = subscription
        self._seen: dict[int, set[int]] = defaultdict(set)
        self._progress = asyncio.Event()

    async def receive(self) -> None:
        try:
            async for item in self._subscription:
                if isinstance(item, ReceivedObject):
                    self._take(item)
            self.fault = self.fault or f"the subscription ended: {self._subscription.done}"
        except Exception as error:
            self.fault = self.fault or f"the subscription broke: {error!r}"
        self._progress.set()

    def _take(self, item: ReceivedObject) -> None:
        group, obj = item.location
        if not item.payload and obj >= OBJECTS_PER_GROUP:
            return  # the end of a group
        if obj in self._seen[group]:
            self.fault = self.fault or f"object {obj} of group {group} came twice"
        if item.payload != payload("video", group, obj):
            self.fault = self.fault or f"object {obj} of group {group} differs"
        self._seen[group].add(obj)
        self._progress.set()

    @property
    def last(self) -> int:
        """The newest group that is all there; -1: none."""
        return max(
            (g for g, objs in self._seen.items() if len(objs) == OBJECTS_PER_GROUP), default=-1
        )

    async def complete(self, groups: int) -> None:
        """Wait for so many further groups, and for all from the second one on that was seen:
        groups overtake each other.

        :raises AssertionError: something is missing, doubled or different.
        """
        wanted = max(self._seen, default=0) + groups
        try:
            async with asyncio.timeout(TIMEOUT):
                while not self.fault and (self.last < wanted or self._missing(wanted)):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            missing = self._missing(wanted)
            self.fault = f"waited {TIMEOUT:g} s: {self.last} of {wanted}, missing: {missing}"
        assert not self.fault, self.fault

    def _missing(self, up_to: int) -> dict[int, list[int]]:
        expected = set(range(OBJECTS_PER_GROUP))
        return {
            group: sorted(expected - self._seen[group])
            for group in range(min(self._seen, default=up_to) + 1, up_to + 1)
            if self._seen[group] != expected
        }
