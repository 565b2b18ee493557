"""What happens to connections while the kernel sends on them and reads from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from fastrelay.client import Client
from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.messages import Parameters
from integration.fastpath.harness import FastRelay
from integration.fastpath.scene import (
    Member,
    Scene,
    connection_of,
    counting_media_to,
    engine_of,
    port_of,
    rebind,
    until,
    vanish,
)
from integration.fastpath.scripted import NEW_CONNECTION_IDS, NEW_KEYS
from integration.harness import Certificate, becomes_so


@dataclass
class Show:
    """A publisher, a raw member, one on WebTransport, and one that tests do things to."""

    scene: Scene
    publisher: Client
    near: Member
    web: Member
    subject: Member
    stack: AsyncExitStack

    @property
    def relay(self) -> FastRelay:
        return self.scene.relay

    @property
    def clients(self) -> list[Client]:
        return [self.publisher, *(member.client for member in self.scene.members)]

    @property
    def others(self) -> tuple[Member, Member]:
        return self.near, self.web

    async def as_before(self, groups: int = 10) -> None:
        """Everybody has everything, and the kernel forwards to everybody."""
        members = self.scene.members
        await until(lambda: all(map(self.scene.is_fast, members)), "the kernel serves everybody")
        await self.scene.complete(2)
        await self.scene.by_the_kernel(groups)

    async def silence(self, packets: Callable[[], int]) -> None:
        """Soon nothing more comes to the subject, while the kernel forwards to the others."""

        async def window() -> str:
            before = packets()
            await self.scene.by_the_kernel(5, *self.others)
            more = packets() - before
            return f"{more} packets to who wants none" if more else ""

        await becomes_so(window)


@pytest.fixture
async def show(
    scripted: FastRelay, certificate: Certificate, request: pytest.FixtureRequest
) -> AsyncIterator[Show]:
    scene = Scene(scripted, certificate, request.node.name)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written())
        near = await stack.enter_async_context(scene.member())
        web = await stack.enter_async_context(scene.member(webtransport=True))
        subject = await stack.enter_async_context(scene.member(dies=True))
        await scene.complete(3)
        yield Show(scene, publisher, near, web, subject, stack)


async def each(clients: list[Client], change: Callable[[Client], None]) -> None:
    for client in clients:
        change(client)
        connection_of(client).touch()


# Connection ids


async def test_clients_use_other_ids_of_the_relay(show: Show) -> None:
    for _ in range(3):
        for client in show.clients:
            engine = engine_of(client)
            before = engine._peer_cid.cid
            engine.change_connection_id()
            assert engine._peer_cid.cid != before
            connection_of(client).touch()
        await show.scene.complete(4)
    await show.as_before()


async def test_the_relay_uses_other_ids_of_clients(show: Show) -> None:
    for _ in range(3):
        before = {client: engine_of(client)._host_cid_seq for client in show.clients}
        show.relay.process.send_signal(NEW_CONNECTION_IDS)
        await until(
            lambda before=before: all(engine_of(c)._host_cid_seq > n for c, n in before.items()),
            "ids are retired and others issued",
        )
        await show.scene.complete(4)
    await show.as_before()


# Keys


def phases(client: Client) -> tuple[int, int]:
    """Key phases: ours, and the peer's."""
    pair = engine_of(client)._one_rtt
    assert pair is not None
    return pair.send.key_phase, pair.recv.key_phase


async def test_keys_are_updated_by_the_clients(show: Show) -> None:
    for _ in range(4):
        for client in show.clients:
            ours, theirs = phases(client)
            engine_of(client).request_key_update()
            connection_of(client).touch()
            await until(
                lambda client=client, theirs=theirs: phases(client)[1] != theirs,
                "the relay answers with new keys",
            )
            assert phases(client)[0] != ours
        await show.scene.complete(2)
    await show.as_before()


async def test_keys_are_updated_by_the_relay(show: Show) -> None:
    for _ in range(4):
        before = {client: phases(client) for client in show.clients}
        show.relay.process.send_signal(NEW_KEYS)
        await until(
            lambda before=before: all(
                now[0] != then[0] and now[1] != then[1]
                for client, then in before.items()
                for now in (phases(client),)
            ),
            "both sides have new keys",
        )
        await show.scene.complete(3)
    await show.as_before()


async def test_both_sides_update_keys_at_once(show: Show) -> None:
    for _ in range(3):
        for client in show.clients:
            engine_of(client).request_key_update()
            connection_of(client).touch()
        show.relay.process.send_signal(NEW_KEYS)
        await show.scene.complete(4)
    await show.as_before()


# Paths


@pytest.mark.parametrize("who", ["publisher", "member"])
async def test_a_nat_gives_another_port(show: Show, who: str) -> None:
    client = show.publisher if who == "publisher" else show.subject.client
    for _ in range(3):
        old = port_of(client)
        rebind(client)
        engine_of(client).send_ping(0)  # who only listens and is silent is lost to anybody
        connection_of(client).touch()
        await show.scene.complete(4)
        with counting_media_to(show.relay, old) as to_the_old_port:
            await show.scene.complete(4)
            assert to_the_old_port() == 0
    await show.as_before()


@pytest.mark.parametrize("who", ["publisher", "member"])
async def test_a_client_migrates(show: Show, who: str) -> None:
    """With another connection id, as RFC 9000 section 9.5 wants it."""
    client = show.publisher if who == "publisher" else show.subject.client
    for _ in range(2):
        rebind(client)
        engine_of(client).change_connection_id()
        connection_of(client).touch()
        await show.scene.complete(4)
        session = show.scene.session(client)
        assert session is not None
        assert session["path"]["address"].endswith(f":{port_of(client)}")
    await show.as_before()


# Coming and going


async def test_a_member_closes(show: Show) -> None:
    client = show.subject.client
    with counting_media_to(show.relay, port_of(client)) as to_it:
        await show.scene.complete(2)
        client.close()
        await until(lambda: show.scene.session(client) is None, "the relay forgets the session")
        before = to_it()
        assert before
        await show.scene.by_the_kernel(10, *show.others)
        assert to_it() == before, "packets after the close"


async def test_a_member_vanishes(show: Show) -> None:
    """Nobody hears of it again: the relay gives it up when the idle timeout is over."""
    short = show.scene.member(dies=True, idle_timeout=3)
    client = (await show.stack.enter_async_context(short)).client
    with counting_media_to(show.relay, port_of(client)) as to_it:
        vanish(client)
        await until(lambda: show.scene.session(client) is None, "the idle timeout")
        before = to_it()
        await show.scene.by_the_kernel(10, *show.others)
        assert to_it() == before, "packets after the end"


async def test_a_member_leaves_and_comes_back(show: Show) -> None:
    member = show.subject
    with counting_media_to(show.relay, port_of(member.client)) as to_it:
        for _ in range(3):
            member.subscription.close()
            await until(
                lambda: not (show.scene.session(member.client) or {})["subscriptions"],
                "the subscription ends",
            )
            await show.silence(to_it)
            before = to_it()
            await member.subscribe()
            await show.scene.complete(3)
            assert to_it() > before
    await show.as_before()


async def test_members_come_and_go_all_the_time(show: Show) -> None:
    async def restless(seed: int) -> None:
        for number in range(6):
            async with show.scene.member(webtransport=bool((seed + number) % 2)) as member:
                await member.complete(1 + (seed + number) % 3)

    await asyncio.gather(*(restless(seed) for seed in range(3)))
    await show.as_before()


async def test_a_member_is_paused(show: Show) -> None:
    """Forward 0: no packets but those that are repeated; forward 1: whole groups again."""
    member = show.subject
    with counting_media_to(show.relay, port_of(member.client)) as to_it:
        for _ in range(3):
            await member.subscription.update(Parameters(forward=False))
            await show.silence(to_it)
            member.excused |= set(range(member.first, show.scene.source.group + 1))
            await member.subscription.update(Parameters(forward=True))
            member.begin_anew()
            await show.scene.complete(4)
    await show.as_before()


async def test_priorities_change(show: Show) -> None:
    for priority in (10, 200, 128):
        await show.subject.subscription.update(Parameters(subscriber_priority=priority))
        await show.scene.complete(3)
        assert show.scene.subscription(show.subject)["priority"] == priority
    await show.as_before()


# Single streams


async def test_a_member_stops_a_stream(show: Show) -> None:
    """STOP_SENDING: the stream is reset for this member and whole for the others."""
    member = show.subject
    for _ in range(5):
        await until(lambda: bool(member.subscription._open), "a stream is open")
        stream_id, stream = next(iter(member.subscription._open.items()))
        group = stream.header.group_id
        member.excused.add(group)
        member.client.transport.stop(stream_id, StreamError.CANCELLED)
        await show.scene.complete(3)
    await show.as_before()


async def test_the_publisher_resets_a_stream(show: Show) -> None:
    source = show.scene.source
    reset = set()
    for _ in range(5):
        group = source.group
        await until(lambda group=group: source.group > group, "another group")
        await until(lambda: len(source.open[0].objects) > 1, "objects in it")
        for member in show.scene.members:
            member.excused.add(source.group)
        source.open[0].reset(StreamError.INTERNAL_ERROR)
        reset.add(source.group)
        await show.scene.complete(3)
    for member in show.scene.members:
        assert member.resets.keys() == reset, f"{member.resets} for {reset}"
    await show.as_before()


# Publishers


async def test_an_alias_is_used_again(scripted: FastRelay, certificate: Certificate) -> None:
    """One track ends, another one takes its alias: nobody gets what is not his."""
    first = Scene(scripted, certificate, "alias-first")
    second = Scene(scripted, certificate, "alias-second")
    third = Scene(scripted, certificate, "alias-third")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(first.client())
        for scene in (first, second, third):
            track = scene.source.add(publisher, alias=5)
            await publisher.publish_namespace(scene.source.track.namespace)
            async with scene.writing():
                members = [
                    await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
                    for i in range(2)
                ]
                await scene.complete(3)
                await scene.by_the_kernel(8, *members)
                await scene.source.rest()
                track.end()
                await until(lambda members=members: all(m.ended for m in members), "PUBLISH_DONE")
                assert [m.fault for m in members] == ["", ""]


async def test_the_publisher_leaves_and_comes_back(
    scripted: FastRelay, certificate: Certificate
) -> None:
    scene = Scene(scripted, certificate, "comes-back")
    async with scene.writing(), AsyncExitStack() as stack:
        async with scene.published():
            members = [
                await stack.enter_async_context(scene.member(webtransport=bool(i % 2)))
                for i in range(3)
            ]
            await scene.complete(3)
            await scene.by_the_kernel(5, *members)
        await until(lambda: not scene.publishers(members[0]), "the relay knows")
        async with scene.published():
            await until(lambda: bool(scene.publishers(members[0])), "the relay subscribes again")
            for member in members:
                member.begin_anew()
            await scene.complete(3)
            await scene.by_the_kernel(8, *members)


async def test_a_second_publisher(show: Show) -> None:
    """While there are two, user space merges what they send; then the kernel goes on."""
    for _ in range(2):
        async with show.scene.published():
            await until(
                lambda: len(show.scene.publishers(show.near)) == 2, "two publishers of the track"
            )
            await show.scene.complete(6)
        await until(lambda: len(show.scene.publishers(show.near)) == 1, "one publisher of it")
        await show.scene.complete(2)
    await show.as_before()
