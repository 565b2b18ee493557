"""From addresses to veths on the real kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastrelay.agent import discovery
from fastrelay.agent.discovery import NotFoundError
from fastrelay.local import links, netns
from integration.agent.world import World


def scan(world: World) -> discovery.Scan:
    return netns.inside(world.node, discovery.scan)


@pytest.fixture
def second_pod(world: World):
    """Another pod, whose device has the same index in its namespace."""
    name = f"{world.name}-second"
    netns.create(name)
    netns.set_sysctls(name, links.SETTINGS)
    links.join(world.node, "second", name, links.POD_DEVICE)
    yield name
    netns.remove(name)


@pytest.mark.parametrize("family", ["pod4", "pod6"])
def test_a_pod_by_its_address(world: World, second_pod: str, family: str) -> None:
    links.address_pod_end(second_pod, links.Addresses(2))
    first = scan(world).find([getattr(world.addresses, family)])
    second = scan(world).find([getattr(links.Addresses(2), family)])
    assert (first.device, second.device) == ("relay", "second")
    assert first.pod_ifindex == second.pod_ifindex
    assert first.namespace_id != second.namespace_id
    for veth, namespace in ((first, world.pod), (second, second_pod)):
        found = netns.inside(world.node, lambda: discovery.namespace_of(veth))  # noqa: B023
        assert found == netns.path(namespace)


def test_two_pods_with_one_address(world: World, second_pod: str) -> None:
    links.address_pod_end(second_pod, world.addresses)
    with pytest.raises(NotFoundError, match="more than one veth leads there: relay, second"):
        scan(world).find([world.addresses.pod4])


def test_addresses_of_the_node_and_of_loopback_are_nobodys(world: World) -> None:
    for address in (world.addresses.node4, "127.0.0.1", "::1"):
        with pytest.raises(NotFoundError, match="none of 1 veths leads to it"):
            scan(world).find([address])


def test_a_pod_that_went_away(world: World) -> None:
    before = scan(world).find([world.addresses.pod4])
    netns.remove(world.pod)
    with pytest.raises(NotFoundError, match=r"no file in /run/netns is the namespace"):
        netns.inside(world.node, lambda: discovery.namespace_of(before))


def test_without_the_right_to_look_it_says_so(world: World) -> None:
    look = (
        f"from fastrelay.agent import discovery; discovery.scan().find(['{world.addresses.pod4}'])"
    )
    command = ["nsenter", f"--net={netns.path(world.node)}", "setpriv", "--bounding-set=-all"]
    command += ["--inh-caps=-all", sys.executable, "-c", look]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "the agent lacks CAP_NET_ADMIN in the host's network namespace" in done.stderr
