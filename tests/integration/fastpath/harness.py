"""A relay with its node agent in network namespaces, for tests of the fast path.

The relay is reached from the test's own namespace by a veth, so that clients live in the test's
process; pods with links of any quality hang on the same node for clients of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import mmap
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastrelay.agent import maps as agent_maps
from fastrelay.agent import syscalls
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import Outcome, Reason
from fastrelay.local import hostlink, http, netns, topology
from fastrelay.local.links import Addresses
from fastrelay.local.stack import RELAY, Stack, fastrelay
from fastrelay.local.state import Store
from fastrelay.local.topology import NODE, PodPlan
from integration.fastpath.ends import LOGS
from integration.harness import Certificate, becomes_so, moqrelay, tail

READY_SECONDS = 90.0
PAGE_SECONDS = 60.0
"""Within which a relay on a busy machine answers."""
LEAST_SHARE = 0.95
_numbers = itertools.count()
Work = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Counted:
    """Media packets that left the relay: filled in when the block of :meth:`counting` ends.

    ``outcomes``: what else the kernel has counted. ``refused``: copies that it left to user space.
    """

    kernel: int = 0
    user: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The kernel's part; 0 if there were none."""
        return self.kernel / max(self.kernel + self.user, 1)

    def __str__(self) -> str:
        total = self.kernel + self.user
        return (
            f"{self.share:.3f} of {total} packets by the kernel, refused: {self.refused}\n"
            f"{self.outcomes}"
        )


@dataclass(slots=True)
class FastRelay:
    """A running relay; stands in for ``integration.harness.RelayProcess``."""

    store: Store
    stack: Stack
    process: subprocess.Popen[bytes]
    address: tuple[str, int] | None = None
    """Where clients are sent instead of to the pod itself: host, in brackets if need be; port."""

    @property
    def name(self) -> str:
        return self.stack.state.name

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.stack.directory / f"{RELAY}.log"

    @property
    def maps(self) -> Path:
        """The directory of pinned maps."""
        return topology.pins(self.store, self.name) / RELAY / "maps"

    def url(self, *, webtransport: bool = False, ipv6: bool = False) -> str:
        if self.address is None:
            return self.stack.url(webtransport=webtransport, ipv6=ipv6)
        host, port = self.address
        return f"https://{host}:{port}/" if webtransport else f"moqt://{host}:{port}"

    @property
    def node_addresses(self) -> tuple[str, str]:
        """Of the node, as our own namespace reaches it: IPv4 and IPv6."""
        network = self.stack.state.network
        assert network is not None
        link = Addresses(hostlink.LINK, network)
        return link.node4, link.node6

    def page(self, path: str) -> bytes:
        """:raises OSError: nobody answers, or with an error."""
        status, body = http.get(
            self.stack.relay.namespace, self.stack.monitoring_port, path, timeout=PAGE_SECONDS
        )
        if status != 200:
            raise OSError(f"{path}: {status}")
        return body

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.page("/statusz")))

    def counters(self) -> dict[str, int]:
        """The kernel's counters that are not 0; B's outcomes as ``B_SENT`` and the like."""
        _, totals = agent_maps.counters(self.maps)
        names = {reason.value: reason.name for reason in Reason}
        names |= {Reason.B_OUTCOME + outcome: f"B_{outcome.name}" for outcome in Outcome}
        return {name: totals[index] for index, name in names.items() if totals[index]}

    @contextmanager
    def counting(self) -> Iterator[Counted]:
        """Media packets by kernel and by user space during the block."""
        counted = Counted()
        before, kernel_before = self.status()["fast_path"], self.counters()
        yield counted
        after, kernel_after = self.status()["fast_path"], self.counters()
        counted.kernel = after["kernel_packets"] - before["kernel_packets"]
        counted.user = after["user_packets"] - before["user_packets"]
        counted.outcomes = _more(kernel_before, kernel_after)
        counted.refused = _more(before["refused"], after["refused"])

    async def mostly_in_kernel(self, work: Work) -> None:
        """Do the work until the kernel has sent its share of the media packets meanwhile."""

        async def window() -> str:
            with self.counting() as counted:
                await work()
            return "" if counted.share >= LEAST_SHARE else str(counted)

        await becomes_so(window)

    def switch(self, on: bool) -> None:
        """Turn forwarding in the kernel on or off at once, as ``shared.enabled`` says."""
        fd = syscalls.get(self.maps / "shared")
        try:
            memory = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)
        np.frombuffer(memory, layout.SHARED.dtype, 1)["enabled"] = int(on)

    @asynccontextmanager
    async def forwarding(
        self, *, on: bool = True, toggled: float | None = None
    ) -> AsyncIterator[None]:
        """In the kernel or not, or coming and going every ``toggled`` seconds; afterwards it is."""
        self.switch(on)

        async def toggle(pause: float) -> None:
            now = on
            while True:
                await asyncio.sleep(pause)
                now = not now
                self.switch(now)

        task = None if toggled is None else asyncio.create_task(toggle(toggled))
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self.switch(True)

    def wait_for_fast_path(self, *, on: bool = True) -> None:
        """Until the relay has its maps, or has them no more."""
        deadline = time.monotonic() + READY_SECONDS
        while ((said := self.status()["fast_path"])["state"] == "On") != on:
            assert time.monotonic() < deadline, f"fast path: {said}\n{tail(self.log)}"
            time.sleep(0.05)

    def take_away(self) -> None:
        """The relay is wanted no more on this node: the agent removes its data plane."""
        node = self.stack.node
        assert node is not None
        report = node.directory / "reports" / f"{RELAY}.json"
        self._desired.rename(self._desired.with_suffix(".away"))
        deadline = time.monotonic() + READY_SECONDS
        while self.maps.exists() or report.exists():
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.05)

    def want_again(self) -> None:
        """What :meth:`take_away` began is over; the agent will see that."""
        self._desired.with_suffix(".away").rename(self._desired)

    def give_back(self) -> None:
        """It is wanted again; returns when the programs are attached."""
        self.want_again()
        self._attached()

    def want_device(self, device: str) -> None:
        """As if ``spec.quota.device`` had been changed."""
        desired = json.loads(self._desired.read_text()) | {"device": device}
        draft = self._desired.with_suffix(".new")
        draft.write_text(json.dumps(desired))
        draft.replace(self._desired)

    @property
    def _desired(self) -> Path:
        node = self.stack.node
        assert node is not None
        return node.directory / "desired" / f"{RELAY}.json"

    @property
    def agent(self) -> subprocess.Popen[bytes]:
        """The node agent's process."""
        node = self.stack.node
        assert node is not None
        assert node.process is not None
        return node.process

    def kill_agent(self) -> None:
        """SIGKILL, and wait for its end."""
        self.agent.kill()
        self.agent.wait(60)

    def start_agent(self, command: Callable[..., list[str]] = fastrelay) -> None:
        """Another one, in the place of one that ended; returns when it has looked around.

        ``command``: what comes before its arguments, made of them.
        """
        node = self.stack.node
        assert node is not None
        (node.directory / "reports" / f"{RELAY}.json").unlink(missing_ok=True)
        node.start(command(*node.command()))
        self._attached()

    def _attached(self) -> None:
        node = self.stack.node
        assert node is not None
        assert node.settle(RELAY)["state"] == "Attached", self.words()

    def run(self, pod: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command in a pod; its output is in the pod's log."""
        return self.stack.start(pod, command)

    @contextmanager
    def running(self, pod: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A command in a pod until the block ends."""
        process = self.run(pod, command)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)

    def session_of(self, pod: str) -> dict[str, Any]:
        """The pod's newest, as the relay shows it (an earlier one may not be over yet); empty:
        there is none."""
        address = self.stack.state.pods[pod].ipv4 + ":"
        found = [s for s in self.status()["sessions"] if str(s["address"]).startswith(address)]
        return found[-1] if found else {}

    def filter(self, rules: str) -> None:
        """Give nftables rules to the node."""
        namespace = topology.namespace_of(self.name, NODE)
        command = ["nsenter", f"--net={netns.path(namespace)}", "--", "nft", "-f", "-"]
        done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def words(self) -> str:
        """The ends of both logs, for failures."""
        node = self.stack.node
        return f"{tail(self.log, 40)}\n{tail(node.log) if node and node.log.exists() else ''}"


def not_by_the_kernel(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """For :func:`becomes_so`: of a session's media packets between two looks at it."""
    kernel, user = (after[who] - before[who] for who in ("kernel_packets", "user_packets"))
    counted = Counted(kernel, user)
    return "" if counted.share >= LEAST_SHARE else f"{counted}\n{after}"


def _more(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}


@contextmanager
def fast_relay(
    certificate: Certificate,
    directory: Path,
    *,
    drafts: Sequence[int] = (18, 22, 16),
    pods: Sequence[PodPlan] = (),
    spec: Mapping[str, Any] | None = None,
    fast_path: bool = True,
) -> Iterator[FastRelay]:
    """A relay that the kernel works for; at the end it must stop cleanly and leave nothing.

    ``spec``: more of it, by its JSON names. ``fast_path``: False: the same without the kernel.
    """
    directory.mkdir(exist_ok=True)
    name = f"x{os.getpid()}x{next(_numbers)}"
    store = Store(directory / "run")
    files = {
        "certificate": str(certificate.certificate),
        "privateKey": str(certificate.private_key),
    }
    whole = {
        "listen": {"drafts": list(drafts), "handshakeTimeoutSeconds": 60},
        "tls": {"files": files},
        "logging": {"format": "console"},
        **(spec or {}),
    }
    manifest = directory / "moqrelay.yaml"
    manifest.write_text(moqrelay(whole))
    state = topology.up(store, name, [PodPlan(RELAY), *pods], reachable=True)
    started: list[subprocess.Popen[bytes]] = []
    try:
        stack = Stack.prepare(
            store,
            state,
            directory,
            manifest=manifest,
            fast_path="Required" if fast_path else "Disabled",
        )
        try:
            stack.attach()
        finally:
            if stack.node and stack.node.process:
                started.append(stack.node.process)
        relay = FastRelay(store, stack, stack.start_relay(grace=0))
        LOGS.append(relay.log)
        started.append(relay.process)
        if fast_path:
            relay.wait_for_fast_path()
        yield relay
        if stack.node and stack.node.process:
            started.append(stack.node.process)  # another one than at first, maybe
        code = relay.process.poll()
        if code is None:
            relay.process.send_signal(signal.SIGINT)
            code = relay.process.wait(60)
        assert code == 0, f"the relay ended with {code}:\n{relay.words()}"
        assert "Traceback" not in relay.log.read_text(), relay.words()
    finally:
        topology.down(store, name)
        for process in started:
            process.wait(60)
    assert netns.existing(topology.namespace_of(name, "")) == []
