"""Two hundred subscribers and three publishers come and go for half a minute over a lossy link."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastrelay.local import netns, processes, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.state import State, Store
from fastrelay.local.topology import PodPlan
from integration.harness import Certificate, relay_command, tail
from integration.soak_content import PUBLISHERS

SUBSCRIBERS = 200
SUBSCRIBER_PROCESSES = 2
SECONDS = 30
WARM_UP = 8
"""The same crowd for a few seconds: after it, code is loaded and pools have their size."""
LOSS = 0.05
PORT = 4443
STATUS_PORT = 9464
NAME = f"s{os.getpid()}"
SPEC = """
apiVersion: fastrelay.io/v1alpha1
kind: MoQRelay
metadata: {name: soak}
spec:
  listen: {idleTimeoutSeconds: 30, handshakeTimeoutSeconds: 60}
"""


class Soak:
    """The namespaces, the relay and those who use it."""

    def __init__(self, store: Store, state: State, certificate: Certificate, logs: Path) -> None:
        self._store = store
        self._state = state
        self._certificate = certificate
        self._logs = logs
        pod = state.pods["relay"]
        self.address = f"{pod.ipv4}:{PORT}"
        self.relay_log = logs / "relay.log"
        spec = logs / "relay.yaml"
        spec.write_text(SPEC)
        command = relay_command(
            certificate,
            self.address,
            f"{pod.ipv4}:{STATUS_PORT}",
            arguments=("--file", str(spec)),
        )
        self.relay = topology.run(store, state, "relay", command, self.relay_log)
        self._programs: list[subprocess.Popen[str]] = []
        self._page = f"http://{pod.ipv4}:{STATUS_PORT}"

    def page(self, path: str) -> bytes:
        def read() -> bytes:
            with urllib.request.urlopen(self._page + path, timeout=30) as answer:
                return bytes(answer.read())

        return netns.inside(self._state.pods["relay"].namespace, read)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.page("/statusz")))

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            assert self.relay.poll() is None, tail(self.relay_log)
            assert time.monotonic() < deadline, tail(self.relay_log)
            try:
                self.page("/readyz")
            except OSError:
                time.sleep(0.1)
            else:
                return

    def wait_empty(self) -> None:
        """Until the relay knows nobody and nothing: closings may be lost, then sessions end by
        their idle timeout; caches and lingering subscriptions end by theirs."""
        deadline = time.monotonic() + 120
        while True:
            status = self.status()
            left = {key: status[key] for key in ("sessions", "tracks", "namespaces") if status[key]}
            if not left:
                return
            assert time.monotonic() < deadline, left
            time.sleep(0.5)

    def loss(self) -> float:
        """The part of the relay's packets, in both directions, that the link has dropped."""
        seen = topology.device_counters(self._state)
        relay = seen.pop("relay")
        offered = relay.from_pod_packets + sum(pod.from_pod_packets for pod in seen.values())
        passed = relay.to_pod_packets + sum(pod.to_pod_packets for pod in seen.values())
        return 1 - passed / offered

    def memory(self) -> int:
        """The relay's resident memory, bytes."""
        resident = processes.resident_bytes(self.relay.pid)
        assert resident is not None
        return resident

    def start(self, pod: str, *arguments: str) -> subprocess.Popen[str]:
        """A program of this package in the namespace of a pod; its output is a pipe."""
        command = [
            *("nsenter", f"--net={netns.path(self._state.pods[pod].namespace)}", "--"),
            *(sys.executable, "-m", *arguments),
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with (self._logs / f"{pod}.log").open("a") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self._programs.append(process)
        return process

    def close(self) -> None:
        """Whatever still runs has been killed with its namespace: do not leave it a zombie."""
        for process in self._programs:
            process.communicate()
        self.relay.wait()

    def crowd(self, seconds: float, seed: int) -> list[dict[str, Any]]:
        """Everybody comes and goes for so long; the subscribers' findings."""
        sha256 = self._certificate.sha256.hex()
        publishers = [
            self.start(
                *("publishers", "integration.soak_publisher", f"moqt://{self.address}", sha256),
                *(str(number), str(seconds + 5)),
            )
            for number in range(PUBLISHERS)
        ]
        subscribers = [
            self.start(
                *("subscribers", "integration.soak_subscribers", self.address, sha256),
                *(str(SUBSCRIBERS // SUBSCRIBER_PROCESSES), str(seed + number), str(seconds)),
            )
            for number in range(SUBSCRIBER_PROCESSES)
        ]
        findings = []
        for process in subscribers:
            output, _ = process.communicate(timeout=seconds + 90)
            assert process.returncode == 0, tail(self._logs / "subscribers.log")
            findings.append(json.loads(output.splitlines()[-1]))
        for process in publishers:
            process.communicate(timeout=90)
            assert process.returncode == 0, tail(self._logs / "publishers.log")
        return findings


@pytest.fixture
def soak(certificate: Certificate, tmp_path: Path) -> Iterator[Soak]:
    store = Store(tmp_path / "state")
    plans = [PodPlan("relay", Shape(loss=LOSS)), PodPlan("publishers"), PodPlan("subscribers")]
    state = topology.up(store, NAME, plans)
    soak = None
    try:
        soak = Soak(store, state, certificate, tmp_path)
        yield soak
    finally:
        topology.down(store, NAME)
        if soak is not None:
            soak.close()


@pytest.mark.timeout(600)
def test_a_crowd_over_a_lossy_link(soak: Soak) -> None:
    soak.wait_ready()
    at_start = soak.memory()
    soak.crowd(WARM_UP, seed=1)
    soak.wait_empty()
    warmed_up = soak.memory()

    findings = soak.crowd(SECONDS, seed=100)
    totals = {
        key: sum(finding.get(key, 0) for finding in findings)
        for key in ("sessions", "subscriptions", "objects", "groups")
    }
    faults = [fault for finding in findings for fault in finding["faults"]]
    assert not faults, f"{len(faults)} faults in {totals}:\n" + "\n".join(faults[:20])
    assert LOSS / 2 < soak.loss() < LOSS * 2
    assert totals["sessions"] > SUBSCRIBERS, totals
    assert totals["objects"] > 20 * SUBSCRIBERS, totals

    soak.wait_empty()
    after = soak.memory()
    mib = 1024 * 1024
    print(
        f"memory: {at_start // mib} MiB at the start, {warmed_up // mib} MiB after the warm-up,"
        f" {after // mib} MiB at the end; {totals}"
    )
    assert after < warmed_up * 1.1 + 8 * mib
    assert "Traceback" not in soak.relay_log.read_text(), tail(soak.relay_log, 60)
