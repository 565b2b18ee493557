"""The relay finds the kernel's maps, shares its connections and says so. The maps are in memory,
and no kernel does anything with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.client import connect
from fastrelay.fastpath.forwarder import Forwarder
from fastrelay.fastpath.maps import MapsError, in_memory
from fastrelay.quic.ledger import Ledger
from fastrelay.quic.options import QuicOptions
from fastrelay.relay import sharing
from fastrelay.relay.configuration import ServerOptions, UpstreamOptions
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


class Pins:
    """What the agent has pinned."""

    def __init__(self) -> None:
        self.there = False
        self.opened: list[Forwarder] = []

    def open(self, directory: Path, ledger: Ledger) -> Forwarder:
        assert directory.name == "maps"
        if not self.there:
            raise MapsError("nothing is pinned")
        forwarder = Forwarder(in_memory()[0], ledger)
        self.opened.append(forwarder)
        return forwarder


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pins]:
    pins = Pins()
    monkeypatch.setattr(sharing, "open_forwarder", pins.open)
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.02)
    return pins


@pytest.fixture
def shared(options: ServerOptions, tmp_path: Path) -> ServerOptions:  # noqa: F811
    quic = replace(options.quic, fast_path=True)
    return replace(options, quic=quic, fast_path=tmp_path)


async def test_without_it(options: ServerOptions) -> None:  # noqa: F811
    async with running(options) as server:
        status = (await statusz(server))["fast_path"]
        assert (status["state"], status["reason"]) == ("Off", "not configured")
        async with connect(url(server), options=INSECURE):
            (session,) = (await statusz(server))["sessions"]
            assert session["fast_path"] == "the kernel does not forward"


async def test_maps_appear_vanish_and_appear_again(shared: ServerOptions, pins: Pins) -> None:
    async with running(replace(shared, fast_path_required=True)) as server:
        assert await page(server, "/readyz") == (
            503,
            b"the kernel does not forward: nothing is pinned\n",
        )
        async with (
            connect(url(server), options=INSECURE),
            connect(url(server, "https"), options=INSECURE),
        ):
            assert (await statusz(server))["fast_path"]["state"] == "Waiting"
            for turn in range(1, 3):
                pins.there = True
                await until(lambda: not server.kernel.reason)
                assert await page(server, "/readyz") == (200, b"ready\n")
                await until(lambda: server.kernel.counters.connections == 2)
                document = await statusz(server)
                assert document["fast_path"]["state"] == "On"
                assert document["fast_path"]["programs"]["b_outcome_no_window"] == 0
                assert [session["fast_path"] for session in document["sessions"]] == ["", ""]
                _, text = await page(server, "/metrics")
                assert b"fastrelay_kernel_forwarding 1.0" in text
                assert b'fastrelay_kernel_program_packets_total{reason="a_replay"} 0.0' in text
                assert len(pins.opened) == turn
                pins.there = False
                pins.opened[-1].refusals[-1] += 2
                pins.opened[-1].refusals[8] += 1
                pins.opened[-1].disable("the agent has taken the maps away")
                await until(lambda: server.kernel.reason == "nothing is pinned")
                document = await statusz(server)
                assert document["fast_path"]["state"] == "Waiting"
                assert document["fast_path"]["refused"] == {
                    "claimed": 2 * turn,
                    "no_window": turn,
                }


async def test_sessions_come_and_go(shared: ServerOptions, pins: Pins) -> None:
    pins.there = True
    async with running(shared) as server:
        async with connect(url(server), options=INSECURE) as client:
            await until(lambda: server.kernel.counters.connections == 1)
            await client.publish_namespace((b"live",))
        await until(lambda: not server.sessions)
        assert server.kernel.counters.connections == 0


async def test_other_ciphers_stay_in_user_space(shared: ServerOptions, pins: Pins) -> None:
    pins.there = True
    plain = replace(shared, quic=replace(shared.quic, prefer_chacha20=False, fast_path=False))
    async with running(plain) as server, connect(url(server), options=INSECURE):
        (session,) = (await statusz(server))["sessions"]
        assert "AES" in session["path"]["cipher"]
        assert session["fast_path"]
        assert server.kernel.counters.connections == 0


async def test_upstream_connections_are_shared_too(
    shared: ServerOptions,
    options: ServerOptions,  # noqa: F811
    pins: Pins,
) -> None:
    pins.there = True
    async with running(options) as origin:
        upstream = UpstreamOptions(
            url(origin), QuicOptions(insecure=True, fast_path=True), (), None, 1.0
        )
        async with running(replace(shared, upstreams=(upstream,))) as server:
            await until(lambda: bool(server.sessions))
            await until(lambda: server.kernel.counters.connections == 1)


async def test_trouble_with_reports_does_not_cost_datagrams(
    shared: ServerOptions, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins.there = True
    async with running(shared) as server:

        def fail(now: float) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(pins.opened[0], "drain", fail)
        async with connect(url(server), options=INSECURE) as client:
            await client.publish_namespace((b"live",))
        assert json.dumps(server.kernel.status())
