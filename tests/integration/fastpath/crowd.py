"""Many members of three tracks, in the test's own process: what they get is held against what was
written, stream by stream and datagram by datagram.

One track has long streams (a group a stream, many objects), one a stream for each object, one
datagrams. Time is counted in *ticks*: one object on each of the tracks. Writing waits for the
slowest member's streams, so that a busy machine makes a run longer, not different.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoContext, CryptoPair

from fastrelay.client import Client, PublishedTrack, ReceivedObject, Subscription
from fastrelay.client.subgroup import Subgroup
from fastrelay.moqt.drafts import DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.names import FullTrackName
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import Wire, endpoint_of, engine_of, losing, port_of
from integration.harness import Certificate, connect

LONG, SHORT, DATAGRAMS = "long", "short", "datagrams"
STREAM_TRACKS = (LONG, SHORT)
GROUP = 24
"""Ticks of a group, on all tracks."""
AHEAD = 48
"""Ticks that may be written before the slowest member has them."""
INTERVAL = 0.012
"""Seconds between two ticks, at least."""
LATE = 0.004
"""Seconds that a packet is late which others are to overtake."""
STALLED = 120.0
"""Seconds without a tick, on any machine: it does not go on."""


@functools.cache
def content(track: str, group: int, obj: int) -> bytes:
    """The payload of an object: of streams up to three packets."""
    size = 30 + (group * 7919 + obj * 104_729) % (800 if track == DATAGRAMS else 2500)
    return hashlib.shake_256(f"{track}/{group}/{obj}".encode()).digest(size)


class LateArrivals:
    """Some of what comes to a client comes later, and is overtaken."""

    def __init__(self, client: Client, part: float, seed: int) -> None:
        self.delayed = 0
        self._endpoint = endpoint_of(client)
        sock = self._endpoint._socket
        assert sock is not None
        self._socket, self._receive = sock, sock.receive
        sock.receive = self._take  # type: ignore[method-assign]
        self.part, self._random = part, random.Random(seed)
        self._due: list[Any] = []

    def _take(self) -> list[Any]:
        batch, self._due = self._due, []
        for each in self._receive():
            if self._random.random() < self.part:
                self.delayed += 1
                self._endpoint.loop.call_later(LATE, self._arrive, each)
            else:
                batch.append(each)
        return batch

    def _arrive(self, each: Any) -> None:
        if self._endpoint._socket is self._socket:
            self._due.append(each)
            self._endpoint._on_readable()


class PatientKeys(CryptoPair):
    """For reading, those of earlier phases are kept. aioquic forgets them at once, and a client
    that has new ones loses what is on its way to it: streams are repaired, datagrams are gone.
    Where both sides renew keys, and copies wait in the queue of a busy CPU while other packets go
    by another one, that may be two phases old."""

    def __init__(self, pair: CryptoPair) -> None:
        super().__init__()
        self.recv, self.send = pair.recv, pair.send
        self._earlier = deque[CryptoContext](maxlen=3)
        """The last one first."""

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        where = packet, encrypted_offset, expected_packet_number
        try:
            return super().decrypt_packet(*where)
        except CryptoError:
            for keys in self._earlier:
                with suppress(CryptoError):
                    return keys.decrypt_packet(*where)[:3]
            raise

    def _update_key(self, trigger: str) -> None:
        self._earlier.appendleft(copy(self.recv))
        super()._update_key(trigger)


@dataclass(frozen=True)
class Terms:
    """How a client is connected. ``loss``: on its link, both ways. ``late_in``, ``late_out``: of
    the packets to and from it. All parts of 1."""

    draft: Draft = DRAFT_18
    webtransport: bool = False
    loss: float = 0.0
    late_in: float = 0.0
    late_out: float = 0.0


def members(count: int, *, bad: bool) -> list[Terms]:
    """Members of all kinds; ``bad``: some of them on links that lose or reorder."""
    made = []
    for number in range(count):
        loss = 0.05 if bad and number % 6 == 0 else 0.0
        late = 0.05 if bad and number % 6 == 3 else 0.0
        draft = DRAFT_22 if number % 3 == 1 else DRAFT_18
        made.append(Terms(draft, bool(number % 2), loss, late, late / 2))
    return made


class Writer:
    """Writes the tracks, and says how far it is."""

    def __init__(self) -> None:
        self.ticks = 0
        self.written = Counter[str]()
        """Objects, by track."""
        self.lacking: Callable[[Counter[str]], int] = lambda _: 0
        """Of so many stream objects: how many the slowest member has not got."""
        self.ahead = AHEAD
        self.subgroups: dict[str, dict[tuple[int, int], int]] = {n: {} for n in STREAM_TRACKS}
        """Objects of each finished subgroup: by group and subgroup."""
        self.datagrams: set[tuple[int, int]] = set()
        self.changed = asyncio.Condition()
        self._tracks: dict[str, PublishedTrack] = {}
        self._long: Subgroup | None = None
        self._stop = False

    def add(self, name: str, client: Client, track: FullTrackName) -> None:
        self._tracks[name] = client.add_track(track)

    async def write(self) -> None:
        """Until :meth:`stop`; all streams are finished then."""
        while not self._stop:
            async with asyncio.timeout(STALLED), self.changed:
                await self.changed.wait_for(lambda: self.lacking(self.written) < self.ahead)
            self._tick(*divmod(self.ticks, GROUP))
            async with self.changed:
                self.ticks += 1
                self.changed.notify_all()
            await asyncio.sleep(INTERVAL)
        self._finish_long(*divmod(self.ticks, GROUP))

    def stop(self) -> None:
        self._stop = True

    def end(self) -> None:
        for track in self._tracks.values():
            track.end()

    async def pass_by(self, ticks: int) -> None:
        """Wait until so many more ticks are written."""
        wanted = self.ticks + ticks
        async with self.changed:
            await self.changed.wait_for(lambda: self.ticks >= wanted)

    async def progressed(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def open_short(self, count: int) -> list[Subgroup]:
        """Begin so many streams at once, with an object each; for :meth:`close_short`."""
        group = self.ticks // GROUP
        opened = []
        for number in range(count):
            subgroup = self._tracks[SHORT].open_subgroup(group, 1000 + 10 * number)
            self._write_short(subgroup)
            opened.append(subgroup)
        return opened

    def close_short(self, opened: Sequence[Subgroup]) -> None:
        """With one object more."""
        for subgroup in opened:
            self._write_short(subgroup)
            subgroup.close()

    def _write_short(self, subgroup: Subgroup) -> None:
        group, first, count = subgroup.group_id, subgroup.subgroup_id, len(subgroup.objects)
        subgroup.write(content(SHORT, group, first + count))
        self.subgroups[SHORT][group, first] = count + 1
        self.written[SHORT] += 1

    def _tick(self, group: int, obj: int) -> None:
        if obj == 0:
            self._finish_long(group, GROUP if group else 0)
            self._long = self._tracks[LONG].open_subgroup(group)
        assert self._long is not None
        self._long.write(content(LONG, group, obj))
        self.written[LONG] += 1
        alone = self._tracks[SHORT].open_subgroup(group, obj)
        self._write_short(alone)
        alone.close()
        self._tracks[DATAGRAMS].send_datagram(group, obj, content(DATAGRAMS, group, obj))
        self.datagrams.add((group, obj))

    def _finish_long(self, group: int, objects: int) -> None:
        if self._long is not None:
            self._long.close()
            written = len(self._long.objects)
            self.subgroups[LONG][self._long.group_id, 0] = written
            self._long = None


class Member:
    """Somebody who wants all three tracks."""

    def __init__(self, number: int, client: Client, terms: Terms, writer: Writer) -> None:
        self.number, self.client, self.terms = number, client, terms
        self.faults: list[str] = []
        self.received = Counter[str]()
        self.datagrams = Counter[tuple[int, int]]()
        self._writer = writer
        self._objects: dict[str, dict[tuple[int, int], list[int]]] = {
            name: defaultdict(list) for name in STREAM_TRACKS
        }
        self._ends: dict[str, Counter[tuple[int, int]]] = {n: Counter() for n in STREAM_TRACKS}
        self._subscriptions: dict[str, Subscription] = {}
        self._reading: list[asyncio.Task[None]] = []

    async def subscribe(self, name: str, track: FullTrackName) -> None:
        subscription = self._subscriptions[name] = await self.client.subscribe(track)
        self._reading.append(asyncio.create_task(self._read(name, subscription)))

    def lacking(self, written: Counter[str]) -> int:
        """Of so many objects of streams; 0 or less: it has them."""
        return max(written[name] - self.received[name] for name in STREAM_TRACKS)

    def missing(self) -> str:
        """What has not come, for people."""
        lacks = {
            f"{name} {group}/{subgroup}": f"{len(got)} of {count}"
            for name, subgroups in self._writer.subgroups.items()
            for (group, subgroup), count in subgroups.items()
            if len(got := self._objects[name].get((group, subgroup), [])) != count
        }
        return f"member {self.number} ({self.terms}, from {port_of(self.client)}): {lacks}"

    async def finished(self) -> None:
        """All subscriptions have ended."""
        await asyncio.gather(*self._reading)

    def cancel(self) -> None:
        for task in self._reading:
            task.cancel()

    async def _read(self, name: str, subscription: Subscription) -> None:
        async for item in subscription:
            if isinstance(item, ReceivedObject):
                self._take(name, item)
                await self._writer.progressed()
            elif item.reset is not None:
                self.faults.append(f"{name}: {item} was reset with {item.reset}")
            else:
                self._ends[name][item.group_id, item.subgroup_id or 0] += 1

    def _take(self, name: str, item: ReceivedObject) -> None:
        group, obj = item.location
        if item.payload != content(name, group, obj):
            self.faults.append(f"{name}: object {group}/{obj} differs")
        if item.datagram:
            self.datagrams[group, obj] += 1
        else:
            self.received[name] += 1
            self._objects[name][group, item.subgroup_id].append(obj)

    def check(self, *, every_datagram: bool) -> None:
        """When everything has ended: nothing is missing, nothing came twice.

        :raises AssertionError: something did.
        """
        me = f"member {self.number} ({self.terms})"
        assert not self.faults, f"{me}: {self.faults[:5]}"
        for name, subgroups in self._writer.subgroups.items():
            got, ends = self._objects[name], self._ends[name]
            for (group, subgroup), count in subgroups.items():
                wanted = list(range(subgroup, subgroup + count))
                found = got.get((group, subgroup), [])
                assert found == wanted, f"{me}: {name} {group}/{subgroup}: {found}"
                assert ends[group, subgroup] == 1, f"{me}: {name} {group}/{subgroup}: no end"
            assert got.keys() == subgroups.keys(), f"{me}: {name}: more than was written"
            subscription = self._subscriptions[name]
            seen, done = subscription._streams_seen, subscription.done
            assert seen == len(subgroups), f"{me}: {name}: {seen} streams, not {len(subgroups)}"
            assert done is not None
            assert done.stream_count == seen, f"{me}: {name}: {seen} streams, said was {done}"
        assert self.datagrams.keys() <= self._writer.datagrams, f"{me}: datagrams from nowhere"
        twice = [key for key, count in self.datagrams.items() if count > 1]
        assert not twice, f"{me}: datagrams came twice: {twice[:10]}"
        if every_datagram and not self.terms.loss:
            missing = sorted(self._writer.datagrams - self.datagrams.keys())
            assert not missing, f"{me}: {len(missing)} datagrams are missing: {missing[:10]}"


class Crowd:
    """The whole: publishers, members, and what is done to them."""

    def __init__(self, relay: FastRelay, certificate: Certificate, name: str) -> None:
        self.relay = relay
        self.writer = Writer()
        self.members: list[Member] = []
        self.publishers: list[Client] = []
        self._certificate = certificate
        self._namespace = (b"crowd", name.encode())
        self._links = AsyncExitStack()
        """What makes links bad."""

    @property
    def clients(self) -> list[Client]:
        return [*self.publishers, *(member.client for member in self.members)]

    @asynccontextmanager
    async def gathered(
        self,
        terms: Sequence[Terms],
        *,
        streams: Terms = Terms(),
        datagrams: Terms = Terms(),
        every_datagram: bool = True,
    ) -> AsyncIterator[None]:
        """Everybody is connected and has subscribed; writing has begun. The block is left when
        everything that was written has been checked at every member.

        ``streams``, ``datagrams``: of the publishers of such tracks. ``every_datagram``: also
        these arrive where the link loses nothing.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._links)
            one = await self._connect(stack, streams)
            other = await self._connect(stack, datagrams)
            self.publishers = [one, other]
            for name, client in ((LONG, one), (SHORT, one), (DATAGRAMS, other)):
                track = self._track(name)
                self.writer.add(name, client, track)
                await client.publish_namespace(track.namespace)
            for number, each in enumerate(terms):
                client = await self._connect(stack, each)
                member = Member(number, client, each, self.writer)
                stack.callback(member.cancel)
                for name in (LONG, SHORT, DATAGRAMS):
                    await member.subscribe(name, self._track(name))
                self.members.append(member)
            self.writer.lacking = lambda written: max(m.lacking(written) for m in self.members)
            writing = asyncio.create_task(self.writer.write())
            try:
                yield
                self.writer.stop()
                await writing
            finally:
                writing.cancel()
                with suppress(asyncio.CancelledError):
                    await writing
            await self.arrived()
            self.writer.end()
            async with asyncio.timeout(STALLED):
                await asyncio.gather(*(member.finished() for member in self.members))
            for member in self.members:
                member.check(every_datagram=every_datagram)
            for client in self.clients:
                assert not client.closed, await client.wait_closed()

    async def mend(self) -> None:
        """From now on no link loses or reorders anything."""
        await self._links.aclose()

    async def settle(self) -> None:
        """All that began in troubled times is over: streams, and what they left behind."""
        await self.writer.pass_by(3 * GROUP)
        await self.arrived()

    async def arrived(self) -> None:
        """Until every member has got as many objects of streams as are written now."""
        written = self.writer.written.copy()
        try:
            async with asyncio.timeout(STALLED), self.writer.changed:
                await self.writer.changed.wait_for(lambda: self.writer.lacking(written) <= 0)
        except TimeoutError:
            waiting = [each.missing() for each in self.members if each.lacking(written) > 0]
            raise AssertionError(f"nothing more comes: {waiting}; {self.relay.status()}") from None

    def _track(self, name: str) -> FullTrackName:
        namespace = (*self._namespace, b"datagrams" if name == DATAGRAMS else b"streams")
        return FullTrackName(namespace, name.encode())

    async def _connect(self, stack: AsyncExitStack, terms: Terms) -> Client:
        url = self.relay.url(webtransport=terms.webtransport)
        options = self._certificate.client_options
        client = await stack.enter_async_context(
            connect(url, drafts=(terms.draft,), options=options)
        )
        pair = engine_of(client)._one_rtt
        assert pair is not None
        engine_of(client)._use_keys(PatientKeys(pair))
        if terms.loss:
            self._links.enter_context(losing(self.relay, port_of(client), terms.loss))
        if terms.late_out:
            wire = Wire(client, late=terms.late_out)
            self._links.callback(setattr, wire, "_late", 0.0)
        if terms.late_in:
            arrivals = LateArrivals(client, terms.late_in, port_of(client))
            self._links.callback(setattr, arrivals, "part", 0.0)
        return client
