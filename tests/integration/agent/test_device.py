"""The quota's program at a device of the node: attached as that can, replaced, and gone."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from fastrelay.agent import maps, programs, syscalls
from fastrelay.agent.device import Mode
from fastrelay.agent.hooks import Mechanism
from fastrelay.agent.instance import Reason, State, Status
from fastrelay.agent.programs import AttachType, XdpFlags
from fastrelay.fastpath.layout import DeviceMode
from fastrelay.local import netns, processes
from integration.agent.world import PORT, RELAY, Agent, Objects, World, until

HERE = Path(__file__).parent
VETH, LOOPBACK = "relay", "lo"
"""Both in the node; the first's driver has XDP, the other's has not."""
PASS = bytes.fromhex("b7000000020000009500000000000000")
"""r0 = XDP_PASS; exit"""
KEY_A, DATAGRAMS = 0, 3
"""What the program counts (``programs/device_ingress.c``); and how many of them."""


def ensure(agent: Agent, device: str) -> Status:
    return agent.reconcile(replace(agent.world.spec(), device=device))[RELAY]


def attached(world: World, device: str) -> int:
    """The id of the XDP program there, or 0."""

    def look(ipr: IPRoute) -> int:
        (link,) = ipr.link("get", ifname=device)
        return int(link.get(("xdp", "xdp_prog_id")) or 0)

    return netns.netlink(world.node, look)


def pinned(world: World) -> tuple[int, int]:
    """Ids of the link and of the program that it runs."""
    link = syscalls.get(world.tree.links / "device")
    try:
        info = programs.link_info(link)
        return info.id, info.program
    finally:
        os.close(link)


def told(world: World) -> DeviceMode:
    with maps._shared(world.tree.maps) as shared:
        return DeviceMode(int(shared["device"]))


def test_it_goes_where_the_spec_says(world: World) -> None:
    with world.agent() as agent:
        for device, mode in ((VETH, Mode.NATIVE), (LOOPBACK, Mode.GENERIC)):
            status = ensure(agent, device)
            assert (status.state, status.reason) == (State.ATTACHED, Reason.ATTACHED)
            assert (status.quota.device, status.quota.mode) == (device, mode)
            assert told(world) is DeviceMode[mode.name]
            assert attached(world, device) == pinned(world)[1] != 0
        assert attached(world, VETH) == 0
        before = pinned(world)
        assert ensure(agent, LOOPBACK) == status
        assert pinned(world) == before
        objects = Objects.of(world.tree)
        assert ensure(agent, "").quota.mode is None
        assert told(world) is DeviceMode.NONE
        assert attached(world, LOOPBACK) == 0
        assert not world.tree.device.exists()
        agent.reconcile()
    until(lambda: not objects.alive(), "everything is gone")


def test_what_it_refuses_is_counted_there(world: World) -> None:
    """Datagrams of the pod's to its node, which no other program sees, and of the node's to
    itself: natively and generically."""
    netns.netlink(world.node, lambda ipr: ipr.link("set", ifname="lo", state="up"))
    with world.agent() as agent:
        for device, namespace, address in (
            (VETH, world.pod, world.addresses.node4),
            (LOOPBACK, world.node, "127.0.0.1"),
        ):
            ensure(agent, device)
            enough = world.count(KEY_A) + DATAGRAMS
            with netns.inside(namespace, _udp) as sock:
                for _ in range(DATAGRAMS):
                    sock.sendto(b"x", (address, PORT))
            until(
                lambda: world.count(KEY_A) >= enough,  # noqa: B023
                f"they are refused at {device}",
            )


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_whose_packets_are_the_relays(world: World) -> None:
    with world.agent() as agent:
        ensure(agent, LOOPBACK)
    with maps.opened(world.tree.maps) as fds, maps._mapped(fds["quota_site"], "u1") as site:
        parts = bytes(site[:4]), bytes(site[8:24])
    assert parts == tuple(
        ipaddress.ip_address(each).packed for each in (world.addresses.pod4, world.addresses.pod6)
    )


def test_where_it_cannot_be_the_veth_does_it(world: World) -> None:
    with world.agent() as agent:
        status = ensure(agent, "nothing")
        assert (status.state, status.reason) == (State.ATTACHED, Reason.QUOTA_DEVICE)
        assert status.message == "quota.device nothing: there is no such device"
        assert status.quota.mode is None
        other = programs.load("other", PASS, programs.ProgramKind.XDP)
        link = netns.inside(
            world.node,
            lambda: programs.create_link(other, world.ifindex(), AttachType.XDP, XdpFlags.NATIVE),
        )
        os.close(other)
        assert ensure(agent, VETH).message == "quota.device relay: another XDP program has it"
        assert told(world) is DeviceMode.NONE
        os.close(link)
        assert ensure(agent, VETH).quota.mode is Mode.NATIVE


def test_it_goes_where_the_agent_is_allowed_to(world: World) -> None:
    with world.agent(quota_devices=[LOOPBACK]) as agent:
        assert ensure(agent, LOOPBACK).quota.mode is Mode.GENERIC
        status = ensure(agent, VETH)
        assert (status.state, status.reason) == (State.ATTACHED, Reason.QUOTA_DEVICE)
        assert status.message == "quota.device relay: this node's agent does not allow it"
        assert attached(world, VETH) == attached(world, LOOPBACK) == 0
        assert told(world) is DeviceMode.NONE
        assert ensure(agent, LOOPBACK).quota.mode is Mode.GENERIC
    with world.agent(quota_devices=()) as agent:
        assert ensure(agent, LOOPBACK).reason is Reason.QUOTA_DEVICE
        assert attached(world, LOOPBACK) == 0


def test_a_new_version_takes_over_without_a_gap(world: World) -> None:
    with world.agent() as agent:
        ensure(agent, LOOPBACK)
        link, program = pinned(world)
        world.set_version(KEY_A=2, KEY_B=3)
        ensure(agent, LOOPBACK)
        assert pinned(world)[0] == link
        assert pinned(world)[1] != program
        assert attached(world, LOOPBACK) == pinned(world)[1]
        assert len(list(world.tree.device.iterdir())) == 1


def test_a_device_that_went_and_came_again(world: World) -> None:
    """It is another one."""
    with world.agent() as agent:
        first = ensure(agent, VETH)
        world.unwire()
        assert ensure(agent, VETH).state is State.WAITING
        world.wire()
        assert ensure(agent, VETH).quota == first.quota
        assert attached(world, VETH) == pinned(world)[1] != 0


@pytest.mark.parametrize(
    ("function", "nth"),
    [
        ("fastrelay.agent.device:_loaded", 1),
        ("fastrelay.agent.device:_link", 1),
        ("fastrelay.agent.device:_mode", 1),
    ],
)
def test_an_agent_that_is_killed_meanwhile(world: World, function: str, nth: int) -> None:
    settings, tools = world.settings, world.tools
    paths = (settings.pins, settings.records, settings.sockets, tools.sources, tools.cache)
    command = [sys.executable, str(HERE / "killed_process.py"), function, str(nth), "tcx"]
    command += [*map(str, paths), RELAY, world.addresses.pod4]
    log = world.directory / "killed.log"
    environment = {"DEVICE": LOOPBACK}
    with processes.start(world.node, command, log, environment=environment) as process:
        assert process.wait(60) == -signal.SIGKILL, log.read_text()
    with world.agent(Mechanism.TCX) as agent:
        assert ensure(agent, LOOPBACK).quota.mode is Mode.GENERIC
        objects = Objects.of(world.tree)
        agent.reconcile()
    until(lambda: not objects.alive(), "everything is gone")
    assert attached(world, LOOPBACK) == 0
    assert list(world.settings.pins.iterdir()) == []
