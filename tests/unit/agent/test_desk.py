"""How maps change hands, on real sockets: what a relay is told, and what one that lies, is silent
or never reads can do about it: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.agent import desk as desks
from fastrelay.agent import sockets
from fastrelay.agent.desk import CALLERS, Desk
from fastrelay.agent.instance import State, Status, Word
from fastrelay.agent.maps import ShapeError
from fastrelay.api.objects import SOCKET
from fastrelay.fastpath import handing
from fastrelay.fastpath.handing import MAX_MESSAGE, NAMES, Offer, Statement
from fastrelay.fastpath.reception import connect
from unit.agent.house import ATTACHED, OTHER, RELAY, SPEC, WAITING, House

ASKS = Statement(wants=True, reason="NoMaps", message="it asks")
SECONDS = 60.0


class Relay:
    """A relay process, as far as it goes."""

    def __init__(self, path: Path) -> None:
        self.socket = connect(path)
        self.descriptors: list[int] = []

    def say(self, statement: Statement) -> None:
        handing.send(self.socket, statement)

    async def hear(self) -> Offer | None:
        """The agent's next words; None: it has closed the connection."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self.socket, lambda: ready.done() or ready.set_result(None))
        try:
            async with asyncio.timeout(SECONDS):
                await ready
        finally:
            loop.remove_reader(self.socket)
        try:
            data, found = handing.receive_with_descriptors(self.socket)
        except ConnectionResetError:
            return None
        self.descriptors += found
        return handing.decode(Offer, data) if data else None

    async def take(self) -> Offer:
        """Ask for maps until there are some."""
        self.say(ASKS)
        while True:
            offer = await self.hear()
            assert offer is not None
            if offer.names:
                return offer

    def end(self) -> None:
        self.socket.close()
        for each in self.descriptors:
            os.close(each)
        self.descriptors.clear()


class Agent:
    """A desk, and what it has reported."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.reports = 0
        self.status = ATTACHED
        self.desk = Desk(house, self._heard)

    def _heard(self) -> None:
        self.reports += 1

    def serve(self, status: Status = ATTACHED) -> None:
        self.status = status
        self.house.attached = status.state is State.ATTACHED
        self.desk.serve({RELAY: SPEC}, {RELAY: status})

    @property
    def word(self) -> Word:
        return self.desk.complete({RELAY: self.status})[RELAY].relay

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    before = descriptors()
    house = House(tmp_path)
    house.renew(7)
    agent = Agent(house)
    agent.serve()
    yield agent
    agent.desk.close()
    assert descriptors() == before, "descriptors leak"


@contextmanager
def relay(agent: Agent) -> Iterator[Relay]:
    made = Relay(agent.house.socket)
    try:
        yield made
    finally:
        made.end()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_relay_gets_maps_and_says_how_it_stands(agent: Agent) -> None:
    assert agent.word == Word()
    with relay(agent) as one:
        offer = await one.take()
        assert (offer.maps, tuple(offer.names)) == (7, NAMES)
        assert len(one.descriptors) == len(NAMES) + 1
        assert os.readlink(f"/proc/self/fd/{one.descriptors[0]}").startswith(f"/memfd:{NAMES[0]}")
        one.say(Statement(maps=7, forwarding=True, kernel=3, user=1))
        await agent.until(lambda: agent.word == Word(True, "", "", 3, 1))
        reports = agent.reports
        one.say(Statement(maps=7, forwarding=True, kernel=4, user=1))
        await agent.until(lambda: agent.word.kernel == 4)
        assert agent.reports == reports + 1
    await agent.until(lambda: agent.word == Word())


async def test_who_asks_once_more_before_it_gets_them_is_not_another(agent: Agent) -> None:
    with relay(agent) as one:
        one.say(ASKS)
        one.say(ASKS.model_copy(update={"user": 1}))
        assert (await one.hear() or Offer()).names
        await agent.until(lambda: agent.word.user == 1)
        one.say(Statement(maps=7, forwarding=True))
        await agent.until(lambda: agent.word.forwarding)
        assert not agent.desk.waiting()
        agent.serve(WAITING)
        offer = await one.hear()
        assert offer is not None
        assert offer.reason == "NoInterface", "the first since they were handed over"


async def test_one_at_a_time_and_the_next_as_soon_as_it_goes(agent: Agent) -> None:
    with relay(agent) as first, relay(agent) as second:
        await first.take()
        second.say(ASKS)
        offer = await second.hear()
        assert offer is not None
        assert (offer.reason, offer.names) == ("InUse", [])
        assert agent.desk.waiting() == {RELAY}
        first.end()
        offer = await second.hear()
        assert offer is not None
        assert tuple(offer.names) == NAMES
        assert not agent.desk.waiting()


async def test_who_has_maps_has_them_when_its_connection_is_gone(agent: Agent) -> None:
    """Only the descriptor counts: the agent may have been another one meanwhile."""
    with relay(agent) as first, relay(agent) as second:
        await first.take()
        first.socket.close()
        second.say(ASKS)
        offer = await second.hear()
        assert offer is not None
        assert offer.reason == "InUse"
        os.close(first.descriptors.pop())
        offer = await second.hear()
        assert offer is not None
        assert tuple(offer.names) == NAMES


async def test_another_agent_finds_everything_again(agent: Agent) -> None:
    with relay(agent) as one:
        await one.take()
        agent.desk.close()
        assert await one.hear() is None
        successor = Agent(agent.house)
        successor.serve()
        one.socket.close()
        one.socket = connect(agent.house.socket)
        one.say(Statement(maps=7, wants=False, forwarding=True))
        offer = await one.hear()
        assert offer == Offer(maps=7), "nothing is handed over twice"
        assert successor.word.forwarding
        successor.desk.close()


async def test_other_maps_are_told_of_and_had(agent: Agent) -> None:
    with relay(agent) as one:
        await one.take()
        one.say(Statement(maps=7, forwarding=True))
        await agent.until(lambda: agent.word.forwarding)
        agent.house.renew(8)
        agent.serve()
        assert await one.hear() == Offer(maps=8)
        assert (await one.take()).maps == 8


async def test_maps_of_another_shape_stay_whose_they_are(agent: Agent) -> None:
    """As after an upgrade: the kernel goes on for who has them, and nobody else gets them."""
    with relay(agent) as one, relay(agent) as successor:
        await one.take()
        agent.house.other = True
        agent.serve(OTHER)
        one.socket.close()
        one.socket = connect(agent.house.socket)
        one.say(Statement(maps=7, forwarding=True))
        assert await one.hear() == Offer(maps=7)
        successor.say(ASKS)
        assert await successor.hear() == Offer(reason="OtherVersion", message="other maps")


async def test_programs_come_and_go(agent: Agent) -> None:
    agent.serve(WAITING)
    with relay(agent) as one:
        one.say(ASKS)
        offer = await one.hear()
        assert offer == Offer(reason="NoInterface", message="no veth leads there")
        agent.serve()
        assert (await one.hear() or Offer()).names
        one.say(Statement(maps=7, forwarding=True))
        await agent.until(lambda: agent.word.forwarding)
        agent.serve(WAITING)
        assert await one.hear() == offer
    agent.house.number = 0
    agent.serve(replace(WAITING, message=""))
    with relay(agent) as one:
        one.say(ASKS)
        offer = await one.hear()
        assert offer is not None
        assert offer.message == "the programs are not attached"


async def test_a_relay_that_is_not_wanted_any_more_is_told(agent: Agent) -> None:
    with relay(agent) as one:
        await one.take()
        agent.desk.serve({}, {})
        offer = await one.hear()
        assert offer is not None
        assert (offer.maps, offer.reason) == (0, "Removed")
        assert await one.hear() is None
    with pytest.raises(ConnectionRefusedError):
        connect(agent.house.socket)


async def test_who_cannot_use_the_maps_is_not_given_them_again_unasked(agent: Agent) -> None:
    with relay(agent) as one:
        await one.take()
        for each in one.descriptors:
            os.close(each)
        one.descriptors.clear()
        one.say(Statement(reason="MapsNotOpened", message="no"))
        await agent.until(lambda: agent.word.reason == "MapsNotOpened")
        agent.serve()
        assert (await one.take()).names


@pytest.mark.parametrize(
    ("trouble", "reason", "words"),
    [
        (ShapeError("made by\nanother"), "OtherVersion", "made by another"),
        (PermissionError(1, "no"), "Attached", "[Errno 1] no"),
    ],
)
async def test_what_cannot_be_handed_over_is_said(
    agent: Agent, trouble: Exception, reason: str, words: str
) -> None:
    agent.house.trouble = trouble
    with relay(agent) as one:
        one.say(ASKS)
        assert await one.hear() == Offer(reason=reason, message=words)


async def test_another_user_is_refused(agent: Agent) -> None:
    agent.desk.serve({RELAY: replace(SPEC, uid=SPEC.uid + 1)}, {RELAY: ATTACHED})
    with relay(agent) as one:
        assert await one.hear() is None


async def test_so_many_connections_and_no_more(agent: Agent) -> None:
    relays = [Relay(agent.house.socket) for _ in range(CALLERS)]
    relays[-1].say(ASKS)
    assert await relays[-1].hear()
    with relay(agent) as one:
        assert await one.hear() is None
    for each in relays:
        each.end()


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"maps": -1}',
        b'{"maps": "7"}',
        b'{"reason": "no word"}',
        b'{"message": "\\n"}',
        b'{"message": "\\ud800"}',
        b"\xff",
        b" " * (MAX_MESSAGE + 1),
    ],
)
async def test_nonsense_ends_the_connection(agent: Agent, data: bytes) -> None:
    with relay(agent) as one, relay(agent) as other:
        one.socket.send(data)
        assert await one.hear() is None
        assert (await other.take()).names


async def test_what_a_relay_hands_over_is_not_taken(agent: Agent) -> None:
    reading, writing = os.pipe()
    with relay(agent) as one:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writing]))
        one.socket.sendmsg([handing.encode(ASKS)], [rights])
        os.close(writing)
        assert await one.hear()
        assert os.read(reading, 1) == b"", "nobody has the other end"
    os.close(reading)


async def test_who_never_reads_is_cut_off(agent: Agent) -> None:
    with relay(agent) as one:
        one.say(ASKS)
        await agent.until(lambda: agent.desk.complete({RELAY: ATTACHED})[RELAY].relay != Word())
        one.say(Statement(maps=7, forwarding=True))
        await agent.until(lambda: agent.word.forwarding)
        turns = 0
        while agent.word.forwarding:
            turns += 1
            agent.serve(WAITING if turns % 2 else ATTACHED)
            await asyncio.sleep(0)
            assert turns < 100_000


async def test_however_much_one_says_the_others_are_heard(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "PAUSE", 1000.0)
    with relay(agent) as loud:
        with contextlib.suppress(BlockingIOError):
            for number in range(1_000_000):
                loud.say(Statement(user=number))
        await agent.until(lambda: agent.reports > 0)
        assert agent.reports == 1
        with relay(agent) as other:
            assert (await other.take()).names


def test_directories_are_roots_and_no_link_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "relays"
    sockets.prepare(root)
    assert root.stat().st_mode & 0o777 == 0o700
    sockets.listen(root, RELAY).close()
    assert (root / RELAY).stat().st_mode & 0o777 == 0o755
    sockets.listen(root, RELAY).close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "linked").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"linked|Not a directory"):
        sockets.listen(root, "linked")
    (root / "open").mkdir()
    (root / "open").chmod(0o777)
    with pytest.raises(OSError, match="others can write this directory"):
        sockets.listen(root, "open")
    with pytest.raises(ValueError, match="write 1 to 63"):
        sockets.listen(root, "../elsewhere")
    assert list(elsewhere.iterdir()) == []
    sockets.close(root, RELAY)
    sockets.close(root, RELAY)
    assert list((root / RELAY).iterdir()) == []
    (root / "open" / "file").touch()
    sockets.remove_empty(root, 0, keep={RELAY})
    assert sorted(path.name for path in root.iterdir()) == ["linked", "open", RELAY]
    (root / "open" / "file").unlink()
    sockets.remove_empty(root, 600)
    assert (root / "open").exists()
    sockets.remove_empty(root, 0, keep={RELAY})
    assert sorted(path.name for path in root.iterdir()) == ["linked", RELAY]


def test_the_directory_of_a_pod_that_is_gone_goes(tmp_path: Path) -> None:
    for _ in range(2):
        with sockets.listen(tmp_path, RELAY):
            sockets.remove(tmp_path, RELAY)
        sockets.remove(tmp_path, RELAY)
        assert not (tmp_path / RELAY).exists()


def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    sockets.prepare(root)
    with sockets.listen(root, RELAY) as listener:
        connection = connect(root / RELAY / SOCKET)
        accepted, _ = listener.accept()
        assert sockets.user_of(accepted) == os.geteuid()
        accepted.close()
        connection.close()
