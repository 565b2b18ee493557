"""A relay and its neighbours: namespaces, wires and processes of one name, up and down.

::

    fastrelay-NAME-relay eth0 --- relay     |
    fastrelay-NAME-publisher eth0 --- publisher |  fastrelay-NAME-node (routes)
    fastrelay-NAME-viewer-1 eth0 --- viewer-1   |

A link with a delay, on a kernel without netem, leads through ``fastrelay-NAME-wire``. A stack
that this machine's own programs are to reach has one more link: ``fastrelayN --- host``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from fastrelay.agent.instance import Settings
from fastrelay.agent.node import Node
from fastrelay.agent.versions import Toolchain
from fastrelay.local import bpffs, hostlink, links, netns, processes, shaping
from fastrelay.local.processes import ProcessId
from fastrelay.local.shaping import Shape
from fastrelay.local.state import Pod, State, Store, check_name
from fastrelay.local.unprivileged import User

NODE = "node"
WIRE = "wire"
MAX_PODS = 250


class LocalError(Exception):
    """What was asked for cannot be done here; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod to be: its name, at most 12 characters, and how good its link is."""

    name: str
    shape: Shape = field(default_factory=Shape)


def namespace_of(name: str, part: str) -> str:
    return f"fastrelay-{check_name(name)}-{part}"


def records(store: Store, name: str) -> Path:
    """Where a stack's node agent notes what it attached."""
    return store.workspace(name) / "node" / "records"


def sockets(store: Store, name: str) -> Path:
    """Where a stack's relay finds the node agent."""
    return store.workspace(name) / "relays"


def pins(store: Store, name: str) -> Path:
    """Where a stack's bpf file system is, if it has one."""
    return store.workspace(name) / "bpf"


def up(
    store: Store,
    name: str,
    plans: Sequence[PodPlan],
    *,
    owner: ProcessId | None = None,
    reachable: bool = False,
) -> State:
    """Make namespaces and links; what an earlier run left behind under this name goes first.

    ``reachable``: from this machine's own network namespace too.

    :raises LocalError: something of this name is running, or we are not root.
    """
    if len(plans) > MAX_PODS:
        raise LocalError(f"{len(plans)} pods are too many; at most {MAX_PODS} fit")
    with store.locked(name):
        earlier = store.load(name)
        if earlier and (running := earlier.running()):
            raise LocalError(
                f"{name!r} is up already (process {running[0].pid}); "
                f"'fastrelay local down {name}' ends it, '--name' chooses another name"
            )
        _tear_down(store, name, earlier, grace=1.0)
        state = State(name, owner)
        store.save(state)
        try:
            _build(state, plans, store.workspace(name), reachable=reachable)
        except PermissionError as error:
            raise LocalError("network namespaces need root; run this with sudo") from error
        except BaseException:
            _tear_down(store, name, state, grace=1.0)
            raise
        store.save(state)
        return state


def run(
    store: Store,
    state: State,
    pod: str,
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    dies_with_us: bool = False,
    user: User | None = None,
) -> subprocess.Popen[bytes]:
    """Start the process of a pod, or of ``node``, and remember it."""
    where = state.node if pod == NODE else state.pods[pod]
    assert where is not None
    process = processes.start(
        where.namespace, command, log, environment=environment, dies_with_us=dies_with_us, user=user
    )
    where.process = processes.identify(process.pid)
    where.command = list(command)
    where.log = str(log)
    store.save(state)
    return process


def down(store: Store, name: str, *, grace: float = 5.0) -> bool:
    """End processes, remove namespaces and files; False if there was nothing of this name."""
    with store.locked(name):
        state = store.load(name)
        found = state is not None or bool(netns.existing(namespace_of(name, "")))
        _tear_down(store, name, state, grace=grace)
        return found


def device_counters(state: State) -> dict[str, links.Counters]:
    """What passed each pod's link so far."""
    seen = links.counters(namespace_of(state.name, NODE))
    return {pod: seen[pod] for pod in state.pods if pod in seen}


def _build(state: State, plans: Sequence[PodPlan], workspace: Path, *, reachable: bool) -> None:
    node = namespace_of(state.name, NODE)
    netns.create(node)
    netns.set_sysctls(node, links.ROUTER_SETTINGS)
    state.node = Pod(node, "", "")
    if reachable:
        state.network = hostlink.connect(node)
    network = state.network or 0
    numbered = {plan.name: links.Addresses(i, network) for i, plan in enumerate(plans, 1)}
    for plan_name, addresses in numbered.items():
        namespace = namespace_of(state.name, plan_name)
        state.pods[plan_name] = Pod(namespace, addresses.pod4, addresses.pod6)
    delayed = any(plan.shape.delay for plan in plans)
    netem = delayed and shaping.has_netem(node)
    delay_lines = []
    if delayed and not netem:
        wire = namespace_of(state.name, WIRE)
        netns.create(wire)
        netns.set_sysctls(wire, links.NO_IPV6)
    for plan in plans:
        pod = state.pods[plan.name]
        netns.create(pod.namespace)
        netns.set_sysctls(pod.namespace, links.SETTINGS)
        if plan.shape.delay and not netem:
            before, after = f"{plan.name}.n", f"{plan.name}.p"
            links.join(node, plan.name, wire, before)
            links.join(wire, after, pod.namespace, links.POD_DEVICE)
            delay_lines.append(f"{before},{after},{plan.shape.delay}")
        else:
            links.join(node, plan.name, pod.namespace, links.POD_DEVICE)
        links.address_node_end(node, plan.name, numbered[plan.name])
        links.address_pod_end(pod.namespace, numbered[plan.name])
    shaping.apply(
        node,
        {plan.name: (state.pods[plan.name].namespace, plan.shape) for plan in plans},
        netem=netem,
    )
    if delay_lines:
        command = [sys.executable, "-m", "fastrelay.local.delay", *delay_lines]
        processes.start_detached(wire, command, workspace / "delay.log")


def _tear_down(store: Store, name: str, state: State | None, *, grace: float) -> None:
    """Clients before the relay, so that nobody waits for its drain; then whatever is left.

    The node agent goes last, and with it what is pinned: links, programs, maps.
    """
    if state:
        clients = [pod.process for key, pod in state.pods.items() if key != "relay" and pod.process]
        processes.end(clients, grace=grace, first=signal.SIGINT)
        if (relay := state.pods.get("relay")) and relay.process:
            processes.end([relay.process], grace=grace)
        if state.node and state.node.process:
            processes.end([state.node.process], grace=grace)
    namespaces = netns.existing(namespace_of(name, ""))
    strays = processes.inside(*namespaces)
    processes.end(chain.from_iterable(strays.values()), grace=1.0)
    _detach(store, name)
    bpffs.unmount(pins(store, name))
    for namespace in namespaces:
        if namespace == namespace_of(name, NODE):
            with suppress(OSError):  # a crash may leave a name without a namespace
                hostlink.disconnect(namespace)
        netns.remove(namespace)
    store.forget(name)


def _detach(store: Store, name: str) -> None:
    """What a node agent does for a relay that is gone: detach, erase keys, unpin."""
    node = namespace_of(name, NODE)
    if not (pins(store, name).is_mount() and netns.path(node).exists()):
        return

    def remove() -> None:
        settings = Settings(pins(store, name), records(store, name), sockets(store, name))
        agent = Node(settings, Toolchain(store.workspace(name)))
        try:
            agent.remove_all()
        finally:
            agent.close()

    with suppress(OSError):  # what is attached still goes with its pins or its namespace
        netns.inside(node, remove)
