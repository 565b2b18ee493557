"""States of nodes that are gone: nobody else takes the agent's finalizer from them.

As long as there is the node, its state waits for the agent, whose pins it stands for; also when
the relay itself is gone. With the node they went.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from fastrelay.api.node_state import FINALIZER
from fastrelay_operator.cluster import ApiError, Cluster
from fastrelay_operator.objects import NODE, NODE_STATE, Object, name_of, namespace_of, uid_of
from fastrelay_operator.pods import SILENCE, time_of

SECONDS = 60.0
"""Between looks."""

log = logging.getLogger(__name__)


def silent(states: Iterable[Object], now: datetime) -> dict[str, list[Object]]:
    """Those that nobody has written for too long, by the node's name."""
    found: dict[str, list[Object]] = {}
    for each in states:
        heartbeat = time_of((each.get("status") or {}).get("heartbeat"))
        if heartbeat is None or now - heartbeat > SILENCE:
            found.setdefault(each["spec"]["node"], []).append(each)
    return found


async def release(cluster: Cluster, states: Iterable[Object], now: datetime) -> None:
    """Remove those of nodes that are gone.

    :raises ApiError: not all could be looked at or removed.
    """
    for node, found in silent(states, now).items():
        if await cluster.get(NODE, "", node) is not None:
            continue
        for each in found:
            place = namespace_of(each), name_of(each)
            log.info("node %s is gone: the state %s/%s goes, too", node, *place)
            await cluster.drop_finalizer(NODE_STATE, *place, FINALIZER)
            await cluster.delete(NODE_STATE, *place, uid_of(each))


async def watch(cluster: Cluster, states: Callable[[], list[Object]]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(SECONDS)
        try:
            await release(cluster, states(), datetime.now(UTC))
        except ApiError as error:
            log.warning("states of nodes that may be gone: %s", error)
