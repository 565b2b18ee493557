"""One relay at a time in its namespace, the load in two others, and what it costs."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import floor, steering, thesis
from bench.accounting import Accounting, Spent, scheduled_seconds
from bench.capture import Capture
from bench.found import quantile
from bench.relays import PORT, Relay
from bench.system_calls import SystemCalls
from fastrelay.local import netns, processes, topology
from fastrelay.local.node import Node
from fastrelay.local.stack import RELAY, fastrelay
from fastrelay.local.state import State, Store

OBJECT_SIZE = 1100
"""Of the first pattern: fits one packet."""
FRAME_SIZES = (1130, 1240)
"""Ethernet frames that hold one object: 14 + 20 + 8 of headers, QUIC's own, the object's."""
VETHS = ("publisher", "viewers")
"""The node's ends."""
SETTLE_SECONDS = 1.0
INTERVALS = 5
"""Of which the median counts: one may fall together with something else on the machine."""
LEAST_OBJECTS = 100
"""For a distribution of residence times."""
ANSWER_SECONDS = 180.0

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Objects of several packets, as a video's pictures are; ``rate``: a second."""

    name: str
    size: int
    packets: int
    """Of 1200 bytes each, but for the last one."""
    rate: float
    subscribers: int


PATTERNS = (
    Pattern("pictures", 5700, packets=5, rate=25.0, subscribers=50),
    Pattern("video", 16_200, packets=14, rate=30.0, subscribers=10),
    Pattern("video", 16_200, packets=14, rate=10.0, subscribers=50),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """What a short while of delivery cost."""

    delivered: int
    """Packets with objects that subscribers received."""
    seconds: float
    spent: Spent
    calls: int
    heard: int
    """Datagrams that the relay's socket was given."""


class Worker:
    """A load process and the conversation with it."""

    def __init__(
        self, namespace: str, log: Path, *arguments: str, module: str = "bench.worker"
    ) -> None:
        command = ["nsenter", f"--net={netns.path(namespace)}", "--", sys.executable]
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*command, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self.hear()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **question: Any) -> dict[str, Any]:
        """Whatever this worker answers; see bench/worker.py."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()
            self._process.wait()
            words = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"the load gave no answer: {' '.join(words) or 'nothing said'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Bench:
    """Three pods, and one relay after the other in the first."""

    def __init__(self, store: Store, state: State, directory: Path, accounting: Accounting) -> None:
        self._store = store
        self._state = state
        self._directory = directory
        self._accounting = accounting
        self._host = state.pods["relay"].ipv4
        self.url = f"moqt://{self._host}:{PORT}"
        self.distributions: dict[str, list[float]] = {}
        """Microseconds, by relay, number of subscribers and what it is; of all rounds."""

    @property
    def maps(self) -> Path:
        """Of a relay with the node agent."""
        return topology.pins(self._store, self._state.name) / RELAY / "maps"

    @contextmanager
    def running(self, relay: Relay, *more: str) -> Iterator[int]:
        """The relay's process id, while it runs; ``more``: of its command line."""
        namespace = self._state.pods["relay"].namespace
        log = self._directory / f"{relay.name}.log"
        with self._node(relay) if relay.kernel else nullcontext(()) as fast_path:
            command = (*relay.command, *more, *fast_path)
            process = processes.start(namespace, command, log, dies_with_us=True)
            try:
                _wait_for_port(namespace, process, log)
                yield process.pid
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def _node(self, relay: Relay) -> Iterator[tuple[str, ...]]:
        """The node agent, and what the relay is told of it; nothing of it is left afterwards."""
        log = self._directory / "agent.log"
        node = Node(self._store, self._state, log, dies_with_us=True)
        node.prepare()
        node.want(RELAY, self._state.pods["relay"], 0, relay.spec)
        node.start(fastrelay(*node.command()))
        agent = node.process
        assert agent
        try:
            report = node.settle(RELAY)
            if report["state"] != "Attached":
                raise RuntimeError(f"no fast path: {report['reason']}: {report['message']}")
            yield ("--fast-path", str(node.socket_of(RELAY)))
        finally:
            (node.directory / "desired" / f"{RELAY}.json").unlink()
            deadline = time.monotonic() + 60
            while node.maps_of(RELAY).exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            agent.terminate()
            agent.wait()

    @contextmanager
    def publishing(self, rate: float, size: int = OBJECT_SIZE) -> Iterator[Worker]:
        with self.worker("publisher", "publish", self.url, str(rate), str(size)) as worker:
            yield worker

    def worker(self, pod: str, role: str, *arguments: str, module: str = "bench.worker") -> Worker:
        namespace = self._state.pods[pod].namespace
        return Worker(namespace, self._directory / f"{pod}.log", role, *arguments, module=module)

    @contextmanager
    def _load(
        self,
        relay: Relay,
        subscribers: int,
        rate: float,
        size: int = OBJECT_SIZE,
        packets: int = 1,
    ) -> Iterator[tuple[Any, ...]]:
        """The relay's process id, publisher and subscribers. An object fills so many packets."""
        if relay.plain:
            viewers = self._state.pods["viewers"].ipv4
            peers = (viewers, str(floor.FIRST_PEER_PORT), str(subscribers))
            sending = (self._host, str(rate), str(size // packets + floor.OVERHEAD), str(packets))
            with (
                self.running(relay, *peers) as pid,
                self.worker("viewers", "subscribe-plain", viewers, str(subscribers)) as receiving,
                self.worker("publisher", "publish-plain", *sending) as publisher,
            ):
                yield pid, publisher, receiving
            return
        with (
            self.running(relay) as pid,
            self.publishing(rate, size) as publisher,
            self.worker("viewers", "subscribe", self.url, str(subscribers)) as receiving,
        ):
            yield pid, publisher, receiving

    def delivery(self, relay: Relay, subscribers: int, rate: float, seconds: float) -> Figures:
        """CPU for each delivered object, and residence time, under the same load."""
        node = topology.namespace_of(self._state.name, topology.NODE)
        with self._load(relay, subscribers, rate) as (pid, publisher, viewers):
            time.sleep(SETTLE_SECONDS)
            with steering.steered(node, VETHS, [pid], [publisher.pid, viewers.pid]):
                intervals = [
                    self._interval(pid, viewers, seconds / INTERVALS) for _ in range(INTERVALS)
                ]
            # Apart, so that watching packets does not count as the relay's work.
            with Capture(node, *VETHS, *FRAME_SIZES) as capture:
                time.sleep(max(seconds, LEAST_OBJECTS / rate))

        figures = _costs(intervals, subscribers * rate)
        return figures | self._residence(f"{relay.name}@{subscribers}", capture, subscribers)

    def pattern(self, relay: Relay, pattern: Pattern, seconds: float) -> Figures:
        """CPU for each delivered packet when objects are as large as pictures of a video."""
        node = topology.namespace_of(self._state.name, topology.NODE)
        load = self._load(relay, pattern.subscribers, pattern.rate, pattern.size, pattern.packets)
        with load as (pid, publisher, viewers):
            time.sleep(SETTLE_SECONDS)
            with steering.steered(node, VETHS, [pid], [publisher.pid, viewers.pid]):
                # Of a plain forwarder, subscribers count datagrams.
                packets = 1 if relay.plain else pattern.packets
                intervals = [
                    self._interval(pid, viewers, seconds / INTERVALS, packets)
                    for _ in range(INTERVALS)
                ]
        figures = _costs(intervals, pattern.subscribers * pattern.rate * pattern.packets)
        return {
            f"{pattern.name}_{name}@{pattern.subscribers}": value for name, value in figures.items()
        }

    def _interval(self, pid: int, viewers: Worker, seconds: float, packets: int = 1) -> Interval:
        """:param packets: those of an object."""
        namespace, cpu = self._state.pods["relay"].namespace, steering.cpus()[1]
        calls = SystemCalls(pid)
        before, heard = viewers.ask(), datagrams_received(namespace)
        spent = self._accounting.spent(pid, cpu)
        time.sleep(seconds)
        after, heard = viewers.ask(), datagrams_received(namespace) - heard
        spent = self._accounting.spent(pid, cpu).since(spent)
        called = calls.read()
        calls.close()
        delivered = max((after["objects"] - before["objects"]) * packets, 1)
        return Interval(delivered, after["at"] - before["at"], spent, called, heard)

    def _residence(self, name: str, capture: Capture, subscribers: int) -> Figures:
        found = capture.evaluate(subscribers)
        if not found.first:
            return {"odd_part": 1.0}
        for which, values in (("first", found.first), ("last", found.last)):
            self.distributions.setdefault(f"{name}:{which}", []).extend(
                value * 1e6 for value in values
            )
        first, last = found.first, found.last
        return {
            "first_p50_us": statistics.median(first) * 1e6,
            "first_p90_us": quantile(first, 0.90) * 1e6,
            "first_p99_us": quantile(first, 0.99) * 1e6,
            "first_sd_us": statistics.pstdev(first) * 1e6,
            "last_p50_us": statistics.median(last) * 1e6,
            "last_p99_us": quantile(last, 0.99) * 1e6,
            "odd_part": found.odd / (found.odd + len(first)),
        }

    def thesis(self, relay: Relay) -> Figures:
        """The experiment of the first prototype's thesis: small objects, 1 ms apart, one client."""
        node = topology.namespace_of(self._state.name, topology.NODE)
        with self._load(relay, 1, thesis.RATE, thesis.OBJECT_SIZE):
            time.sleep(SETTLE_SECONDS)
            with Capture(node, *VETHS, *thesis.FRAME_SIZES) as capture:
                time.sleep(thesis.OBJECTS / thesis.RATE * 1.2)
        delays = thesis.trimmed(capture.delays()[: thesis.OBJECTS])
        if not delays:
            raise RuntimeError("packets in and out cannot be told apart")
        self.distributions.setdefault(f"{relay.name}:thesis", []).extend(d * 1e6 for d in delays)
        return {
            "thesis_median_us": statistics.median(delays) * 1e6,
            "thesis_mean_us": statistics.fmean(delays) * 1e6,
            "thesis_sd_us": statistics.pstdev(delays) * 1e6,
            "thesis_objects": float(len(delays)),
        }

    def joins(self, relay: Relay, count: int, rate: float) -> Figures:
        """Milliseconds until SUBSCRIBE_OK and the first object; CPU for each join."""
        with (
            self.running(relay) as pid,
            self.publishing(rate),
            self.worker("viewers", "join", self.url, str(count)) as viewer,
        ):
            used = scheduled_seconds(pid)
            answer = viewer.ask()
            used = scheduled_seconds(pid) - used
        figures = {"accepted_ms": answer["accepted_ms"], "cpu_ms": used / count * 1e3}
        if answer["first_object_ms"] is not None:
            figures["first_object_ms"] = answer["first_object_ms"]
        return figures

    def handshakes(self, relay: Relay, count: int) -> Figures:
        """How many handshakes (TLS, SETUP, close) a second of one core is enough for."""
        with (
            self.running(relay) as pid,
            self.worker("viewers", "handshake", self.url, str(count), "4") as w,
        ):
            used = scheduled_seconds(pid)
            answer = w.ask()
            used = scheduled_seconds(pid) - used
        return {
            "per_core_second": answer["count"] / used,
            "per_second": answer["count"] / answer["seconds"],
        }

    def memory(self, relay: Relay, count: int) -> Figures:
        """Resident memory for each subscriber of a track on which nothing moves."""
        with (
            self.running(relay) as pid,
            self.publishing(1.0),
            # The first subscribers pay for code and buffers that the others share.
            self.worker("viewers", "idle", self.url, "5"),
        ):
            time.sleep(SETTLE_SECONDS)
            before = processes.resident_bytes(pid)
            with self.worker("viewers", "idle", self.url, str(count)):
                time.sleep(SETTLE_SECONDS)
                after = processes.resident_bytes(pid)
        assert before
        assert after
        return {"kb_per_subscriber": (after - before) / count / 1e3}


def _costs(intervals: list[Interval], rate: float) -> Figures:
    """For each packet; ``rate``: how many were to be delivered each second."""

    def middle(value: Callable[[Interval], float]) -> float:
        return statistics.median(value(each) / each.delivered for each in intervals)

    delivered = sum(each.delivered for each in intervals)
    return {
        "cpu_us": middle(lambda i: i.spent.process * 1e6),
        "kernel_us": middle(lambda i: i.spent.network * 1e6),
        "machine_us": middle(lambda i: (i.spent.process + i.spent.network) * 1e6),
        "calls": middle(lambda i: i.calls),
        "heard": middle(lambda i: i.heard),
        "delivered_part": delivered / (rate * sum(each.seconds for each in intervals)),
    }


def datagrams_received(namespace: str) -> int:
    """By all UDP sockets of a namespace, over IPv4, since it was made."""
    lines = netns.inside(namespace, Path("/proc/thread-self/net/snmp").read_text).splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("InDatagrams")])


def _wait_for_port(namespace: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until somebody in the namespace has the UDP port."""
    deadline = time.monotonic() + 60

    def bound() -> bool:
        tables = (Path(f"/proc/thread-self/net/{name}").read_text() for name in ("udp", "udp6"))
        return any(f":{PORT:04X} " in table for table in tables)

    while not netns.inside(namespace, bound):
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"{log.stem} does not listen: {' '.join(words)}")
        time.sleep(0.05)
