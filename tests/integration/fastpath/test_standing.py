"""What is said of the fast path is so."""

from __future__ import annotations

import time

import pytest

from fastrelay.agent import programs
from fastrelay.agent.programs import AttachType
from fastrelay.local import links, netns, topology
from fastrelay.local.node import REPORT_SECONDS
from fastrelay.local.stack import RELAY
from fastrelay.local.topology import NODE
from integration.fastpath.harness import FastRelay

pytestmark = pytest.mark.timeout(240)


def attached(relay: FastRelay) -> list[int]:
    """How many programs there are at the node's end of the relay's veth, in and out."""
    namespace = topology.namespace_of(relay.name, NODE)
    index = netns.netlink(namespace, lambda ipr: links.index_of(ipr, RELAY))
    kinds = (AttachType.TCX_INGRESS, AttachType.TCX_EGRESS)
    return netns.inside(namespace, lambda: [len(programs.attached(index, k)) for k in kinds])


def test_the_kernel_is_said_to_forward_when_the_programs_are_attached(fast: FastRelay) -> None:
    """Maps are there before the programs are."""
    assert attached(fast) == [1, 1]
    for _ in range(2):
        fast.take_away()
        fast.wait_for_fast_path(on=False)
        assert attached(fast) == [0, 0]
        fast.want_again()
        deadline = time.monotonic() + REPORT_SECONDS
        while fast.status()["fast_path"]["state"] != "On":
            assert time.monotonic() < deadline, fast.words()
            time.sleep(0.02)
        assert attached(fast) == [1, 1]
