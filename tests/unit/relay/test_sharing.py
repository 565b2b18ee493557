"""The relay gets the kernel's maps, shares its connections and says so. The maps are in memory,
and no kernel does anything with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.agent import desk as desks
from fastrelay.agent import sockets
from fastrelay.agent.desk import Desk
from fastrelay.agent.instance import Status, Word
from fastrelay.client import connect
from fastrelay.fastpath import forwarder as forwarder_module
from fastrelay.fastpath import reception
from fastrelay.fastpath.layout import Switch
from fastrelay.fastpath.maps import Maps, MapsError, in_memory
from fastrelay.quic.options import QuicOptions
from fastrelay.relay import sharing
from fastrelay.relay.configuration import ServerOptions, UpstreamOptions
from unit.agent.house import ATTACHED, RELAY, SPEC, WAITING, House
from unit.relay.test_server import (  # noqa: F401
    INSECURE,
    identity,
    options,
    page,
    running,
    statusz,
    until,
    url,
)


class NodeAgent:
    """An agent at its desk, whose maps are in memory."""

    def __init__(self, directory: Path) -> None:
        self.house = House(directory)
        self.desk: Desk | None = None
        self.opened: list[Maps] = []
        self.refuse = ""

    def open(self, descriptors: Mapping[str, int], lock: int) -> Maps:
        for each in descriptors.values():
            os.close(each)
        if self.refuse:
            os.close(lock)
            raise MapsError(self.refuse)
        maps = in_memory()[0]
        maps._lock = lock
        self.opened.append(maps)
        return maps

    def attach(self, number: int) -> None:
        """There are maps of that number, and programs are attached."""
        self.house.renew(number)
        self._serve(ATTACHED)

    def attach_as_it_is(self) -> None:
        self._serve(ATTACHED)

    def detach(self) -> None:
        self._serve(WAITING)

    def remove(self) -> None:
        """The words may be lost, if the relay said something in this moment; the maps tell."""
        assert self.desk is not None
        self.opened[-1].shared.rows[0]["attached"] = Switch.OFF
        self.desk.serve({}, {})

    def end(self) -> None:
        assert self.desk is not None
        self.desk.close()
        self.desk = None

    @property
    def word(self) -> Word:
        assert self.desk is not None
        return self.desk.complete({RELAY: ATTACHED})[RELAY].relay

    def _serve(self, status: Status) -> None:
        if self.desk is None:
            self.desk = Desk(self.house, lambda: None)
        self.house.attached = status is ATTACHED
        self.desk.serve({RELAY: SPEC}, {RELAY: status})


@pytest.fixture
async def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[NodeAgent]:
    agent = NodeAgent(tmp_path)
    monkeypatch.setattr(reception, "maps_of", agent.open)
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(desks, "PAUSE", 0.001)
    monkeypatch.setattr(forwarder_module, "HEARTBEAT", 0.01)
    monkeypatch.setattr(forwarder_module, "SWEEP", 0.01)
    yield agent
    if agent.desk is not None:
        agent.desk.close()


@pytest.fixture
def shared(options: ServerOptions, agent: NodeAgent) -> ServerOptions:  # noqa: F811
    quic = replace(options.quic, fast_path=True)
    return replace(options, quic=quic, fast_path=agent.house.socket)


async def test_without_it(options: ServerOptions) -> None:  # noqa: F811
    async with running(options) as server:
        status = (await statusz(server))["fast_path"]
        assert (status["state"], status["reason"]) == ("Off", "not configured")
        async with connect(url(server), options=INSECURE):
            (session,) = (await statusz(server))["sessions"]
            assert session["fast_path"] == "the kernel does not forward"


async def test_maps_appear_vanish_and_appear_again(shared: ServerOptions, agent: NodeAgent) -> None:
    async with running(replace(shared, fast_path_required=True)) as server:
        code, words = await page(server, "/readyz")
        assert code == 503
        assert words.startswith(b"the kernel does not forward: no node agent listens: ")
        async with (
            connect(url(server), options=INSECURE),
            connect(url(server, "https"), options=INSECURE),
        ):
            assert (await statusz(server))["fast_path"]["state"] == "Waiting"
            agent.detach()
            await until(lambda: server.kernel.reason == WAITING.message)
            for turn in range(1, 3):
                agent.attach(turn)
                await until(lambda: not server.kernel.reason)
                assert await page(server, "/readyz") == (200, b"ready\n")
                await until(lambda: server.kernel.counters.connections == 2)
                await until(lambda: agent.word == Word(True, "", "", 2, 0))
                document = await statusz(server)
                assert document["fast_path"]["state"] == "On"
                assert document["fast_path"]["programs"]["b_outcome_no_window"] == 0
                assert [session["fast_path"] for session in document["sessions"]] == ["", ""]
                _, text = await page(server, "/metrics")
                assert b"fastrelay_kernel_forwarding 1.0" in text
                assert b'fastrelay_kernel_program_packets_total{reason="a_replay"} 0.0' in text
                assert len(agent.opened) == turn
                forwarder = server.kernel._forwarder
                assert forwarder is not None
                forwarder.refusals[-1] += 2
                forwarder.refusals[8] += 1
                agent.detach()
                await until(lambda: server.kernel.reason == WAITING.message)
                document = await statusz(server)
                assert document["fast_path"]["state"] == "Waiting"
                assert document["fast_path"]["refused"] == {
                    "claimed": 2 * turn,
                    "no_window": turn,
                }
                await until(lambda: agent.word == Word(False, "NoMaps", WAITING.message, 0, 2))


async def test_an_agent_that_dies_takes_nothing_away(
    shared: ServerOptions, agent: NodeAgent
) -> None:
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        for _ in range(2):
            agent.end()
            agent.attach_as_it_is()
            await until(lambda: agent.word.forwarding)
        assert len(agent.opened) == 1, "it had them all the time"
        assert agent.house.lock.take() is None
        agent.end()
        agent.attach(8)
        await until(lambda: len(agent.opened) == 2)
        await until(lambda: not server.kernel.reason)


async def test_what_was_taken_away_meanwhile_is_noticed_in_the_maps(
    shared: ServerOptions, agent: NodeAgent
) -> None:
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        agent.end()
        agent.opened[0].shared.rows[0]["attached"] = Switch.OFF
        await until(lambda: bool(server.kernel.reason))
        await until(lambda: (lock := agent.house.lock.take()) is not None and not os.close(lock))


async def test_maps_are_kept_until_what_the_kernel_forwarded_was_handled(
    shared: ServerOptions, agent: NodeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the relay's sockets, and nobody else knows that subscribers have it."""
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        handled = 0.0
        asked = asyncio.Event()

        def all_handled(now: float) -> float:
            asked.set()
            return min(handled, now)

        monkeypatch.setattr(server.kernel, "_all_handled", all_handled)
        agent.detach()
        await until(lambda: server.kernel.reason == WAITING.message)
        assert agent.opened[0].shared.rows[0]["enabled"] == Switch.OFF
        for _ in range(3):
            asked.clear()
            await asyncio.wait_for(asked.wait(), 60)
            assert agent.house.lock.take() is None
            assert agent.word.forwarding is False
        handled = float("inf")
        await until(lambda: (lock := agent.house.lock.take()) is not None and not os.close(lock))


async def test_sockets_that_are_never_empty_do_not_keep_the_maps(
    shared: ServerOptions, agent: NodeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "STUCK_SECONDS", 0.05)
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        monkeypatch.setattr(server.kernel, "_all_handled", lambda now: 0.0)
        agent.detach()
        await until(lambda: (lock := agent.house.lock.take()) is not None and not os.close(lock))


async def test_a_relay_that_is_wanted_no_more(shared: ServerOptions, agent: NodeAgent) -> None:
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        agent.remove()
        await until(lambda: "no node agent listens" in server.kernel.reason)


async def test_maps_that_cannot_be_used(shared: ServerOptions, agent: NodeAgent) -> None:
    agent.refuse = "map slots: Operation not permitted"
    agent.attach(7)
    async with running(shared) as server:
        wanted = Word(False, "MapsNotOpened", agent.refuse, 0, 0)
        await until(lambda: agent.word == wanted)
        assert server.kernel.reason == agent.refuse
        agent.refuse = ""
        await until(lambda: not server.kernel.reason)


async def test_a_forwarder_that_gives_up_is_followed_by_another(
    shared: ServerOptions, agent: NodeAgent
) -> None:
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        forwarder = server.kernel._forwarder
        assert forwarder is not None
        forwarder.disable("a record that nobody has written")
        await until(lambda: len(agent.opened) == 2 and not server.kernel.reason)


@pytest.mark.parametrize("data", [b"{", b'{"names": ["shared"]}', b'{"maps": "7"}'])
async def test_an_agent_that_talks_nonsense_is_left(
    shared: ServerOptions, agent: NodeAgent, data: bytes
) -> None:
    sockets.prepare(agent.house.sockets)
    with sockets.listen(agent.house.sockets, RELAY) as listener:
        async with running(shared) as server:
            connections = []

            def accepted() -> bool:
                with contextlib.suppress(BlockingIOError):
                    connections.append(listener.accept()[0])
                return bool(connections)

            await until(accepted)
            connections[0].send(data)
            await until(lambda: "no node agent" not in server.kernel.reason)
            await until(lambda: accepted() and len(connections) > 1)
            assert server.kernel.reason
        for each in connections:
            each.close()


async def test_sessions_come_and_go(shared: ServerOptions, agent: NodeAgent) -> None:
    agent.attach(7)
    async with running(shared) as server:
        async with connect(url(server), options=INSECURE) as client:
            await until(lambda: server.kernel.counters.connections == 1)
            await client.publish_namespace((b"live",))
        await until(lambda: not server.sessions)
        assert server.kernel.counters.connections == 0


async def test_other_ciphers_stay_in_user_space(shared: ServerOptions, agent: NodeAgent) -> None:
    agent.attach(7)
    plain = replace(shared, quic=replace(shared.quic, prefer_chacha20=False, fast_path=False))
    async with running(plain) as server, connect(url(server), options=INSECURE):
        (session,) = (await statusz(server))["sessions"]
        assert "AES" in session["path"]["cipher"]
        assert session["fast_path"]
        assert server.kernel.counters.connections == 0


async def test_upstream_connections_are_shared_too(
    shared: ServerOptions,
    options: ServerOptions,  # noqa: F811
    agent: NodeAgent,
) -> None:
    agent.attach(7)
    async with running(options) as origin:
        upstream = UpstreamOptions(
            url(origin), QuicOptions(insecure=True, fast_path=True), (), None, 1.0
        )
        async with running(replace(shared, upstreams=(upstream,))) as server:
            await until(lambda: bool(server.sessions))
            await until(lambda: server.kernel.counters.connections == 1)


async def test_trouble_with_reports_does_not_cost_datagrams(
    shared: ServerOptions, agent: NodeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.attach(7)
    async with running(shared) as server:
        await until(lambda: not server.kernel.reason)
        forwarder = server.kernel._forwarder
        assert forwarder is not None
        drain, left = forwarder.drain, [True] * 2  # to tell of each takes a while

        def fail(now: float) -> None:
            if left and left.pop():
                raise RuntimeError("broken")
            drain(now)

        monkeypatch.setattr(forwarder, "drain", fail)
        async with connect(url(server), options=INSECURE) as client:
            await client.publish_namespace((b"live",))
        assert json.dumps(server.kernel.status())
