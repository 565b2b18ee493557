"""What operators of a relay look at and set where it runs: in its pod, and at the node's device."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e import nodes, relays, video
from e2e.cluster import places
from e2e.cluster.lifecycle import wait
from e2e.relays import Relay
from e2e.release import QUOTA_DEVICE
from e2e.watching import Audience
from fastrelay.client import connect
from fastrelay.client.errors import ConnectFailedError
from fastrelay.fastpath.layout import Reason
from fastrelay.local import netns
from fastrelay.quic.options import QuicOptions

pytestmark = pytest.mark.timeout(900)


def test_members_are_seen_and_limited_in_the_pod(
    installed: None, viewers: Audience, tmp_path: Path
) -> None:
    with relays.namespace("members") as namespace:
        relay = relays.create(namespace, "demo", relays.REQUIRED, tmp_path)
        relay.wait_for("Ready")
        publisher = viewers.publish(relay.url())
        viewer = viewers.watch("viewer", relay.url())
        viewers.see([viewer], video.FIRST_FRAMES)
        wait(
            "a member that the kernel serves", _member(relay, lambda it: (it["kernel"] or 0) > 0.9)
        )
        assert relay.run("fastrelay", "limit", "all", "--rate", "400k").split() == [
            each["member"] for each in _members(relay)
        ]
        wait("its limit", _member(relay, lambda it: it["rate_by_hand"] == 400_000))
        relay.run("fastrelay", "limit", "all", "--automatic")
        wait("no limit", _member(relay, lambda it: it["rate_by_hand"] is None))
        video.end([viewer], publisher)


MOST = 2
GUARDED: dict[str, Any] = relays.REQUIRED | {
    "quota": {
        "action": "Drop",
        "device": QUOTA_DEVICE,
        "perAddress": {"connections": MOST, "newPerSecond": 50, "burst": 50},
    }
}


def test_the_quota_refuses_at_a_device_of_the_node(installed: None, tmp_path: Path) -> None:
    """Those who address the pod itself: XDP comes before Services."""
    with relays.namespace("guarded") as namespace:
        relay = relays.create(namespace, "demo", GUARDED, tmp_path)
        relay.wait_for("Ready")
        [node], [state] = relay.nodes(), relay.states()
        [pod] = state["status"]["pods"]
        assert pod["quotaDevice"] == QUOTA_DEVICE
        by = f"kernel, {pod['quotaMode']} XDP"
        wait(f"the relay to say {by}", lambda: _quota(relay)["by"] == by)

        def refused() -> int:
            told = json.loads(nodes.run(node, "fastrelay.cli", "maps", pod["uid"], "--json"))
            return int(told["counters"].get(Reason.C_QUOTA_AT_DEVICE.name, 0))

        assert refused() == 0
        one_too_many(relay.pod_url(), refused)


def one_too_many(url: str, refused: Callable[[], int]) -> None:
    """Who has all his connections gets no more, and from when the kernel has been told, which is
    soon, it is the device that keeps them away: nobody else counts his first packets there."""

    async def come() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(MOST):
                await stack.enter_async_context(connect(url, options=QuicOptions(insecure=True)))
            until = time.monotonic() + _SECONDS
            while not await asyncio.to_thread(refused):
                assert time.monotonic() < until
                with pytest.raises(ConnectFailedError):
                    await stack.enter_async_context(connect(url, options=IMPATIENT))

    netns.inside(places.NAME, lambda: asyncio.run(come()))


IMPATIENT = QuicOptions(insecure=True, idle_timeout=3.0)
_SECONDS = 120.0


def _member(relay: Relay, fine: Callable[[dict[str, Any]], bool]) -> Callable[[], bool]:
    """Whether there is one, and it is like that."""

    def look() -> bool:
        found = _members(relay)
        return len(found) == 1 and fine(found[0])

    return look


def _members(relay: Relay) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(relay.run("fastrelay", "top", "--json"))
    return found


def _quota(relay: Relay) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(relay.run("fastrelay", "quota", "--json"))
    return found
