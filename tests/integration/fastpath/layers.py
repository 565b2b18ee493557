"""Audio, and video in three layers of falling priority, for members behind a bottleneck; and what
they got of it."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastrelay.client import PublishedTrack
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.names import FullTrackName, parse_namespace
from integration.fastpath import bulk
from integration.fastpath.harness import FastRelay
from integration.fastpath.timed import FRAMES_PER_SECOND, write_groups
from integration.harness import THIRD_PARTY, Certificate, connect, third_party_python
from integration.third_party.content import layer_payload

TESTS = Path(__file__).parents[2]
WATCHER = "integration.fastpath.layers_watcher"
RESET = "reset"
"""In the place of bytes."""
KEY_FRAME = 3
"""How many times as large as another frame the first one of a group is."""
LARGEST_DATAGRAM = 1000
PARTS = 32
"""Datagrams of one frame, at most."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A track: publisher priority, bits a second, frames of the same size or with key frames."""

    name: str
    priority: int
    bits: int
    even: bool = False


LAYERS = (
    Layer("audio", 16, 128_000, even=True),
    Layer("base", 64, 1_000_000),
    Layer("middle", 160, 1_300_000),
    Layer("high", 224, 1_600_000),
)
"""Each in a band of its own; 4 Mbit/s in all."""


@dataclass(frozen=True, slots=True)
class Content:
    """``group_seconds``: how long a group of all layers is; they begin together."""

    layers: tuple[Layer, ...] = LAYERS
    group_seconds: float = 1.0
    datagrams: bool = False

    @property
    def frames(self) -> int:
        """In a group."""
        return round(self.group_seconds * FRAMES_PER_SECOND)

    def size(self, layer: Layer, frame: int) -> int:
        """Bytes."""
        whole = layer.bits / 8 * self.group_seconds
        if layer.even:
            return round(whole / self.frames)
        return round(whole / (self.frames - 1 + KEY_FRAME) * (1 if frame else KEY_FRAME))

    def objects(self, layer: Layer, frame: int) -> list[tuple[int, int]]:
        """Number and size of those that a frame consists of."""
        size = self.size(layer, frame)
        if not self.datagrams:
            return [(frame, size)]
        parts = -(-size // LARGEST_DATAGRAM)
        assert parts <= PARTS
        return [(frame * PARTS + part, size // parts) for part in range(parts)]

    def whole(self, layer: Layer) -> set[int]:
        """The numbers of a group's objects."""
        frames = range(self.frames)
        return {number for frame in frames for number, _ in self.objects(layer, frame)}

    def frame_of(self, number: int) -> int:
        return number // PARTS if self.datagrams else number


@dataclass
class Published:
    """``times``: of each frame, by group and number, in seconds of the monotonic clock."""

    content: Content
    times: dict[tuple[int, int], float] = field(default_factory=dict)

    def groups(self) -> int:
        """Begun so far."""
        return max((group for group, _ in self.times), default=-1) + 1


@asynccontextmanager
async def published(
    relay: FastRelay,
    certificate: Certificate,
    namespace: str,
    content: Content,
    *,
    draft: Draft = DRAFT_18,
) -> AsyncIterator[Published]:
    """In real time until the block ends."""
    found = Published(content)
    parsed = parse_namespace(namespace)
    async with connect(relay.url(), drafts=(draft,), options=certificate.client_options) as client:
        tracks = {
            layer: client.add_track(
                FullTrackName(parsed, layer.name.encode()), priority=layer.priority
            )
            for layer in content.layers
        }
        await client.publish_namespace(parsed)
        task = asyncio.create_task(_publish(tracks, found))
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _publish(tracks: dict[Layer, PublishedTrack], found: Published) -> None:
    content = found.content

    def frame(layer: Layer, group: int, number: int) -> list[tuple[int, bytes]]:
        return [
            (number, layer_payload(layer.name, group, number, size))
            for number, size in content.objects(layer, number)
        ]

    await write_groups(tracks, content.frames, frame, found.times, datagrams=content.datagrams)


@dataclass
class Got:
    """What a client got of a layer, group by group."""

    whole: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    """Nothing of them came."""
    cut: list[int] = field(default_factory=list)
    """Neither."""
    stalled: list[int] = field(default_factory=list)
    """Of the cut ones: nobody said that no more comes."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, of all objects, smallest first."""

    def latency(self, part: float) -> float:
        """That so great a part of the objects were quicker than; ``inf``: there are none."""
        last = len(self.latencies) - 1
        return self.latencies[round(last * part)] if last >= 0 else float("inf")


@dataclass(slots=True)
class Watchers:
    """Clients in one pod; what they have noted. ``pid``: their process. ``must_live``: its end
    before that of the block is an error."""

    pod: str
    notes: Path
    pid: int
    must_live: bool = True

    def lines(self) -> Iterator[tuple[int, str, int, int, str, float]]:
        """Client, track, group, number, bytes or ``reset``, seconds.

        :raises AssertionError: an object is not as it was sent.
        """
        if not self.notes.exists():
            return
        with self.notes.open() as file:
            for line in file:
                if line.endswith("\n"):
                    assert not line.startswith("fault"), line
                    place, track, group, number, size, at = line.split()
                    yield int(place), track, int(group), int(number), size, float(at)

    def newest(self, track: str, client: int = 0) -> int:
        """The last group of which something came; -1: none."""
        return max(
            (g for c, t, g, _, _, at in self.lines() if (c, t) == (client, track) and at),
            default=-1,
        )

    def got(self, source: Published, first: int, last: int) -> dict[tuple[int, str], Got]:
        """Of these groups, by client and layer."""
        content = source.content
        seen: dict[tuple[int, str], dict[int, dict[int, float]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        clients = set()
        reset = set()
        for client, track, group, number, _, at in self.lines():
            clients.add(client)
            if not at:
                reset.add((client, track, group))
            elif first <= group <= last:
                numbers = seen[client, track][group]
                assert number not in numbers, f"{track} {group} {number} came twice to {client}"
                numbers[number] = at
        found = {}
        for client in clients:
            for layer in content.layers:
                found[client, layer.name] = got = Got()
                wanted = content.whole(layer)
                groups = seen[client, layer.name]
                for group in range(first, last + 1):
                    numbers = groups.get(group, {})
                    kind = got.cut if numbers else got.dropped
                    (got.whole if numbers.keys() == wanted else kind).append(group)
                    is_cut = numbers and numbers.keys() != wanted
                    if is_cut and (client, layer.name, group) not in reset:
                        got.stalled.append(group)
                    for number, at in numbers.items():
                        sent = source.times[group, content.frame_of(number)]
                        got.latencies.append(at - sent)
                got.latencies.sort()
        return found

    def bytes(self, begin: float, end: float) -> dict[int, int]:
        """Of payload that came in this time, by client."""
        found: dict[int, int] = defaultdict(int)
        for client, _, _, _, size, at in self.lines():
            if begin <= at < end:
                found[client] += int(size)
        return found


@contextmanager
def watching(
    relay: FastRelay,
    certificate: Certificate,
    pod: str,
    namespace: str,
    tracks: tuple[str, ...],
    *,
    clients: int = 1,
    draft: Draft = DRAFT_18,
    webtransport: bool = False,
    library: str = "",
) -> Iterator[Watchers]:
    """Subscribers in this pod, until the block ends; ``library``: one that somebody else wrote
    instead, raw QUIC, which does not note resets."""
    notes = relay.stack.directory / f"{pod}.{namespace.replace('/', '-')}.notes"
    url, names = relay.stack.url(webtransport=webtransport), ",".join(tracks)
    if library:
        script = str(THIRD_PARTY / f"{library}_layers.py")
        command = [third_party_python(), script, url, str(draft.number), namespace, names]
    else:
        # They import what the tests do.
        command = ["env", f"PYTHONPATH={TESTS}", sys.executable, "-m", WATCHER, url]
        command += [certificate.sha256.hex(), namespace, names, str(draft.number), str(clients)]
    with relay.running(pod, [*command, str(notes)]) as process:
        watchers = Watchers(pod, notes, process.pid)
        yield watchers
        if watchers.must_live:
            assert process.poll() is None, (relay.stack.directory / f"{pod}.log").read_text()


@dataclass(frozen=True, slots=True)
class Transfer:
    """``notes``: lines of seconds of the monotonic clock and bytes received so far."""

    notes: Path

    def rate(self, begin: float, end: float) -> float:
        """Bytes a second in this time; 0: nothing is known of it."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        points = [(float(at), int(size)) for at, size in (line.split() for line in lines)]
        points = [point for point in points if begin <= point[0] <= end]
        if len(points) < 2:
            return 0.0
        (first, before), (last, after) = points[0], points[-1]
        return (after - before) / (last - first)


@contextmanager
def bulk_transfer(
    relay: FastRelay, source: str, target: str, controller: str = "cubic"
) -> Iterator[Transfer]:
    """TCP from pod to pod, as fast as it goes with that congestion controller, until the block
    ends."""
    notes = relay.stack.directory / f"bulk-{target}-{controller}.notes"
    address = relay.stack.state.pods[target].ipv4
    with (
        relay.running(target, [sys.executable, bulk.__file__, "receive", str(notes)]),
        relay.running(source, [sys.executable, bulk.__file__, "send", address, controller]),
    ):
        yield Transfer(notes)
