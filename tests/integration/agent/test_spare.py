"""The data plane that no relay has yet: taken, replaced when it does not fit, never left behind."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from fastrelay.agent import maps, pins, syscalls
from fastrelay.agent.hooks import End, Mechanism
from fastrelay.agent.instance import RelaySpec, State
from fastrelay.fastpath import layout
from integration.agent.test_survival import PIN, RENAME, UNPIN, assert_attached_once, killed_pass
from integration.agent.world import RELAY, Agent, Objects, World, until

MAPS = len(maps.PINNED)


@pytest.fixture
def other(world: World) -> RelaySpec:
    """A relay because of which there is to be a spare data plane."""
    return replace(world.spec(), name="other", addresses=["10.9.9.9"])


def spare(world: World) -> pins.Tree:
    return pins.Tree(world.settings.pins, "_spare")


def make(agent: Agent, end: End = End.HOST) -> None:
    """What the loop does when it is idle."""
    assert agent.node.spare_wanted is end
    agent.node.prepare_spare(end)


def test_a_new_relay_takes_it(world: World, other: RelaySpec) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        make(agent)
        ready = Objects.of(spare(world))
        agent.reconcile(other)
        assert agent.node.spare_wanted is None
        assert agent.node.present() == ["other"]
        loads = agent.node.tally.loads
        agent.node.prepare(replace(world.spec(), addresses=()))
        assert Objects.of(world.tree) == ready
        assert agent.reconcile(other, world.spec())[RELAY].state is State.ATTACHED
        assert agent.node.tally.loads == loads
        assert_attached_once(world, Mechanism.TCX)
        with agent.handed() as given:
            assert given is not None
        assert not spare(world).top.exists()
        make(agent)
        objects = Objects.of(world.tree).found | Objects.of(spare(world)).found
        agent.reconcile()
        assert agent.node.spare_wanted is None
    until(lambda: not Objects(objects).alive(), "everything is gone")
    assert list(world.settings.pins.iterdir()) == []


def test_there_is_none_without_the_setting_nor_while_a_pod_starts(
    world: World, other: RelaySpec
) -> None:
    with world.agent() as agent:
        agent.reconcile(other)
        assert agent.node.spare_wanted is None
    with world.agent(spare=True) as agent:
        agent.reconcile(other, replace(world.spec(), addresses=()))
        assert agent.node.spare_wanted is None


def test_one_of_another_version_is_not_taken_but_replaced(world: World, other: RelaySpec) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        make(agent)
        old = Objects.of(spare(world))
        world.set_version(KEY_A=2, KEY_B=3)
        agent.reconcile(other, world.spec())
        assert old.alive() == old.found
        world.exchange(3)
        assert (world.count(2), world.count(3)) == (3, 3)
        make(agent)
        until(lambda: not old.alive(), "the old one is gone")
        agent.reconcile(other, world.spec())
        assert agent.node.spare_wanted is None
        agent.reconcile()


def test_one_of_another_shape_is_not_taken_but_replaced(world: World, other: RelaySpec) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        make(agent)
        (spare(world).maps / "members").unlink()
        odd = syscalls.create_map(layout.MapKind.ARRAY, 4, 64, 7, name="fr_members")
        syscalls.pin(odd, spare(world).maps / "members")
        os.close(odd)
        assert agent.reconcile(other, world.spec())[RELAY].state is State.ATTACHED
        make(agent)
        agent.reconcile(other, world.spec())
        assert agent.node.spare_wanted is None
        agent.reconcile()


def test_it_is_for_the_end_at_which_programs_are_attached(world: World) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(world.spec(End.POD))
        make(agent, End.POD)
        agent.reconcile(world.spec(End.POD))
        assert agent.node.spare_wanted is None
        agent.reconcile(world.spec(End.HOST))
        assert agent.node.spare_wanted is End.HOST
        agent.reconcile()


def test_one_whose_programs_cannot_be_had_is_not_tried_again_at_once(
    world: World, other: RelaySpec
) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        world.rewrite("server_ingress.c", "nonsense")
        make(agent)
        assert [path.name for path in world.settings.pins.iterdir()] == ["other"]
        agent.reconcile(other)
        assert agent.node.spare_wanted is None
        agent.reconcile()


def test_one_that_is_being_made_goes_with_the_last_relay(world: World, other: RelaySpec) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        thread = threading.Thread(target=make, args=(agent,))
        thread.start()
        until(lambda: any(world.settings.pins.glob("_spare*/*")), "it is being made")
        agent.reconcile()
        thread.join()
    assert list(world.settings.pins.iterdir()) == []


def test_it_goes_when_all_is_removed(world: World, other: RelaySpec) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        make(agent)
    with world.agent() as agent:
        agent.node.remove_all()
    assert list(world.settings.pins.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "nth"),
    [
        (PIN, 9),
        (RENAME, 1),  # of the maps
        (PIN, MAPS + 2),  # of the first program
        (RENAME, 2),  # of the version
        (RENAME, 3),  # of the whole
        (RENAME, 4),  # it is taken
        (PIN, MAPS + 4),  # of a link of who took it
    ],
)
def test_killed_while_it_is_made_or_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, function: str, nth: int
) -> None:
    monkeypatch.setenv("SPARE", "Host")
    killed_pass(world, Mechanism.TCX, function, nth)
    with world.agent(spare=True) as agent:
        status = agent.ensure()
        assert status.state is State.ATTACHED, status.message
        assert_attached_once(world, Mechanism.TCX)
        make(agent)
        agent.ensure()
        objects = Objects.of(world.tree).found | Objects.of(spare(world)).found
        agent.reconcile()
    until(lambda: not Objects(objects).alive(), "everything is gone")
    assert list(world.settings.pins.iterdir()) == []


@pytest.mark.parametrize(("function", "nth"), [(RENAME, 1), (UNPIN, 3), (UNPIN, MAPS)])
def test_killed_while_it_is_removed(
    world: World, other: RelaySpec, function: str, nth: int
) -> None:
    with world.agent(spare=True) as agent:
        agent.reconcile(other)
        make(agent)
        ready = Objects.of(spare(world))
        agent.node.reconcile({}, preparing=["other"])
        assert not spare(world).top.exists()
        agent.reconcile(other)
        make(agent)
        ready.found |= Objects.of(spare(world)).found
    killed_pass(world, Mechanism.TCX, function, nth, removal=True)
    with world.agent(spare=True) as agent:
        agent.reconcile()
    until(lambda: not ready.alive(), "everything is gone")
    assert list(world.settings.pins.iterdir()) == []
