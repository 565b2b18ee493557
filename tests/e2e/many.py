"""A thousand relays without pods: how soon each is accepted, and what that costs.

    scripts/e2e.sh -- python -m e2e.many [--relays 1000] [--rate 20]

Makes a cluster of one node, installs the chart, applies, measures, removes everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kubernetes.aio import config, watch
from kubernetes.aio.client import ApiClient, CustomObjectsApi
from prometheus_client.parser import text_string_to_metric_families

from e2e import audit, images, pods, relays, release
from e2e.cluster import lifecycle
from e2e.cluster.lifecycle import client, kubectl
from e2e.cluster.places import ADMIN
from fastrelay.api.node_state import HEARTBEAT_SECONDS
from fastrelay.api.spec import GROUP, VERSION
from fastrelay.local.demo.samples import percentile

NAMESPACE, PLURAL = "many", "moqrelays"
_WHERE = (GROUP, VERSION, NAMESPACE, PLURAL)
_SECRET = "certificate"
_SPEC: dict[str, Any] = {"placement": {"replicas": 0}, "tls": {"secretName": f"{_SECRET}-tls"}}
_PORT = 8080


async def apply(count: int, rate: float) -> list[float]:
    """Seconds from each apply's begin until the relay is accepted, in order of time."""
    begun: dict[str, float] = {}
    accepted: dict[str, float] = {}
    async with ApiClient(await _settings()) as api:
        objects = CustomObjectsApi(api)
        watching = asyncio.ensure_future(_watch(objects, accepted, count))
        begin = time.monotonic()
        creating = []
        for number in range(count):
            await asyncio.sleep(max(begin + number / rate - time.monotonic(), 0.0))
            name = f"relay-{number}"
            begun[name] = time.monotonic()
            body = relays.manifest(NAMESPACE, name, _SPEC)
            creating.append(
                asyncio.ensure_future(objects.create_namespaced_custom_object(*_WHERE, body))
            )
        await asyncio.gather(*creating)
        await watching
    return [accepted[name] - moment for name, moment in begun.items()]


async def _watch(objects: CustomObjectsApi, accepted: dict[str, float], count: int) -> None:
    stream = watch.Watch().stream(
        objects.list_namespaced_custom_object, *_WHERE, _request_timeout=600.0
    )
    async for event in stream:
        found = event["raw_object"]
        name = found["metadata"]["name"]
        conditions = (found.get("status") or {}).get("conditions") or ()
        if name not in accepted and any(
            each["type"] == "Accepted" and each["status"] == "True" for each in conditions
        ):
            accepted[name] = time.monotonic()
            if len(accepted) == count:
                return


async def _settings() -> Any:
    from kubernetes.aio.client import Configuration

    settings = Configuration()
    await config.load_kube_config(str(ADMIN), client_configuration=settings)
    return settings


def _memory() -> float:
    """Of the operator, in MB."""
    pod = pods.of_release("operator")
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{_PORT}/proxy/metrics"
    for family in text_string_to_metric_families(kubectl("get", "--raw", path)):
        if family.name == "process_resident_memory_bytes":
            return float(family.samples[0].value) / 1e6
    raise AssertionError("the operator does not tell its memory")


def _requests(begin: int) -> Counter[str]:
    """Of all accounts of the release, by account, verb and kind."""
    return Counter(f"{each.who} {each.verb} {_kind(each.what)}" for each in audit.since(begin))


def _kind(path: str) -> str:
    parts = path.partition("?")[0].split("/")
    if "namespaces" in parts:
        parts = parts[parts.index("namespaces") + 2 :]
        return parts[0] + ("/status" if parts[-1] == "status" else "")
    return parts[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--relays", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20.0, help="applies a second")
    parser.add_argument("--apply-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.apply_only:
        json.dump(asyncio.run(apply(arguments.relays, arguments.rate)), sys.stdout)
        return
    try:
        _measure(arguments.relays, arguments.rate)
    finally:
        lifecycle.down()


def _measure(count: int, rate: float) -> None:
    lifecycle.up(nodes=1)
    images.load("operator")
    release.install(**{"agent.enabled": "false"})
    kubectl("create", "namespace", NAMESPACE)  # it goes with the cluster
    with tempfile.TemporaryDirectory() as scratch:
        relays.give_certificate(NAMESPACE, _SECRET, Path(scratch))
    print(f"operator with no relay: {_memory():.0f} MB")
    begin = audit.here()
    again = [sys.executable, "-m", "e2e.many", "--apply-only"]
    options = [f"--relays={count}", f"--rate={rate}"]
    done = subprocess.run(client([*again, *options]), stdout=subprocess.PIPE, check=True)
    seconds = json.loads(done.stdout)
    half, most = percentile(seconds, 0.5), percentile(seconds, 0.99)
    print(f"apply to Accepted: p50 {half:.3f} s, p99 {most:.3f} s, longest {max(seconds):.3f} s")
    print(f"operator with {count} relays: {_memory():.0f} MB")
    time.sleep(5)  # for events that are still to be written
    _print(_requests(begin), count)
    quiet = audit.here()
    time.sleep(HEARTBEAT_SECONDS)
    print(f"in {HEARTBEAT_SECONDS} s of which nothing happens:")
    _print(_requests(quiet), count)
    print(f"operator after it: {_memory():.0f} MB")


def _print(requests: Counter[str], count: int) -> None:
    for what, number in requests.most_common():
        print(f"  {number:6} {what} ({number / count:.2f} a relay)")


if __name__ == "__main__":
    main()
