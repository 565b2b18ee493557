"""States of nodes that are gone, against an API server in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from fastrelay.api.node_state import FINALIZER
from fastrelay_operator import nodes
from fastrelay_operator.cluster import ApiError, Cluster
from fastrelay_operator.objects import NODE, NODE_STATE, Object, name_of
from unit.kubernetes_api import FakeApi
from unit.operator.world import START, World

LATER = START + timedelta(seconds=181)


def states() -> list[Object]:
    world = World()
    world.run_pods(3)
    for each in world.states.values():
        each["metadata"]["finalizers"] = [FINALIZER, "others"]
    return list(world.states.values())


def test_who_has_been_heard_of_is_there() -> None:
    found = states()
    assert nodes.silent(found, START + timedelta(seconds=179)) == {}
    assert set(nodes.silent(found, LATER)) == {"node-0", "node-1", "node-2"}
    del found[1]["status"]
    assert set(nodes.silent(found, START)) == {"node-1"}, "it never wrote anything"


async def test_with_the_node_go_its_states_and_no_others() -> None:
    """Also while the relay is being deleted, and whatever the agent would have waited for."""
    api = FakeApi()
    paths = {}
    for each in states():
        paths[name_of(each)] = NODE_STATE.path("media", name_of(each))
        api.put(paths[name_of(each)], each)
    api.objects[NODE.path("", "node-0")] = {"metadata": {"name": "node-0"}}
    gone, deleted = paths["live.node-1"], paths["live.node-2"]
    api.objects[gone]["metadata"]["finalizers"] = [FINALIZER]
    api.delete(deleted)
    kept = [api.objects[path] for path in paths.values()]
    async with api.served() as url, ApiClient(Configuration(host=url)) as client:
        cluster = Cluster(client, lambda *_: None)
        await nodes.release(cluster, kept, LATER)
        assert gone not in api.objects
        assert api.objects[paths["live.node-0"]]["metadata"]["finalizers"] == [FINALIZER, "others"]
        assert api.objects[deleted]["metadata"]["finalizers"] == ["others"]
        await nodes.release(cluster, kept, LATER)
        api.refuse["GET", NODE.path("", "node-0")] = (403, "nodes is forbidden")
        with pytest.raises(ApiError, match="403"):
            await nodes.release(cluster, kept, LATER)
