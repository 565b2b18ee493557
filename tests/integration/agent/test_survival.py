"""Agents and loaders that are killed: the next one finds everything, and does nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.agent import maps
from fastrelay.agent.hooks import HOOKS, End, Mechanism
from fastrelay.agent.instance import Reason, State
from fastrelay.agent.programs import AttachType, attached
from fastrelay.local import netns, processes
from integration.agent.world import RELAY, Objects, World, until

HERE = Path(__file__).parent
TCX, CLSACT = Mechanism.TCX, Mechanism.CLSACT
MAPS = len(maps.PINNED)
PIN = "fastrelay.agent.syscalls:pin"
RENAME = "pathlib:Path.rename"
CREATE_LINK = "fastrelay.agent.programs:create_link"
UPDATE_LINK = "fastrelay.agent.programs:update_link"
UNPIN = "fastrelay.agent.pins:remove"
DETACH = "fastrelay.agent.programs:detach_link"
TC = "pyroute2.iproute.linux:RTNL_API.tc"
WIPE = "fastrelay.agent.maps:wipe"


def killed_pass(
    world: World, mechanism: Mechanism, function: str, nth: int, *, removal: bool = False
) -> None:
    """A pass of an agent that dies at the nth call of a function."""
    settings, tools = world.settings, world.tools
    paths = (settings.pins, settings.records, settings.sockets, tools.sources, tools.cache)
    command = [sys.executable, str(HERE / "killed_process.py"), function, str(nth), mechanism]
    command += map(str, paths)
    if not removal:
        command += [RELAY, world.addresses.pod4]
    log = world.directory / "killed.log"
    with processes.start(world.node, command, log) as process:
        assert process.wait(120) == -signal.SIGKILL, log.read_text()


def assert_attached_once(world: World, mechanism: Mechanism) -> None:
    world.exchange(3)
    assert (world.count(0), world.count(1)) == (3, 3)
    for direction in HOOKS[End.HOST].values():
        if mechanism is TCX:
            kind = AttachType[f"TCX_{direction.upper()}"]
            found = netns.inside(world.node, lambda: attached(world.ifindex(), kind))  # noqa: B023
            assert len(found) == 1
        else:
            filters = world.tc(End.HOST, "filter", "show", "dev", "DEV", direction)
            assert filters.count("handle") == 1


@pytest.mark.parametrize(
    ("mechanism", "function", "nth"),
    [
        (TCX, PIN, 1),
        (TCX, PIN, 9),
        (TCX, RENAME, 1),  # of the maps
        (TCX, PIN, MAPS + 1),  # of the map of stages
        (TCX, PIN, MAPS + 2),  # of the first program
        (TCX, PIN, MAPS + 3),
        (TCX, RENAME, 2),  # of the version
        (TCX, CREATE_LINK, 1),
        (TCX, PIN, MAPS + 4),  # of the first link
        (TCX, CREATE_LINK, 2),
        (TCX, PIN, MAPS + 5),
        (CLSACT, TC, 1),  # the qdisc
        (CLSACT, TC, 2),  # a filter
        (CLSACT, TC, 3),
    ],
)
def test_killed_while_it_attaches(
    world: World, mechanism: Mechanism, function: str, nth: int
) -> None:
    before = world.qdiscs(End.HOST)
    killed_pass(world, mechanism, function, nth)
    with world.agent(mechanism) as agent:
        status = agent.ensure()
        assert status.state is State.ATTACHED, status.message
        assert_attached_once(world, mechanism)
        objects = Objects.of(world.tree)
        agent.reconcile()
    until(lambda: not objects.alive(), "everything is gone")
    assert list(world.settings.pins.iterdir()) == []
    assert world.qdiscs(End.HOST) == before


@pytest.mark.parametrize(
    ("mechanism", "function", "nth"),
    [
        (TCX, RENAME, 1),
        (TCX, UPDATE_LINK, 1),
        (TCX, UPDATE_LINK, 2),
        (CLSACT, TC, 1),
        (CLSACT, TC, 2),
    ],
)
def test_killed_while_it_replaces(
    world: World, mechanism: Mechanism, function: str, nth: int
) -> None:
    with world.agent(mechanism) as agent:
        first = agent.ensure()
    world.set_version(KEY_A=2, KEY_B=3)
    killed_pass(world, mechanism, function, nth)
    world.exchange(3)
    assert world.count(0) + world.count(2) == 3
    assert world.count(1) + world.count(3) == 3
    with world.agent(mechanism) as agent:
        status = agent.ensure()
    assert status.state is State.ATTACHED
    assert status.generation != first.generation
    assert [path.name for path in world.tree.programs.iterdir()] == [status.generation]
    before = world.count(2), world.count(3)
    world.exchange(3)
    assert (world.count(2), world.count(3)) == (before[0] + 3, before[1] + 3)


@pytest.mark.parametrize(
    ("mechanism", "function", "nth"),
    [
        (TCX, DETACH, 1),
        (TCX, DETACH, 2),
        (TCX, WIPE, 1),
        (TCX, RENAME, 1),
        (TCX, UNPIN, 8),
        (TCX, UNPIN, MAPS + 4),
        (CLSACT, TC, 1),
        (CLSACT, TC, 2),
        (CLSACT, TC, 3),  # the qdisc
    ],
)
@pytest.mark.parametrize("wanted_again", [False, True])
def test_killed_while_it_removes(
    world: World, mechanism: Mechanism, function: str, nth: int, wanted_again: bool
) -> None:
    before = world.qdiscs(End.HOST)
    with world.agent(mechanism) as agent:
        agent.ensure()
        objects = Objects.of(world.tree)
    killed_pass(world, mechanism, function, nth, removal=True)
    with world.agent(mechanism) as agent:
        if wanted_again:
            status = agent.ensure()
            assert status.state is State.ATTACHED, status.message
            assert_attached_once(world, mechanism)
            objects.found |= Objects.of(world.tree).found
        agent.reconcile()
    until(lambda: not objects.alive(), "everything is gone")
    assert list(world.settings.pins.iterdir()) == []
    assert world.qdiscs(End.HOST) == before


def compiler_processes() -> Iterator[int]:
    """The compilers that this process has started."""
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # another, which has ended
                if b"fastrelay.agent.compiler" in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield int(child)


def test_killed_compiler(world: World, tmp_path: Path) -> None:
    results = []
    world.tools = replace(world.tools, cache=tmp_path / "empty")
    with world.agent() as agent:
        thread = threading.Thread(target=lambda: results.append(agent.ensure()))
        thread.start()
        found: list[int] = []

        def is_compiling() -> bool:
            found.extend(compiler_processes())
            return bool(found)

        until(is_compiling, "the compiler runs")
        os.kill(found[0], signal.SIGKILL)
        thread.join()
        assert (results[0].state, results[0].reason) == (State.FAILED, Reason.LOAD_FAILED)
        assert "the compiler ended with -9" in results[0].message
        assert list(world.tree.programs.iterdir()) == []
        assert agent.ensure() == results[0]  # not compiled again at once
    with world.agent() as agent:
        assert agent.ensure().state is State.ATTACHED


def test_killed_at_random_moments(world: World) -> None:
    """A process with its files of wishes and reports, killed again and again."""
    choice = random.Random(4)
    desired, reports = world.directory / "desired", world.directory / "reports"
    desired.mkdir()
    wish = {"name": RELAY, "uid": 65534, "addresses": [world.addresses.pod4]}
    file, report = desired / f"{RELAY}.json", reports / f"{RELAY}.json"
    settings, tools = world.settings, world.tools
    paths = (settings.pins, settings.records, settings.sockets, tools.sources, tools.cache)
    command = [sys.executable, str(HERE / "agent_process.py"), *map(str, paths)]
    command += [str(desired), str(reports)]
    before = world.qdiscs(End.HOST)
    for round_number in range(6):
        world.set_version(KEY_A=2 * round_number)
        if round_number % 3 == 2:
            file.unlink()
        else:
            file.write_text(json.dumps(wish))
        with processes.start(world.node, command, world.directory / "agent.log") as process:
            try:
                process.wait(choice.uniform(0.2, 2.5))
            except subprocess.TimeoutExpired:
                process.kill()
            else:
                pytest.fail((world.directory / "agent.log").read_text())
    file.write_text(json.dumps(wish))
    report.unlink(missing_ok=True)

    def attached_now() -> bool:
        return report.exists() and json.loads(report.read_text())["state"] == "Attached"

    with processes.start(world.node, command, world.directory / "agent.log") as process:
        until(attached_now, "attached")
        process.terminate()
        process.wait(90)
    seen = world.count(10)
    world.exchange(3)
    assert world.count(10) == seen + 3
    objects = Objects.of(world.tree)
    assert len([each for each in objects.found if each[0].name == "LINK"]) == 2
    file.unlink()
    with processes.start(world.node, command, world.directory / "agent.log") as process:
        until(lambda: not report.exists() and not objects.alive(), "removed")
        process.terminate()
        process.wait(90)
    assert list(world.settings.pins.iterdir()) == []
    assert world.qdiscs(End.HOST) == before
