"""One track, its publisher and its members, in the test's own process: every object is checked as
it comes, and each client can be interfered with below its session."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import json
import random
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fastrelay.client import Client, PublishedTrack, ReceivedObject, Subscription
from fastrelay.client.subgroup import Subgroup
from fastrelay.client.values import SubgroupEnd
from fastrelay.local import netns, topology
from fastrelay.local.topology import NODE
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.messages import Parameters
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic import udp
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.connection import Connection
from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.options import QuicOptions
from integration.fastpath.harness import FastRelay, Work
from integration.harness import Certificate, becomes_so, connect

OBJECTS = 6
"""In a group."""
INTERVAL = 0.004
"""Seconds between two objects."""
TIMEOUT = 120.0
LEAST_STREAMS = 0.9
LONG_PACKET = 150
"""Bytes of an IP packet that is more than an acknowledgement."""


@functools.cache
def content(track: str, group: int, obj: int) -> bytes:
    """The payload of an object of a stream: up to three packets."""
    size = 40 + (group * 7919 + obj * 104_729) % 3000
    return hashlib.shake_256(f"{track}/{group}/{obj}".encode()).digest(size)


def datagram(track: str, group: int, obj: int) -> bytes:
    return content(track, group, obj)[:900]


# Below a session


def connection_of(client: Client) -> Connection:
    carrier: Connection = client.transport._carrier  # type: ignore[attr-defined]
    return carrier


def engine_of(client: Client) -> Engine:
    return connection_of(client).engine


def endpoint_of(client: Client) -> Endpoint:
    return connection_of(client)._endpoint


def port_of(client: Client) -> int:
    """The client's own."""
    return endpoint_of(client).address[1]


def rebind(client: Client) -> None:
    """The client goes on from another port, as behind a NAT that has forgotten it."""
    endpoint = endpoint_of(client)
    old = endpoint._socket
    assert old is not None
    sock = udp.connect(
        old._socket.family, old._socket.getpeername(), receive_buffer=1 << 22, send_buffer=1 << 22
    )
    endpoint.loop.remove_reader(old.fileno())
    old.close()
    endpoint._use(sock)


def vanish(client: Client) -> None:
    """The client is gone as if it had been killed: its socket is closed, nobody is told."""
    endpoint = endpoint_of(client)
    endpoint.timers.stop()
    sock = endpoint._socket
    assert sock is not None
    endpoint.loop.remove_reader(sock.fileno())
    sock.send = lambda _datagrams: None  # type: ignore[method-assign]
    sock._socket.close()
    endpoint._socket = None
    connection_of(client).finish(endpoint.loop.time())


class Wire:
    """The way out of a client: remembers what is sent, loses and delays some of it."""

    def __init__(self, client: Client, *, loss: float = 0.0, late: float = 0.0) -> None:
        """``loss``, ``late``: parts of 1; who is late is overtaken by what is sent next."""
        self.sent: list[bytes] = []
        self.lost = self.delayed = 0
        endpoint = endpoint_of(client)
        assert endpoint._socket is not None
        self._endpoint, self._socket = endpoint, endpoint._socket
        self._send = self._socket.send
        self._socket.send = self._take  # type: ignore[method-assign]
        self._loss, self._late = loss, late
        self._random = random.Random(7)

    def _take(self, datagrams: list[tuple[bytes, Any]]) -> None:
        for each in datagrams:
            self.sent.append(each[0])
            chance = self._random.random()
            if chance < self._loss:
                self.lost += 1
            elif chance < self._loss + self._late:
                self.delayed += 1
                self._endpoint.loop.call_later(0.004, self._send_late, each)
            else:
                self._send([each])

    def _send_late(self, each: tuple[bytes, Any]) -> None:
        if self._endpoint._socket is self._socket:
            self._send([each])

    def spare(self) -> socket.socket:
        """One that sends from the same address when the client's own is closed."""
        return self._socket._socket.dup()

    def send_again(self, datagrams: list[bytes]) -> None:
        for each in datagrams:
            self._socket._socket.send(each)


# In the node


def nft(relay: FastRelay, *arguments: str) -> Any:
    """What the node's nftables say, as JSON."""
    namespace = topology.namespace_of(relay.name, NODE)
    command = ["nsenter", f"--net={netns.path(namespace)}", "--", "nft", "-j", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@contextmanager
def forwarding_rules(relay: FastRelay, *rules: str) -> Iterator[Callable[[], int]]:
    """Rules of the node for packets that it forwards; gives what their counters say in sum."""
    table = f"scene{next(_tables)}"
    chain = "type filter hook forward priority filter;"
    text = "\n".join(("chain packets {", chain, *rules, "}"))
    relay.filter(f"table inet {table} {{\n{text}\n}}\n")

    def counted() -> int:
        entries = nft(relay, "list", "table", "inet", table)["nftables"]
        parts = [part for each in entries if "rule" in each for part in each["rule"]["expr"]]
        return sum(part["counter"]["packets"] for part in parts if "counter" in part)

    try:
        yield counted
    finally:
        relay.filter(f"delete table inet {table}\n")


_tables = itertools.count()


def losing(relay: FastRelay, port: int, part: float) -> contextlib.AbstractContextManager[Any]:
    """A client's packets are lost at random, both ways."""
    drop = f"numgen random mod 1000 < {round(part * 1000)} counter drop"
    return forwarding_rules(relay, f"udp dport {port} {drop}", f"udp sport {port} {drop}")


def counting_media_to(
    relay: FastRelay, port: int
) -> contextlib.AbstractContextManager[Callable[[], int]]:
    """Long packets that go to a client's port."""
    return forwarding_rules(relay, f"udp dport {port} meta length > {LONG_PACKET} counter")


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that nobody tells."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {what}"
        await asyncio.sleep(0.01)


# The track


class Source:
    """Writes groups, one after the other, a group a stream, to every publisher there is."""

    def __init__(self, name: str, *, datagrams: bool = False) -> None:
        self.name = name
        self.track = FullTrackName((b"scene", name.encode()), b"track")
        self.group = -1
        """Begun last."""
        self.sent: dict[tuple[int, int], float] = {}
        """``time.monotonic()`` of each object."""
        self.open: list[Subgroup] = []
        self._datagrams = datagrams
        self._tracks: list[PublishedTrack] = []
        self._running = asyncio.Event()
        self._running.set()
        self._between = asyncio.Event()

    async def rest(self) -> None:
        """Stop after the group that is being written."""
        self._running.clear()
        await self._between.wait()

    def go_on(self) -> None:
        self._between.clear()
        self._running.set()

    async def write(self) -> None:
        for group in itertools.count():
            if not self._running.is_set():
                self._between.set()
                await self._running.wait()
            self.group = group
            await (self._write_datagrams(group) if self._datagrams else self._write_stream(group))

    async def _write_stream(self, group: int) -> None:
        self.open = [t.open_subgroup(group, end_of_group=True) for t in self._tracks]
        for obj in range(OBJECTS):
            data = content(self.name, group, obj)
            self.sent[group, obj] = time.monotonic()
            for each in self.open:
                if not each.closed:
                    each.write(data)
            await asyncio.sleep(INTERVAL)
        for each in self.open:
            each.close()

    async def _write_datagrams(self, group: int) -> None:
        for obj in range(OBJECTS):
            data = datagram(self.name, group, obj)
            self.sent[group, obj] = time.monotonic()
            for each in self._tracks:
                each.send_datagram(group, obj, data)
            await asyncio.sleep(INTERVAL)

    def add(self, client: Client, *, alias: int | None = None) -> PublishedTrack:
        if alias is not None:
            client.publisher._next_alias = alias
        track = client.add_track(self.track)
        self._tracks.append(track)
        return track

    def remove(self, track: PublishedTrack) -> None:
        self._tracks.remove(track)


class Member:
    """One subscription. ``excused``: groups that need not be whole."""

    def __init__(self, client: Client, source: Source) -> None:
        self.client = client
        self.fault = ""
        self.subscription: Subscription
        self.excused: set[int] = set()
        self.resets: dict[int, int] = {}
        """Codes of streams that were reset, by group."""
        self.arrived: dict[tuple[int, int], float] = {}
        self.ended = False
        self._source = source
        self._seen: dict[int, set[int]] = defaultdict(set)
        self._first: int | None = None
        self._progress = asyncio.Event()
        self._receiving: asyncio.Task[None] | None = None

    async def subscribe(self, **parameters: Any) -> None:
        """Also again: what was missed in between is nothing missing."""
        wanted = Parameters(**parameters)
        self.subscription = await self.client.subscribe(self._source.track, wanted)
        self.begin_anew()
        self.ended = False
        self._receiving = asyncio.create_task(self._receive(self.subscription))

    def begin_anew(self) -> None:
        """Completeness is asked for from the next group on that begins now."""
        self._first = self._source.group + 2

    async def stop(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)

    async def _receive(self, subscription: Subscription) -> None:
        try:
            async for item in subscription:
                if isinstance(item, ReceivedObject):
                    self._take(item)
                elif item.reset is not None:
                    self._note_reset(item)
        except Exception as error:
            self._fail(f"the subscription broke: {error!r}")
        self.ended = True
        self._progress.set()

    def _fail(self, fault: str) -> None:
        self.fault = self.fault or fault
        self._progress.set()

    def _note_reset(self, end: SubgroupEnd) -> None:
        assert end.reset is not None
        self.resets[end.group_id] = end.reset
        self._progress.set()

    def _take(self, item: ReceivedObject) -> None:
        group, obj = item.location
        if not item.payload and obj >= OBJECTS:
            return  # the end of a group
        make = datagram if item.datagram else content
        if obj in self._seen[group]:
            self._fail(f"object {obj} of group {group} came twice")
        if item.payload != make(self._source.name, group, obj):
            self._fail(f"object {obj} of group {group} differs")
        self._seen[group].add(obj)
        self.arrived[group, obj] = item.received_at
        self._progress.set()

    def latencies(self, first: int, last: int) -> list[float]:
        """Seconds, of what arrived of these groups, smallest first."""
        sent = self._source.sent
        return sorted(at - sent[k] for k, at in self.arrived.items() if first <= k[0] <= last)

    def has(self, group: int) -> bool:
        return len(self._seen.get(group, ())) == OBJECTS

    def objects(self, first: int, last: int) -> int:
        return sum(len(self._seen.get(group, ())) for group in range(first, last + 1))

    async def reach(self, group: int) -> None:
        """Wait for a group, and for all that are before it."""
        async with asyncio.timeout(TIMEOUT):
            while not self.fault and self.missing(group):
                self._progress.clear()
                try:
                    await self._progress.wait()
                except asyncio.CancelledError:
                    self._fail(f"missing: {self.missing(group)}, resets: {self.resets}")
                    break
        assert not self.fault, self.fault
        resets = {g: c for g, c in self.resets.items() if g >= self.first}
        assert resets.keys() <= self.excused, f"reset: {resets}"

    @property
    def first(self) -> int:
        assert self._first is not None
        return self._first

    def missing(self, up_to: int) -> dict[int, list[int]]:
        wanted = set(range(OBJECTS))
        groups = set(range(self.first, up_to + 1)) - self.excused
        return {g: sorted(wanted - self._seen[g]) for g in groups if self._seen[g] != wanted}

    async def complete(self, groups: int) -> None:
        """Wait for so many further groups from now on, and all before."""
        await self.reach(self._source.group + groups)


class Scene:
    """Makes clients. None of them may be closed by anybody but itself."""

    def __init__(
        self,
        relay: FastRelay,
        certificate: Certificate,
        name: str,
        *,
        datagrams: bool = False,
        ipv6: bool = False,
    ) -> None:
        self.relay = relay
        self.ipv6 = ipv6
        self.options = certificate.client_options
        self.source = Source(name, datagrams=datagrams)
        self.members: list[Member] = []
        self._ports: dict[Client, int] = {}
        """Where clients connected from."""

    @asynccontextmanager
    async def client(
        self,
        *,
        draft: Draft = DRAFT_18,
        webtransport: bool = False,
        dies: bool = False,
        **options: Any,
    ) -> AsyncIterator[Client]:
        """``dies``: it may end before the block does. ``options``: of :class:`QuicOptions`."""
        changed: QuicOptions = replace(self.options, **options)
        url = self.relay.url(webtransport=webtransport, ipv6=self.ipv6)
        async with connect(url, drafts=(draft,), options=changed) as client:
            self._ports[client] = port_of(client)
            yield client
            if client.closed and not dies:
                closed = await client.wait_closed()
                raise AssertionError(f"closed with {closed.code}: {closed.reason}")

    @asynccontextmanager
    async def published(self, **options: Any) -> AsyncIterator[Client]:
        """A publisher of the track."""
        async with self.client(**options) as client:
            track = self.source.add(client)
            await client.publish_namespace(self.source.track.namespace)
            try:
                yield client
            finally:
                self.source.remove(track)

    @asynccontextmanager
    async def written(self, **options: Any) -> AsyncIterator[Client]:
        """A publisher, and somebody who writes."""
        async with self.published(**options) as client, self.writing():
            yield client

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """The track goes on, whoever publishes it."""
        task = asyncio.create_task(self.source.write())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                task.result()

    @asynccontextmanager
    async def member(
        self, parameters: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> AsyncIterator[Member]:
        """``parameters``: of its subscription."""
        async with self.client(**options) as client:
            member = Member(client, self.source)
            await member.subscribe(**parameters)
            self.members.append(member)
            try:
                yield member
            finally:
                self.members.remove(member)
                await member.stop()

    async def complete(self, groups: int, *members: Member) -> None:
        """All members, or these, get so many further groups, and have all before."""
        await asyncio.gather(*(m.complete(groups) for m in members or self.members))

    # What the relay says

    def session(self, client: Client) -> dict[str, Any] | None:
        """None: it knows no such client."""
        port = f":{self._ports[client]}"
        sessions = self.relay.status()["sessions"]
        return next((s for s in sessions if str(s["address"]).endswith(port)), None)

    def subscription(self, member: Member) -> dict[str, Any]:
        session = self.session(member.client)
        assert session is not None
        (found,) = session["subscriptions"]
        return dict(found)

    def publishers(self, member: Member) -> list[dict[str, Any]]:
        """Of the track, with an established subscription of the relay's."""
        label = self.subscription(member)["track"]
        track = next(t for t in self.relay.status()["tracks"] if t["track"] == label)
        return [p for p in track["publishers"] if p["state"] == "established"]

    def is_fast(self, member: Member) -> bool:
        """Whether the relay means the kernel to serve it."""
        return not self.subscription(member)["fast_path"]

    def kernel_streams(self, member: Member) -> tuple[int, int]:
        """Streams of the subscription: by the kernel, and all."""
        subscription = self.subscription(member)
        return subscription["kernel_streams"], subscription["streams"]

    async def by_the_kernel(self, groups: int, *members: Member) -> None:
        """So many groups, again and again until nearly all streams of these members, or of all,
        are begun by the kernel."""
        await self.work_by_the_kernel(
            lambda: self.complete(groups, *members), *members or self.members
        )

    async def work_by_the_kernel(self, work: Work, *members: Member) -> None:
        """Do the work until nearly all streams of these members are begun by the kernel
        meanwhile."""

        async def window() -> str:
            before = [self.kernel_streams(member) for member in members]
            with self.relay.counting() as counted:
                await work()
            faults = []
            for member, (kernel, streams) in zip(members, before, strict=True):
                kernel_now, streams_now = self.kernel_streams(member)
                begun, count = kernel_now - kernel, streams_now - streams
                if not count or begun / count < LEAST_STREAMS:
                    place = self.members.index(member)
                    faults.append(f"{begun} of {count} streams of member {place} by the kernel")
            if not faults:
                return ""
            said = [self.session(member.client) for member in members]
            return f"{', '.join(faults)}; {counted}\n{said}\n{self.relay.status()['tracks']}"

        await becomes_so(window)
