"""The loop over relays, without a kernel."""

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from fastrelay.agent import node, preparations
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import Reason, RelaySpec, Settings, State, Status
from fastrelay.agent.versions import Toolchain


def status(name: str) -> Status:
    return Status(name, State.WAITING, Reason.NO_INTERFACE, "", End.HOST)


class FakeNode:
    spare_wanted = None

    def __init__(self, sockets):
        self.sockets = sockets
        self.passes = []
        self.made = set()

    def new(self, desired):
        return [spec for spec in desired.values() if spec.name not in self.made]

    def prepare(self, spec):
        self.made.add(spec.name)

    def reconcile(self, desired, waiting, preparing, hurry):
        assert not waiting
        self.passes.append(dict(desired))
        self.made |= desired.keys() - preparing
        return {name: status(name) for name in desired}


class HurriedNode(FakeNode):
    """Its passes end when somebody is in a hurry."""

    def reconcile(self, desired, waiting, preparing, hurry):
        while not hurry():
            time.sleep(0.001)
        return super().reconcile(desired, waiting, preparing, hurry)


class Script:
    """Says one thing after another, then nothing more."""

    def __init__(self, *answers: Mapping[str, RelaySpec] | None):
        self.answers = list(answers)
        self.intervals = []

    def desired(self):
        return self.answers.pop(0)

    async def changed(self, seconds):
        self.intervals.append(seconds)
        if not self.answers:
            raise asyncio.CancelledError

    def news(self):
        return False


async def test_what_is_not_known_changes_nothing(tmp_path):
    relay = {"r1": RelaySpec("r1", 1, ["10.0.0.2"])}
    fake, source, reports = FakeNode(tmp_path), Script(None, relay, None, {}), []
    fake.made.add("r1")
    task = asyncio.ensure_future(node.run(fake, source, reports.append, interval=1.5))
    await asyncio.wait((task,))
    assert task.cancelled()
    assert fake.passes == [relay, {}]
    assert reports == [{"r1": status("r1")}, {}]
    assert source.intervals == [1.5] * 4


class SlowNode(FakeNode):
    """``done``: by relay, what its preparation waits for; of others there is none."""

    def __init__(self, sockets, **done):
        super().__init__(sockets)
        self.done = done
        self.prepared = []
        self.served = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    def prepare(self, spec):
        self.prepared.append(spec.name)
        assert self.done[spec.name].wait(60)
        super().prepare(spec)

    def reconcile(self, desired, waiting, preparing, hurry):
        self.loop.call_soon_threadsafe(self.served.put_nowait, desired.keys() - preparing)
        return super().reconcile(desired, waiting, preparing, hurry)


class Relays:
    """``stirring``: they changed."""

    def __init__(self, *specs: RelaySpec):
        self.specs = {spec.name: spec for spec in specs}
        self.stirred = False
        self.stirring = asyncio.Event()

    def desired(self):
        return dict(self.specs)

    async def changed(self, seconds):
        await self.stirring.wait()
        self.stirring.clear()

    def news(self):
        return self.stirred


async def served(fake: SlowNode) -> set[str]:
    return await asyncio.wait_for(fake.served.get(), 60)


async def test_a_pass_knows_of_news(tmp_path):
    fake = HurriedNode(tmp_path)
    fake.made.add("r1")
    reports = asyncio.Queue()
    relays = Relays(RelaySpec("r1", 1, ["10.0.0.2"]))
    relays.stirred = True
    task = asyncio.ensure_future(node.run(fake, relays, reports.put_nowait))
    try:
        assert await asyncio.wait_for(reports.get(), 60) == {"r1": status("r1")}
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_pass_knows_when_a_relay_is_prepared(tmp_path):
    fake = HurriedNode(tmp_path)
    reports = asyncio.Queue()
    relays = Relays(RelaySpec("r1", 1, []))
    task = asyncio.ensure_future(node.run(fake, relays, reports.put_nowait))
    try:
        assert await asyncio.wait_for(reports.get(), 60) == {"r1": status("r1")}
    finally:
        relays.stirred = True
        task.cancel()
        await asyncio.wait((task,))


async def test_no_relay_waits_for_the_programs_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(preparations, "PREPARED_AT_ONCE", 1)
    done = {"late": threading.Event(), "running": threading.Event()}
    fake = SlowNode(tmp_path, **done)
    fake.made.add("old")
    relays = Relays(
        RelaySpec("late", 1, []), RelaySpec("old", 1, ["10.0.0.2"]), RelaySpec("running", 1, [])
    )
    task = asyncio.ensure_future(node.run(fake, relays, lambda _: None))
    try:
        assert await served(fake) == {"old"}
        done["late"].set()
        assert await served(fake) == {"old", "late"}
        done["running"].set()
        assert await served(fake) == {"old", "late", "running"}
        assert fake.prepared == ["late", "running"]
    finally:
        for each in done.values():
            each.set()
        task.cancel()
        await asyncio.wait((task,))


class SpareNode(SlowNode):
    """That has no spare data plane at first."""

    spare_wanted = End.POD

    def prepare_spare(self, end):
        assert end is End.POD
        self.prepare(RelaySpec("spare", 1, []))
        self.spare_wanted = None


async def test_a_spare_one_is_made_last_and_once(tmp_path, monkeypatch):
    """Who comes meanwhile is next: it takes that one."""
    monkeypatch.setattr(preparations, "PREPARED_AT_ONCE", 1)
    done = {name: threading.Event() for name in ("r1", "spare", "r2")}
    fake, relays = SpareNode(tmp_path, **done), Relays(RelaySpec("r1", 1, []))
    task = asyncio.ensure_future(node.run(fake, relays, lambda _: None))
    try:
        assert await served(fake) == set()
        done["r1"].set()
        assert await served(fake) == {"r1"}
        relays.specs["r2"] = RelaySpec("r2", 1, [])
        relays.stirring.set()
        assert await served(fake) == {"r1"}
        done["spare"].set()
        assert await served(fake) == {"r1"}
        done["r2"].set()
        assert await served(fake) == {"r1", "r2"}
        assert fake.prepared == ["r1", "spare", "r2"]
    finally:
        for each in done.values():
            each.set()
        task.cancel()
        await asyncio.wait((task,))


async def test_no_spare_one_is_made_while_there_is_news(tmp_path):
    fake, relays = SpareNode(tmp_path), Relays(RelaySpec("r1", 1, ["10.0.0.2"]))
    fake.made.add("r1")
    relays.stirred = True
    task = asyncio.ensure_future(node.run(fake, relays, lambda _: None))
    try:
        for _ in range(3):
            assert await served(fake) == {"r1"}
            relays.stirring.set()
        assert not fake.prepared
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_what_cannot_be_prepared_is_left_to_the_pass(tmp_path):
    """Which says why: it is tried once."""
    fake = SlowNode(tmp_path, r1=threading.Event())
    fake.prepare = lambda spec: fake.prepared.append(spec.name)
    task = asyncio.ensure_future(node.run(fake, Relays(RelaySpec("r1", 1, [])), lambda _: None))
    try:
        while await served(fake) != {"r1"}:
            pass
        assert fake.prepared == ["r1"]
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture
def looked(monkeypatch):
    """Relays that were looked at; all of them are attached then."""
    names = []

    class Attached:
        def __init__(self, name, *_):
            self.name = name

        def ensure(self, spec, scan):
            names.append(self.name)
            return Status(self.name, State.ATTACHED, Reason.ATTACHED, "", spec.end)

        def erase_if_abandoned(self):
            return False

    monkeypatch.setattr(node, "Instance", Attached)
    monkeypatch.setattr(node.pins, "prepare", lambda root: root.mkdir())
    return names


def test_who_is_attached_waits_while_there_is_news(looked, tmp_path):
    """But not for ever: one at least has its turn, whoever has waited for longest."""
    there = Settings(tmp_path / "pins", tmp_path / "records", tmp_path / "sockets")
    loop = node.Node(there, Toolchain(tmp_path))
    relays = {name: RelaySpec(name, 1, ["10.0.0.2"]) for name in "abcd"}
    turns = []

    def look(names: str, hurry: bool) -> None:
        statuses = loop.reconcile({name: relays[name] for name in names}, hurry=lambda: hurry)
        assert {each.name for each in statuses.values()} == set(names)
        assert all(each.state is State.ATTACHED for each in statuses.values())
        turns.append("".join(looked))
        looked.clear()

    look("abc", hurry=True)  # none is attached yet
    look("abc", hurry=True)
    look("abcd", hurry=True)
    look("abcd", hurry=True)
    look("bcd", hurry=True)
    look("bcd", hurry=False)
    loop.close()
    assert turns == ["abc", "a", "db", "c", "d", "bcd"]
