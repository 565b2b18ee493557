"""A publisher and a subscriber that behave, beside whatever a test does to the relay."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastrelay.client import Client, ReceivedObject, Subscription
from fastrelay.moqt.names import FullTrackName
from integration.harness import Certificate, RelayProcess, connect

TRACK = FullTrackName((b"bystanders",), b"clock")
OBJECTS_PER_GROUP = 10
INTERVAL = 0.01


def payload(group: int, obj: int) -> bytes:
    return hashlib.shake_256(f"{group}/{obj}".encode()).digest(400)


class Bystanders:
    """``objects`` counts what arrived in good order; anything else ends in ``fault``."""

    def __init__(self) -> None:
        self.objects = 0
        self.fault: str | None = None
        self._progress = asyncio.Event()

    async def undisturbed(self, objects: int = 2 * OBJECTS_PER_GROUP) -> None:
        """Wait for so many more objects; whatever happened, none before may be missing.

        :raises AssertionError: something was missing, doubled or different.
        """
        wanted = self.objects + objects
        async with asyncio.timeout(60):
            while self.objects < wanted and self.fault is None:
                self._progress.clear()
                await self._progress.wait()
        assert self.fault is None, self.fault

    async def receive(self, subscription: Subscription) -> None:
        nexts: dict[int, int] = {}
        try:
            async for item in subscription:
                if not isinstance(item, ReceivedObject):
                    continue
                group, obj = item.location
                if nexts.setdefault(group, 0 if nexts else obj) != obj:
                    self.fault = f"object {obj} of group {group} instead of {nexts[group]}"
                elif item.payload != payload(group, obj):
                    self.fault = f"object {obj} of group {group} differs"
                nexts[group] = obj + 1
                self.objects += 1
                self._progress.set()
            self.fault = f"the subscription ended: {subscription.done}"
        except Exception as error:
            self.fault = f"the subscription broke: {error!r}"
        self._progress.set()


async def publish(client: Client) -> None:
    track = client.add_track(TRACK)
    await client.publish_namespace(TRACK.namespace)
    for group in itertools.count():
        subgroup = track.open_subgroup(group, end_of_group=True)
        for obj in range(OBJECTS_PER_GROUP):
            subgroup.write(payload(group, obj))
            await asyncio.sleep(INTERVAL)
        subgroup.close()


@asynccontextmanager
async def bystanders(relay: RelayProcess, certificate: Certificate) -> AsyncIterator[Bystanders]:
    """Both run for the time of the block, and must be well at its end."""
    options = certificate.client_options
    async with connect(relay.url(), options=options) as source:
        publishing = asyncio.create_task(publish(source))
        async with connect(relay.url(webtransport=True), options=options) as sink:
            watched = Bystanders()
            subscription = await sink.subscribe(TRACK)
            receiving = asyncio.create_task(watched.receive(subscription))
            await watched.undisturbed(1)
            yield watched
            await watched.undisturbed()
            receiving.cancel()
        publishing.cancel()
