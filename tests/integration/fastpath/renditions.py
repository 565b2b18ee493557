"""A live content in several renditions, members in pods that get the relay's choice of them, and
links that change their rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from fastrelay.catalog import MSF_TRACK, Catalog, CatalogTrack, Kind, Packaging, build_msf
from fastrelay.client import Client, PublishedTrack
from fastrelay.local import shaping, topology
from fastrelay.local.topology import NODE
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.names import FullTrackName, Namespace
from integration.fastpath import layers
from integration.fastpath.harness import FastRelay
from integration.fastpath.layers import RESET, Watchers
from integration.fastpath.timed import FRAMES_PER_SECOND, write_groups
from integration.harness import Certificate, connect
from integration.third_party.content import layer_payload

KEY_FRAME = 4
"""How many times as large as another frame the first one of a group is."""
ALT_GROUP = 1
CATALOG_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Bits a second of each rendition, the smallest first; and how long a group is."""

    bits: dict[str, int]
    group_seconds: float

    @property
    def frames(self) -> int:
        """In a group."""
        return round(self.group_seconds * FRAMES_PER_SECOND)

    def size(self, name: str, number: int) -> int:
        """Bytes of a frame."""
        shares = self.frames - 1 + KEY_FRAME
        share = self.bits[name] / 8 * self.group_seconds / shares
        return round(share * (1 if number else KEY_FRAME))

    def catalog(self) -> bytes:
        return build_msf(
            Catalog(
                tuple(
                    CatalogTrack(
                        name,
                        Kind.VIDEO,
                        Packaging.LOC,
                        "avc3.4D401F",
                        bitrate=bits,
                        alt_group=ALT_GROUP,
                    )
                    for name, bits in self.bits.items()
                )
            )
        )


@asynccontextmanager
async def published(
    relay: FastRelay,
    certificate: Certificate,
    namespace: Namespace,
    ladder: Ladder,
    *,
    draft: Draft = DRAFT_18,
) -> AsyncIterator[dict[tuple[int, int], float]]:
    """Publishes in real time until the block ends; the value has the time of each frame, by group
    and number (seconds of the monotonic clock)."""
    times: dict[tuple[int, int], float] = {}
    options = certificate.client_options
    async with connect(relay.url(), drafts=(draft,), options=options) as client:
        tasks = [
            asyncio.create_task(each)
            for each in (
                _publish(client, namespace, ladder, times),
                _tell(client.add_track(FullTrackName(namespace, MSF_TRACK)), ladder.catalog()),
            )
        ]
        await client.publish_namespace(namespace)
        try:
            yield times
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(track: PublishedTrack, catalog: bytes) -> None:
    for group in count():
        subgroup = track.open_subgroup(group, end_of_group=True)
        subgroup.write(catalog)
        subgroup.close()
        await asyncio.sleep(CATALOG_SECONDS)


async def _publish(
    client: Client, namespace: Namespace, ladder: Ladder, times: dict[tuple[int, int], float]
) -> None:
    tracks = {
        # The smallest is the most important one, as the broadcast's own publisher has it.
        name: client.add_track(FullTrackName(namespace, name.encode()), priority=64 + 32 * step)
        for step, name in enumerate(ladder.bits)
    }

    def frame(name: str, group: int, number: int) -> list[tuple[int, bytes]]:
        return [(number, layer_payload(name, group, number, ladder.size(name, number)))]

    await write_groups(tracks, ladder.frames, frame, times)


@dataclass(slots=True)
class Watcher:
    """A subscriber in a pod."""

    watchers: Watchers
    ladder: Ladder

    @property
    def pod(self) -> str:
        return self.watchers.pod

    def renditions(self) -> dict[int, str]:
        """Of each group that is whole, in the order of groups.

        :raises AssertionError: an object differs or came twice, a group is of two renditions, or
            a stream was reset.
        """
        seen: dict[int, dict[int, str]] = {}
        for line in self.watchers.lines():
            _, name, group_id, number, size, _ = line
            assert size != RESET, line
            group = seen.setdefault(group_id, {})
            assert number not in group, f"twice: {line}"
            group[number] = name
        assert all(len(set(group.values())) == 1 for group in seen.values()), "mixed groups"
        return {g: seen[g][0] for g in sorted(seen) if len(seen[g]) == self.ladder.frames}

    def missing(self, up_to: int) -> list[int]:
        """Groups that are not whole (yet), from the second one on that was seen: the first may
        have begun before."""
        whole = self.renditions()
        return sorted(set(range(min(whole, default=up_to) + 1, up_to + 1)) - set(whole))


@contextmanager
def watching(
    relay: FastRelay,
    certificate: Certificate,
    pod: str,
    namespace: str,
    track: str,
    ladder: Ladder,
    **options: Any,
) -> Iterator[Watcher]:
    """A subscriber in this pod, until the block ends; ``options``: as for layers."""
    with layers.watching(relay, certificate, pod, namespace, (track,), **options) as watchers:
        yield Watcher(watchers, ladder)


def set_rate(relay: FastRelay, pod: str, bits: float) -> None:
    """What the pod's link carries towards it, from now on."""
    shaping.change_rate(topology.namespace_of(relay.name, NODE), pod, bits)
