"""Programs on a pod's veth: attached beside others, replaced, removed."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.agent import maps, pins, programs, syscalls, tcx, versions
from fastrelay.agent.hooks import HOOKS, End, Mechanism
from fastrelay.agent.instance import Reason, State
from fastrelay.agent.lock import Lock
from fastrelay.local import netns
from integration.agent.world import RELAY, Objects, World, until

MECHANISMS = pytest.mark.parametrize("mechanism", list(Mechanism))
ENDS = pytest.mark.parametrize("end", list(End))


@MECHANISMS
@ENDS
def test_both_directions_are_seen_once_and_nothing_is_left_afterwards(
    world: World, mechanism: Mechanism, end: End
) -> None:
    before = world.qdiscs(end)
    with world.agent(mechanism) as agent:
        status = agent.ensure(end)
        assert (status.state, status.message) == (State.ATTACHED, "")
        assert (status.device, status.mechanism, status.attach) == ("relay", mechanism, end)
        world.exchange(5)
        assert agent.ensure(end) == status
        world.exchange(5)
        assert (world.count(0), world.count(1)) == (10, 10)
        objects = Objects.of(world.tree)
        assert objects.alive() == objects.found
        assert agent.reconcile() == {}
    until(lambda: not objects.alive(), "objects of the removed relay are gone")
    assert list(world.settings.pins.iterdir()) == []
    assert world.qdiscs(end) == before
    assert not any(world.settings.records.glob("*.json"))


def test_without_a_wish_the_kernel_decides_the_mechanism(world: World) -> None:
    supported = netns.inside(world.node, tcx.supported)
    with world.agent() as agent:
        status = agent.ensure()
    assert status.mechanism is (Mechanism.TCX if supported else Mechanism.CLSACT)


def test_what_is_prepared_before_there_is_an_address_is_attached_when_there_is_one(
    world: World,
) -> None:
    with world.agent() as agent:
        running = world.spec()
        begun = replace(running, addresses=())
        assert agent.node.new({RELAY: begun}) == [begun]
        agent.node.prepare(begun)
        assert agent.node.new({RELAY: begun}) == []
        desired = {RELAY: running}
        [status] = agent.node.reconcile(desired, preparing=desired).values()
        assert status.reason is Reason.LOADING
        assert agent.node.reconcile({}, preparing=desired) == {}
        assert agent.ensure().state is State.ATTACHED
        assert agent.node.tally.loads == 1


@MECHANISMS
@ENDS
def test_replaced_under_traffic_every_packet_is_seen_once(
    world: World, mechanism: Mechanism, end: End
) -> None:
    sent, stop, errors = 0, threading.Event(), []

    def work() -> None:
        nonlocal sent
        try:
            while not stop.is_set():
                exchange(1)
                sent += 1
        except BaseException as error:
            errors.append(error)

    with world.agent(mechanism) as agent, world.echo() as exchange:
        generations = {agent.ensure(end).generation}
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for version in (1, 2, 3):
                world.set_version(KEY_A=2 * version, KEY_B=2 * version + 1)
                status = agent.ensure(end)
                assert status.state is State.ATTACHED, status.message
                generations.add(status.generation)
                seen = world.count(2 * version)
                until(lambda: world.count(2 * version) > seen, "the new program runs")  # noqa: B023
        finally:
            stop.set()
            thread.join()
        assert errors == []
        assert len(generations) == 4
        assert [path.name for path in world.tree.programs.iterdir()] == [status.generation]
        assert sum(world.count(key) for key in (0, 2, 4, 6)) == sent
        assert sum(world.count(key) for key in (1, 3, 5, 7)) == sent


@ENDS
def test_from_one_mechanism_and_end_to_the_other_nothing_stays_behind(
    world: World, end: End
) -> None:
    other = End.POD if end is End.HOST else End.HOST
    before = world.qdiscs(end)
    with world.agent(Mechanism.CLSACT) as agent:
        agent.ensure(end)
    with world.agent(Mechanism.TCX) as agent:
        status = agent.ensure(other)
        assert status.state is State.ATTACHED, status.message
        assert world.qdiscs(end) == before
        world.exchange(3)
        assert (world.count(0), world.count(1)) == (3, 3)


class Foreign:
    """Another agent's counting programs, with maps of their own, loaded but not attached."""

    def __init__(self, world: World, result: str) -> None:
        self.tree = pins.Tree(world.settings.pins, "foreign")
        world.set_version(RESULT=result)
        pins.make(self.tree.top)
        maps.ensure(self.tree, Lock.of(world.settings.records, self.tree.name))
        self.version = versions.ensure(self.tree, world.tools, ())
        world.set_version(RESULT="TC_ACT_UNSPEC")
        self.world = world

    def counts(self) -> tuple[int, int]:
        return self.world.count(0, self.tree.maps), self.world.count(1, self.tree.maps)

    def program(self, role: str) -> Path:
        return self.version / role


@pytest.fixture
def foreign(world: World) -> Foreign:
    """Like a network plugin: what its programs have seen, nobody behind them sees."""
    made = Foreign(world, "TC_ACT_OK")
    # The agent takes every directory below its own for a relay's; this one is not the agent's.
    elsewhere = world.settings.pins.with_name(world.settings.pins.name + "-foreign")
    elsewhere.mkdir()
    made.tree.top.rename(elsewhere / "foreign")
    made.version = elsewhere / made.version.relative_to(world.settings.pins)
    made.tree = pins.Tree(elsewhere, "foreign")
    yield made
    pins.remove(elsewhere)


def tcx_attach(world: World, program: Path, ifindex: int, kind: programs.AttachType) -> int:
    fd = syscalls.get(program)
    try:
        return netns.inside(world.node, lambda: programs.create_link(fd, ifindex, kind))
    finally:
        os.close(fd)


def test_beside_a_foreign_tcx_program_ours_comes_first(world: World, foreign: Foreign) -> None:
    ifindex = world.ifindex()
    held = [
        tcx_attach(world, foreign.program("a"), ifindex, programs.AttachType.TCX_EGRESS),
        tcx_attach(world, foreign.program("b"), ifindex, programs.AttachType.TCX_INGRESS),
    ]
    try:
        with world.agent(Mechanism.TCX) as agent:
            assert agent.ensure().reason is Reason.ATTACHED
            world.exchange(4)
            assert (world.count(0), world.count(1)) == (4, 4)
            assert foreign.counts() == (4, 4)
            agent.reconcile()
            world.exchange(4)
            assert foreign.counts() == (8, 8)
    finally:
        for fd in held:
            os.close(fd)


def test_who_comes_before_us_later_is_reported_not_fought(world: World, foreign: Foreign) -> None:
    with world.agent(Mechanism.TCX) as agent:
        agent.ensure()
        kind = programs.AttachType.TCX_EGRESS
        link = tcx_attach(world, foreign.program("a"), world.ifindex(), kind)
        try:
            status = agent.ensure()
            assert (status.state, status.reason) == (State.ATTACHED, Reason.NOT_FIRST)
            assert "1 programs of others run before ours on relay" in status.message
        finally:
            os.close(link)
        until(lambda: agent.ensure().reason is Reason.ATTACHED, "the other one is gone")


def add_filters(world: World, foreign: Foreign, priority: int) -> None:
    for role, direction in HOOKS[End.HOST].items():
        arguments = (
            f"filter add dev DEV {direction} prio {priority} bpf direct-action object-pinned"
        )
        world.tc(End.HOST, *arguments.split(), str(foreign.program(role)))


@pytest.mark.parametrize("priority", [1, 2, 49152])
def test_beside_a_foreign_filter_both_work(world: World, foreign: Foreign, priority: int) -> None:
    world.tc(End.HOST, "qdisc", "add", "dev", "DEV", "clsact")
    qdiscs = world.qdiscs(End.HOST)
    add_filters(world, foreign, priority)
    with world.agent(Mechanism.CLSACT) as agent:
        status = agent.ensure()
        assert status.reason is (Reason.NOT_FIRST if priority == 1 else Reason.ATTACHED)
        world.exchange(4)
        # Nobody comes before priority 1, and this one keeps what it saw to itself.
        ours = 0 if priority == 1 else 4
        assert (world.count(0), world.count(1)) == (ours, ours)
        assert foreign.counts() == (4, 4)
        agent.reconcile()
    world.exchange(4)
    assert foreign.counts() == (8, 8)
    assert world.qdiscs(End.HOST) == qdiscs


def test_a_qdisc_of_ours_that_others_use_now_stays(world: World, foreign: Foreign) -> None:
    with world.agent(Mechanism.CLSACT) as agent:
        agent.ensure()
        add_filters(world, foreign, 7)
        agent.reconcile()
    assert "clsact" in world.qdiscs(End.HOST)
    world.exchange(2)
    assert foreign.counts() == (2, 2)


def test_a_filter_of_ours_that_somebody_removed_comes_again(world: World) -> None:
    with world.agent(Mechanism.CLSACT) as agent:
        agent.ensure()
        world.tc(End.HOST, "qdisc", "del", "dev", "DEV", "clsact")
        assert agent.ensure().state is State.ATTACHED
        world.exchange(2)
        assert (world.count(0), world.count(1)) == (2, 2)


def test_an_ingress_qdisc_of_somebody_elses_is_left_alone(world: World) -> None:
    world.tc(End.HOST, "qdisc", "add", "dev", "DEV", "ingress")
    with world.agent(Mechanism.CLSACT) as agent:
        status = agent.ensure()
        assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
        assert "replace it with clsact" in status.message
        agent.reconcile()
    assert "qdisc ingress" in world.qdiscs(End.HOST)


@MECHANISMS
@ENDS
def test_a_veth_that_vanishes_and_comes_again(world: World, mechanism: Mechanism, end: End) -> None:
    with world.agent(mechanism) as agent:
        first = agent.ensure(end)
        world.unwire()
        status = agent.ensure(end)
        assert (status.state, status.reason) == (State.WAITING, Reason.NO_INTERFACE)
        assert world.addresses.pod4 in status.message
        world.wire()
        again = agent.ensure(end)
        assert (again.state, again.programs) == (State.ATTACHED, first.programs)
        world.exchange(3)
        assert (world.count(0), world.count(1)) == (3, 3)


def test_a_veth_that_vanishes_between_looking_and_attaching(world: World) -> None:
    with world.agent(Mechanism.TCX) as agent:
        agent.ensure()
        veth_was = world.ifindex()
        world.unwire()
        link = syscalls.get(world.tree.links / "a")
        assert programs.link_info(link).ifindex == 0
        os.close(link)
        version = next(world.tree.programs.iterdir())
        program = syscalls.get(version / "a")
        try:
            direction = HOOKS[End.HOST]["a"]
            pin = world.tree.links / "a"
            with pytest.raises(tcx.DeviceGoneError, match=f"device {veth_was} is gone"):
                netns.inside(world.node, lambda: tcx.ensure(pin, program, veth_was, direction))
        finally:
            os.close(program)
        assert not (world.tree.links / "a").exists()


def test_the_pod_end_needs_the_pods_namespace(world: World) -> None:
    with world.agent() as agent:
        agent.node._settings = type(world.settings)(
            world.settings.pins,
            world.settings.records,
            world.settings.sockets,
            namespaces=[Path("/nowhere")],
        )
        status = agent.ensure(End.POD)
    assert (status.state, status.reason) == (State.WAITING, Reason.NO_INTERFACE)
    assert "no file in /nowhere is the namespace that relay leads to" in status.message


def test_one_agent_at_a_time(world: World) -> None:
    with world.agent() as agent:
        agent.ensure()
        with pytest.raises(OSError, match="another agent works on"), world.agent():
            pass
    with world.agent() as agent:
        assert agent.node.present() == [RELAY]


def test_pins_outside_of_a_bpffs_are_refused(world: World, tmp_path: Path) -> None:
    world.settings = type(world.settings)(tmp_path / "pins", tmp_path, tmp_path / "relays")
    with pytest.raises(OSError, match="is no bpffs; mount one"), world.agent():
        pass
