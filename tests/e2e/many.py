"""A thousand relays without pods: how soon each is accepted, and what that costs.

    scripts/e2e.sh -- python -m e2e.many [--relays 1000] [--rate 20]

On a cluster without nodes (:mod:`e2e.bare`), which goes afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes.aio import config, watch
from kubernetes.aio.client import ApiClient, Configuration, CustomObjectsApi

from e2e import bare, relays
from e2e.audit import Request
from e2e.bare import Bare, Operator
from fastrelay.api.node_state import HEARTBEAT_SECONDS
from fastrelay.api.spec import GROUP, VERSION
from fastrelay.local.demo.samples import percentile

NAMESPACE, PLURAL = "many", "moqrelays"
_WHERE = (GROUP, VERSION, NAMESPACE, PLURAL)
_SECRET = "certificate"
_SPEC: dict[str, Any] = {"placement": {"replicas": 0}, "tls": {"secretName": f"{_SECRET}-tls"}}
REST_SECONDS = float(HEARTBEAT_SECONDS)
_LAST = {"create events": 1, "patch moqrelays/status": 2}
"""What the operator asks for at the end of its work for one relay."""
_FINISH_SECONDS = 600.0
_AT_REST_SECONDS = 5.0
"""Without a request that counts: then all is done that is to be done."""


@dataclass(frozen=True)
class Measured:
    """``seconds``: from each apply's begin until the relay was accepted. ``cpu``: the operator's,
    in seconds. ``memory``: in bytes, without a relay, with all, and at rest. ``requests``: while
    they were made; ``quiet``: in so many seconds of ``rest``."""

    rest: float
    seconds: list[float]
    cpu: float
    quiet_cpu: float
    memory: tuple[int, int, int]
    requests: Counter[str] = field(default_factory=Counter)
    quiet: Counter[str] = field(default_factory=Counter)


async def apply(kubeconfig: Path, count: int, rate: float) -> list[float]:
    """Seconds from each apply's begin until the relay is accepted, in order of time."""
    begun: dict[str, float] = {}
    accepted: dict[str, float] = {}
    settings = Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=settings)
    async with ApiClient(settings) as api:
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
        objects.list_namespaced_custom_object, *_WHERE, _request_timeout=1800.0
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


def counted(requests: Iterable[Request]) -> Counter[str]:
    """By verb and kind; the Lease and discovery left out, which are not of relays."""
    found = Counter(f"{each.verb} {kind(each.what)}" for each in requests)
    for name in list(found):
        if name.endswith(" leases") or name.startswith("get /"):
            del found[name]
    return found


def kind(path: str) -> str:
    """Like ``moqrelays/status``; whole where it is no kind's."""
    parts = path.partition("?")[0].split("/")
    if "namespaces" in parts:
        parts = parts[parts.index("namespaces") + 2 :]
        return parts[0] + ("/status" if parts[-1] == "status" else "")
    return parts[-1] if len(parts) > (3 if parts[1] == "api" else 4) else path


def measure(
    cluster: Bare, operator: Operator, count: int, rate: float, rest: float = REST_SECONDS
) -> Measured:
    """Make them, let them come to rest, then look for a while."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.give_certificate(NAMESPACE, _SECRET)
    first, begin, cpu = operator.memory(), cluster.requests_end(), operator.cpu()
    again = [sys.executable, "-m", "e2e.many", "--apply-only", str(cluster.kubeconfig)]
    options = [f"--relays={count}", f"--rate={rate}"]
    done = subprocess.run([*again, *options], stdout=subprocess.PIPE, check=True)
    _finish(cluster, begin, count)
    _come_to_rest(cluster)
    cpu, most = operator.cpu() - cpu, operator.memory()
    requests = counted(cluster.requests(begin))
    begin, quiet_cpu = cluster.requests_end(), operator.cpu()
    time.sleep(rest)
    return Measured(
        rest,
        json.loads(done.stdout),
        cpu,
        operator.cpu() - quiet_cpu,
        (first, most, operator.memory()),
        requests,
        counted(cluster.requests(begin)),
    )


def _finish(cluster: Bare, begin: int, count: int) -> None:
    """Wait until each relay has what comes last; silence alone may be a busy machine's."""
    until = time.monotonic() + _FINISH_SECONDS
    while time.monotonic() < until:
        found = counted(cluster.requests(begin))
        if all(found[what] >= number * count for what, number in _LAST.items()):
            return
        time.sleep(1)


def _come_to_rest(cluster: Bare) -> None:
    end, since = -1, time.monotonic()
    while time.monotonic() - since < _AT_REST_SECONDS:
        found = sum(counted(cluster.requests()).values())
        if found != end:
            end, since = found, time.monotonic()
        time.sleep(0.5)


def lines(measured: Measured, count: int) -> list[str]:
    """For people."""
    seconds = measured.seconds
    half, most = percentile(seconds, 0.5), percentile(seconds, 0.99)
    sizes = [f"{each / 1e6:.0f}" for each in measured.memory]
    total = sum(measured.requests.values())
    return [
        f"apply to Accepted: p50 {half:.3f} s, p99 {most:.3f} s, longest {max(seconds):.3f} s",
        f"operator: {measured.cpu / count * 100:.2f} s of CPU for 100 relays,"
        f" {measured.quiet_cpu:.2f} s in {measured.rest:.0f} s of rest",
        f"its memory: {sizes[0]} MB before, {sizes[1]} MB with {count} relays, {sizes[2]} at rest",
        f"requests: {total / count:.2f} a relay",
        *(
            f"  {number:6} {what} ({number / count:.2f} a relay)"
            for what, number in measured.requests.most_common()
        ),
        f"in {measured.rest:.0f} s of rest: {sum(measured.quiet.values())}",
        *(f"  {number:6} {what}" for what, number in measured.quiet.most_common()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--relays", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20.0, help="applies a second")
    parser.add_argument("--apply-only", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.apply_only:
        made = asyncio.run(apply(arguments.apply_only, arguments.relays, arguments.rate))
        json.dump(made, sys.stdout)
        return
    with bare.bare() as cluster, bare.operator(cluster) as operator:
        found = measure(cluster, operator, arguments.relays, arguments.rate)
    print("\n".join(lines(found, arguments.relays)))


if __name__ == "__main__":
    main()
