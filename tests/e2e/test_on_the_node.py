"""What operators of a relay look at and set where it runs: in its pod, and at the node's device."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e import relays, video
from e2e.cluster import places
from e2e.cluster.lifecycle import wait
from e2e.relays import Relay
from e2e.release import QUOTA_DEVICE
from e2e.watching import Audience
from fastrelay.client import connect
from fastrelay.client.errors import ConnectFailedError
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
        "device": QUOTA_DEVICE,
        "perAddress": {"connections": MOST, "newPerSecond": 50, "burst": 50},
    }
}


def test_the_quota_is_at_a_device_of_the_node(installed: None, tmp_path: Path) -> None:
    """For those who address the pod itself: XDP comes before Services."""
    with relays.namespace("guarded") as namespace:
        relay = relays.create(namespace, "demo", GUARDED, tmp_path)
        relay.wait_for("Ready")
        [state] = relay.states()
        [pod] = state["status"]["pods"]
        assert pod["quotaDevice"] == QUOTA_DEVICE
        by = f"kernel, {pod['quotaMode']} XDP"
        wait(f"the relay to say {by}", lambda: _quota(relay)["by"] == by)
        assert connected(relay.pod_url(), MOST + 1) == MOST


def connected(url: str, count: int) -> int:
    """How many of so many clients at the same time are let in."""

    async def together() -> int:
        opened = 0
        async with AsyncExitStack() as stack:
            for _ in range(count):
                options = QuicOptions(insecure=True, idle_timeout=5.0)
                try:
                    await stack.enter_async_context(connect(url, options=options))
                except ConnectFailedError:
                    continue
                opened += 1
        return opened

    return netns.inside(places.NAME, lambda: asyncio.run(together()))


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
