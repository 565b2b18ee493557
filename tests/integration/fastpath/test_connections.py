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
    forwarding_rules,
    port_of,
    rebind,
    until,
    vanish,
)
from integration.fastpath.scripted import NEW_CONNECTION_IDS, NEW_KEYS
from integration.harness import Certificate


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
        await self.scene.complete(2)
        members = self.scene.members
        async with self.scene.by_the_kernel(*members):
            await self.scene.complete(groups)


@pytest.fixture
async def show(
    scripted: FastRelay, certificate: Certificate, request: pytest.FixtureRequest
) -> AsyncIterator[Show]:
    scene = Scene(scripted, certificate, request.node.name)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(scene.written())
        near = await stack.enter_async_context(scene.member())
        web = await stack.enter_async_context(scene.member(webtransport=True))
        subject = await stack.enter_async_context(scene.member(dies=True, idle_timeout=1.5))
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
    await show.as_before()
