"""Whose the maps are, and what becomes of what is in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastrelay.agent import maps, node, pins, syscalls
from fastrelay.agent.hooks import HOOKS, End
from fastrelay.agent.instance import Reason, State
from fastrelay.agent.lock import Lock
from fastrelay.fastpath import layout
from integration.agent.world import RELAY, UID, World, until

HERE = Path(__file__).parent
ZERO = bytes(4)
SCRATCH = [each for each in maps.PINNED if each.secret and not each.relay]


def test_nobody_uses_what_it_was_given_and_opens_nothing(world: World) -> None:
    with world.agent() as agent:
        agent.ensure()
        with agent.handed() as given:
            assert given is not None
            command = [sys.executable, str(HERE / "without_capabilities.py"), str(UID)]
            command += [str(world.tree.maps), *map(str, given)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, pass_fds=given
            )
            assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["used"] == [each.name for each in layout.MAPS if each.relay]
    assert set(result["refused"].values()) == {"PermissionError"}
    assert len(result["refused"]) > len(result["used"])


def test_maps_are_handed_over_to_one_at_a_time(world: World) -> None:
    with world.agent() as agent:
        agent.ensure()
        with agent.handed() as given:
            assert given is not None
            kept = os.dup(given[-1])
        with agent.handed() as given:
            assert given is None
    with world.agent() as agent:  # another one knows it, too
        agent.ensure()
        with agent.handed() as given:
            assert given is None
        os.close(kept)
        with agent.handed() as given:
            assert given is not None


def test_maps_without_a_lock_are_made_anew(world: World) -> None:
    """Nobody can tell whether a relay has them."""
    with world.agent() as agent:
        agent.ensure()
        before = maps.standing(world.tree.maps)
        with maps.opened(world.tree.maps) as fds:
            shared = os.dup(fds["shared"])
        Lock.of(world.settings.records, RELAY).remove()
        assert agent.ensure().state is State.ATTACHED
        number, attached = maps.standing(world.tree.maps)
        assert attached
        assert number != before[0]
    (raw,) = np.frombuffer(
        syscalls.lookup(shared, ZERO, layout.SHARED.dtype.itemsize) or b"", layout.SHARED.dtype
    )
    assert not raw["attached"], "whoever has the old ones sees it"
    os.close(shared)


def test_a_successor_gets_other_maps_when_who_has_them_is_silent(
    world: World, owner: Owner
) -> None:
    with world.agent() as agent:
        before = maps.standing(world.tree.maps)
        agent.reconcile(world.spec(), waiting=[RELAY])
        assert maps.standing(world.tree.maps) == before, "it has been heard of"
        owner.set_shared(heartbeat=1)
        agent.reconcile(world.spec())
        assert maps.standing(world.tree.maps) == before, "nobody waits"
        agent.reconcile(world.spec(), waiting=[RELAY])
        number, attached = maps.standing(world.tree.maps)
        assert attached
        assert number != before[0]
        assert not owner.shared("attached")
        with agent.handed() as given:
            assert given is not None
    owner.let_go()


def test_maps_of_another_shape_are_refused_and_the_programs_left_alone(world: World) -> None:
    with world.agent() as agent:
        agent.ensure()
        (world.tree.maps / "members").unlink()
        other = syscalls.create_map(layout.MapKind.ARRAY, 4, 64, 7, name="fr_members")
        syscalls.pin(other, world.tree.maps / "members")
        os.close(other)
        status = agent.ensure()
        assert (status.state, status.reason) == (State.FAILED, Reason.OTHER_VERSION)
        assert (
            "map members has (kind, key, value, entries, flags) (2, 4, 64, 7, 0)" in status.message
        )
        assert "start the relay anew under another name" in status.message
        world.exchange(3)
        assert (world.count(0), world.count(1)) == (3, 3)
        agent.reconcile()
        assert agent.ensure().state is State.ATTACHED


@pytest.mark.parametrize("name", ["legs", "shared", "connections"])
def test_a_missing_map_is_refused(world: World, name: str) -> None:
    with world.agent() as agent:
        agent.ensure()
        (world.tree.maps / name).unlink()
        status = agent.ensure()
        assert status.reason is Reason.OTHER_VERSION
        assert f"map {name} is missing" in status.message
        assert agent.reconcile() == {}
    assert not world.tree.top.exists()


@pytest.mark.parametrize("size", [64, layout.SHARED.dtype.itemsize])
def test_maps_of_another_layout_are_refused_and_can_be_removed(world: World, size: int) -> None:
    with world.agent() as agent:
        agent.ensure()
        (world.tree.maps / "shared").unlink()
        other = syscalls.create_map(
            layout.MapKind.ARRAY, 4, size, 1, flags=syscalls.MMAPABLE, name="fr_shared"
        )
        syscalls.pin(other, world.tree.maps / "shared")
        os.close(other)
        assert agent.ensure().reason is Reason.OTHER_VERSION
        assert agent.reconcile() == {}
    assert not world.tree.top.exists()


class Owner:
    """A relay that uses its maps: it has the lock, and writes keys."""

    def __init__(self, tree: pins.Tree, records: Path) -> None:
        self.tree = tree
        lock = Lock.of(records, tree.name).take()
        assert lock is not None
        self.lock = lock
        self.fds = {each.name: syscalls.get(tree.maps / each.name) for each in maps.PINNED}
        for each in SCRATCH:  # as the programs do
            syscalls.update(
                self.fds[each.name], ZERO, b"\xa5" * each.value * syscalls.possible_cpus()
            )
        for name in ("connections", "slots"):
            size = next(each.value for each in maps.PINNED if each.name == name)
            syscalls.update(self.fds[name], ZERO, b"\xa5" * size)
        self.set_connection(state=3, busy=0)
        self.set_shared(owner=7, enabled=1, heartbeat=time.monotonic_ns())

    def _set(self, name: str, dtype: np.dtype[np.void], values: dict[str, int]) -> None:
        content = self._get(name, dtype)
        for field, value in values.items():
            content[field] = value
        syscalls.update(self.fds[name], ZERO, content.tobytes())

    def _get(self, name: str, dtype: np.dtype[np.void]) -> np.ndarray:
        raw = syscalls.lookup(self.fds[name], ZERO, dtype.itemsize)
        assert raw is not None
        return np.frombuffer(bytearray(raw), dtype)

    def set_shared(self, **values: int) -> None:
        self._set("shared", layout.SHARED.dtype, values)

    def set_connection(self, **values: int) -> None:
        self._set("connections", layout.CONNECTION.dtype, values)

    def shared(self, field: str) -> int:
        return int(self._get("shared", layout.SHARED.dtype)[field][0])

    def secrets(self) -> list[bytes]:
        """The first connection and slot."""
        return [
            syscalls.lookup(self.fds[each.name], ZERO, each.value) or b""
            for each in maps.PINNED
            if each.secret and each.relay
        ]

    def scratch(self) -> bytes:
        return b"".join(
            part
            for each in SCRATCH
            for part in syscalls.lookup_per_cpu(self.fds[each.name], ZERO, each.value) or []
        )

    def let_go(self) -> None:
        os.close(self.lock)

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)


@pytest.fixture
def owner(world: World):
    with world.agent() as agent:
        agent.ensure()
    owner = Owner(world.tree, world.settings.records)
    yield owner
    owner.close()


def test_keys_of_a_living_relay_stay_however_silent_it_is(world: World, owner: Owner) -> None:
    owner.set_shared(heartbeat=1)
    secrets = owner.secrets()
    with world.agent() as agent:
        agent.ensure()
    assert owner.secrets() == secrets
    assert owner.shared("owner") == 7
    owner.let_go()


def test_keys_of_an_ended_relay_are_erased(world: World, owner: Owner) -> None:
    """Also what only the agent can reach."""
    secrets = owner.secrets()
    with world.agent() as agent:
        agent.ensure()
        assert any(owner.scratch())  # its process is still there
        owner.let_go()
        agent.ensure()
    assert owner.secrets() == [bytes(len(secret)) for secret in secrets]
    assert not any(owner.scratch())
    assert (owner.shared("owner"), owner.shared("enabled")) == (0, 0)


def test_an_agent_that_was_killed_while_it_erased_is_followed_by_one_that_does_it(
    world: World, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.let_go()
    with world.agent() as agent:
        with monkeypatch.context() as patch:
            patch.setattr(maps, "wipe", killed)
            with pytest.raises(KeyboardInterrupt):
                agent.ensure()
        agent.ensure()
    assert not any(map(any, owner.secrets()))
    assert not any(owner.scratch())


def killed(_directory: Path) -> None:
    raise KeyboardInterrupt


def test_an_erasing_agent_does_not_wait_for_ever_for_what_is_under_way(
    world: World, owner: Owner
) -> None:
    owner.set_connection(busy=1)
    owner.let_go()
    with world.agent() as agent:
        agent.ensure()
    assert not any(map(any, owner.secrets()))


def test_removal_erases_what_nobody_uses(world: World, owner: Owner) -> None:
    owner.let_go()
    with world.agent() as agent:
        agent.reconcile()
    assert not any(map(any, owner.secrets()))
    assert not world.tree.top.exists()


def test_keys_of_another_version_are_erased_too(world: World, owner: Owner) -> None:
    owner.let_go()
    (world.tree.maps / "members").unlink()
    with world.agent() as agent:
        assert agent.ensure().reason is Reason.OTHER_VERSION
        agent.reconcile()
    assert not any(map(any, owner.secrets()))


def test_what_an_older_version_left_is_removed(world: World, owner: Owner) -> None:
    """Also where ``shared`` was smaller, and its first word something else."""
    owner.let_go()
    (world.tree.maps / "shared").unlink()
    other = syscalls.create_map(layout.MapKind.ARRAY, 4, 8, 1, flags=syscalls.MMAPABLE)
    syscalls.pin(other, world.tree.maps / "shared")
    os.close(other)
    with world.agent() as agent:
        assert agent.ensure().reason is Reason.OTHER_VERSION
        agent.reconcile()
        assert not world.tree.top.exists()
        assert agent.ensure().state is State.ATTACHED


def test_removal_leaves_a_living_relay_its_packet_numbers(
    world: World, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes nothing back in time."""
    monkeypatch.setattr(node, "RECALL_SECONDS", 0.1)
    secrets = owner.secrets()
    with world.agent() as agent:
        agent.reconcile()
        assert not world.tree.top.exists()
        assert owner.secrets() == secrets
        assert not any(owner.scratch())
        assert agent.ensure().state is State.ATTACHED  # with new maps
    assert owner.secrets() == secrets
    owner.let_go()
    assert RELAY in os.listdir(world.settings.pins)


@pytest.mark.parametrize("everything", [False, True])
def test_programs_stay_until_a_relay_has_taken_back_what_it_lent(
    world: World, owner: Owner, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    """Whether it is wanted no more, or the agent takes everything away."""
    monkeypatch.setattr(node, "RECALL_SECONDS", 600.0)
    attached = []

    def take_back() -> None:
        until(lambda: not owner.shared("attached"), "the relay to be told")
        attached.extend(path.name for path in world.tree.links.iterdir())
        owner.let_go()

    with world.agent() as agent:
        taking = threading.Thread(target=take_back)
        taking.start()
        if everything:
            agent.node.remove_all()
        else:
            agent.reconcile()
        taking.join()
    assert sorted(attached) == sorted(HOOKS[End.HOST])
    assert not world.tree.top.exists()
    assert not any(map(any, owner.secrets()))


def test_the_relay_is_told_whether_the_programs_are_attached(world: World, owner: Owner) -> None:
    with world.agent() as agent:
        assert owner.shared("attached")
        world.unwire()
        assert agent.ensure().reason is Reason.NO_INTERFACE
        assert not owner.shared("attached")
        world.wire()
        assert agent.ensure().state is State.ATTACHED
        assert owner.shared("attached")
        # A version that cannot be had leaves the one that is attached.
        world.rewrite("server_ingress.c", "nonsense")
        assert agent.ensure().reason is Reason.LOAD_FAILED
        assert owner.shared("attached")
    owner.let_go()
