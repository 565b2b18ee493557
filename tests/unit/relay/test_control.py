"""Limits set by hand, through a relay's control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fastrelay.fastpath.bands import MAX_LEVEL, Bands
from fastrelay.relay.control import Control
from fastrelay.relay.unixpath import address_of
from unit.relay.harness import TRACK, Client, World


class Place:
    """A relay with a subscriber, its control socket, and what to say there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = World()
        publisher, self.client = self.world.publisher(), self.world.client()
        self.idle = self.world.client()
        publisher.announce(b"live")
        self.client.session.subscribe(TRACK)
        self.world.run()
        self.control = Control(
            {}, lambda: ((f"now:{peer.info.address}", peer) for peer in self.world.relay.peers)
        )

    def bands(self, client: Client) -> Bands:
        return self.world.relay.bands_of(client.relay_session)

    def address(self, client: Client) -> str:
        return self.world.relay.peers[
            [peer.session for peer in self.world.relay.peers].index(client.relay_session)
        ].info.address

    async def say(self, body: bytes) -> tuple[int, Any]:
        with address_of(self.path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        writer.write(b"POST /limits HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(answer)

    async def set(self, member: str, **limits: int | None) -> tuple[int, Any]:
        return await self.say(json.dumps({"member": member, **limits}).encode())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    directory = tmp_path / ("deep" * 30)  # such a path is no address of a socket
    directory.mkdir()
    made = Place(directory / "control.sock")
    await made.control.listen(made.path)
    yield made
    await made.control.close()
    assert not made.path.exists()


async def test_a_rate_and_a_level_are_set_and_given_back(place: Place) -> None:
    address, bands = place.address(place.client), place.bands(place.client)
    assert await place.set(address, rate=2_000_000) == (200, {"changed": [f"now:{address}"]})
    assert bands.rate == pytest.approx(2_000_000, rel=0.01)
    assert await place.set(f"now:{address}", level=384) == (200, {"changed": [f"now:{address}"]})
    assert (bands.level, bands.rate) == (384, pytest.approx(2_000_000, rel=0.01))
    page = place.world.relay.status()["sessions"]
    limit = next(each for each in page if each["address"] == address)
    assert limit["bands"]["level"] == 1.5
    assert limit["limit"]["level_by_hand"] == 1.5
    assert limit["limit"]["why"] == "hand"
    await place.set(address, rate=None, level=None)
    assert (bands.level, bands.rate) == (0, 0)


async def test_all_are_those_who_get_something(place: Place) -> None:
    code, answer = await place.set("all", level=MAX_LEVEL)
    assert code == 200
    assert len(answer["changed"]) == 1
    assert place.bands(place.client).level == MAX_LEVEL
    assert place.bands(place.idle).level == 0


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", 400, "not JSON"),
        (b"[" * 5000, 400, "not JSON"),
        (b"[]", 400, "ADDRESS"),
        (b'{"rate": 1}', 400, "ADDRESS"),
        (b'{"member": "a"}', 400, "give rate, level, or both"),
        (b'{"member": "a", "colour": 1}', 400, "give rate, level, or both"),
        (b'{"member": "a", "rate": true}', 400, "whole number"),
        (b'{"member": "a", "rate": -1}', 400, "whole number"),
        (b'{"member": "a", "rate": 1e3}', 400, "whole number"),
        (b'{"member": "a", "rate": 999}', 400, "at least 1000"),
        (b'{"member": "a", "level": 1025}', 400, "from 0 to 1024"),
        (b'{"member": "a", "level": 1024}', 404, "no session of a"),
        (b'{"member": "all", "level": 999999999999999999999999}', 400, "whole number"),
    ],
)
async def test_nonsense_is_refused(place: Place, body: bytes, code: int, words: str) -> None:
    got, answer = await place.say(body)
    assert got == code
    assert words in answer["error"]
    assert place.bands(place.client).level == 0
