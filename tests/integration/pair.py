"""A publisher and its subscribers, for tests with our own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastrelay.client import Client, FetchStream, PublishedTrack, ReceivedObject, Subscription
from fastrelay.moqt import keyvalue
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.names import FullTrackName
from integration.harness import Certificate, RelayProcess, connect

TIMEOUT = 60.0
PROPERTY_VALUES = [(0x10, 2**40 + 1), (0x2001, b"unknown"), (0x7FFF_0001, b"\x00" * 70)]
PROPERTIES = keyvalue.encode(PROPERTY_VALUES, DRAFT_18.varints)
"""One that is known, two that nobody knows, with long varints in them."""


class Pair:
    """A publisher with one track, and any number of other clients."""

    def __init__(self, relay: RelayProcess, certificate: Certificate, name: str) -> None:
        self.relay = relay
        self.options = certificate.client_options
        self.name = FullTrackName((b"test", name.encode()), b"track")

    @asynccontextmanager
    async def client(self, draft: Draft, *, webtransport: bool = False) -> AsyncIterator[Client]:
        url = self.relay.url(webtransport=webtransport)
        async with connect(url, drafts=(draft,), options=self.options) as client:
            assert client.draft is draft
            yield client

    @asynccontextmanager
    async def track(self, draft: Draft) -> AsyncIterator[PublishedTrack]:
        async with self.client(draft) as client:
            track = client.add_track(self.name, keep_groups=10)
            await client.publish_namespace(self.name.namespace)
            yield track


def write_group(track: PublishedTrack, group: int, objects: int = 3) -> None:
    """A whole group; the payloads say where they are from."""
    subgroup = track.open_subgroup(group, properties=True, end_of_group=True)
    for obj in range(objects):
        subgroup.write(b"%d/%d" % (group, obj), properties=PROPERTIES)
    subgroup.close()


async def receive(source: Subscription | FetchStream, count: int) -> list[ReceivedObject]:
    """The next so many objects."""
    objects: list[ReceivedObject] = []
    async with asyncio.timeout(TIMEOUT):
        async for item in source:
            if isinstance(item, ReceivedObject):
                objects.append(item)
                if len(objects) == count:
                    return objects
    raise AssertionError(f"the stream ended after {len(objects)} of {count} objects")


async def everything(source: Subscription | FetchStream) -> list[ReceivedObject]:
    """All objects until the end."""
    async with asyncio.timeout(TIMEOUT):
        return [item async for item in source if isinstance(item, ReceivedObject)]


def places(objects: list[ReceivedObject]) -> list[tuple[int, int]]:
    return [tuple(item.location) for item in objects]  # type: ignore[misc]
