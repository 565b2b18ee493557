"""Publisher and viewers of a broadcast: outside of the cluster and in pods, ours and others'."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.lifecycle import ask, client, kubectl, wait
from fastrelay.local.demo.checks import Entry, read_digests

BROADCAST, TRACK = "live/demo", "video-360"
_TREE = Path(__file__).resolve().parents[2]
_END_SECONDS = 60
_PATIENCE = ["--retry", "240"]
"""Until another relay is there, on a busy machine."""
_LOG = 3000
_IN_POD = """
"$@" --digests /tmp/digests 2>/tmp/log & client=$!
echo $client >/tmp/client
wait $client
echo $? >/tmp/status
sleep infinity & wait
"""
_END = """
kill -TERM $(cat /tmp/client)
until [ -s /tmp/status ]; do sleep 0.1; done
cat /tmp/status
"""
_RECEIVED = 'cat /tmp/digests; echo; echo "status $(cat /tmp/status)"'


@dataclass
class Process:
    """A client outside of the cluster, in its network."""

    name: str
    digests: Path
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        """Ask it to end, and wait.

        :raises AssertionError: it fails.
        """
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=_END_SECONDS)
        assert code == 0, f"{self.name} ended with {code}:\n{self._words()}"

    def received(self) -> list[Entry]:
        assert not self.process.poll(), f"{self.name} has failed:\n{self._words()}"
        return read_digests(self.digests)

    def remove(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _words(self) -> str:
        return self.log.read_text()[-_LOG:]


@dataclass(frozen=True, slots=True)
class Pod:
    """A client of ours as a pod without any right, in the relay's image."""

    name: str
    namespace: str
    digests: Path

    def start(self, image: str, arguments: Sequence[str], *, ffmpeg: bool) -> None:
        """``ffmpeg``: it needs that. The image has none, so the pod sees the machine's."""
        command = ["sh", "-c", _IN_POD, "client", "fastrelay", *arguments]
        borrowed = ["/usr", "/etc/alternatives"] if ffmpeg else []
        container: dict[str, Any] = {
            "name": "client",
            "image": image,
            "imagePullPolicy": "Never",
            "command": command,
            "env": [{"name": "HOME", "value": "/tmp"}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": f"borrowed-{number}", "mountPath": path, "readOnly": True}
                for number, path in enumerate(borrowed)
            ],
        }
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": f"borrowed-{number}", "hostPath": {"path": path}}
                for number, path in enumerate(borrowed)
            ],
        }
        metadata = {"name": self.name, "namespace": self.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        self._kubectl("wait", "--for=condition=Ready", f"pod/{self.name}", "--timeout=120s")

    def end(self) -> None:
        """Ask it to end, and wait.

        :raises AssertionError: it fails.
        """
        code = self._run("sh", "-c", _END).strip()
        assert code == "0", f"{self.name} ended with {code}:\n{self._words()}"

    def received(self) -> list[Entry]:
        told = self._run("sh", "-c", _RECEIVED)
        lines, _, status = told.rpartition("status ")
        assert status.strip() in {"", "0"}, f"{self.name} has failed:\n{self._words()}"
        self.digests.write_text(lines)
        return read_digests(self.digests)

    def remove(self) -> None:
        ask("-n", self.namespace, "delete", "pod", self.name, "--ignore-not-found", "--wait=false")

    def _words(self) -> str:
        return self._run("cat", "/tmp/log")[-_LOG:]

    def _run(self, *command: str) -> str:
        return self._kubectl("exec", self.name, "--", *command)

    def _kubectl(self, *arguments: str) -> str:
        return kubectl("-n", self.namespace, *arguments)


Client = Process | Pod


@dataclass
class Audience:
    """Starts clients; removes all of them when the test is over."""

    directory: Path
    namespace: str
    image: str
    clients: list[Client] = field(default_factory=list)

    def publish(self, url: str) -> Client:
        """From outside: a test picture and a tone."""
        return self._outside("publisher", _publish(url))

    def publish_from_pod(self, url: str) -> Client:
        """The same from a pod."""
        return self._pod("publisher-pod", _publish(url), ffmpeg=True)

    def watch(self, name: str, url: str, draft: int = 18, *options: str) -> Client:
        """Our own viewer, outside."""
        return self._outside(name, [*_watch(url, draft), *options])

    def watch_from_pod(self, name: str, url: str, draft: int = 18) -> Client:
        """Our own viewer in a pod."""
        return self._pod(name, _watch(url, draft), ffmpeg=False)

    def watch_with(self, library: str, url: str, draft: int) -> Client:
        """A viewer that others wrote, outside: ``aiomoqt`` or ``moqrs``."""
        python = os.environ.get("FASTRELAY_THIRD_PARTY_PYTHON")
        assert python, "set FASTRELAY_THIRD_PARTY_PYTHON to what scripts/third-party.sh prints"
        digests, output = (self.directory / f"{library}.{end}" for end in ("jsonl", "mp4"))
        module = ["-m", "fastrelay.local.third_party", library, url, BROADCAST, str(draft), TRACK]
        packages = f"PYTHONPATH={_TREE / 'relay_agent'}"
        command = ["env", packages, python, *module, str(output), str(digests)]
        return self._start(library, command, digests)

    def _outside(self, name: str, arguments: Sequence[str]) -> Client:
        digests = self.directory / f"{name}.jsonl"
        command = [sys.executable, "-m", "fastrelay.cli", *arguments, "--digests", str(digests)]
        return self._start(name, command, digests)

    def _start(self, name: str, command: Sequence[str], digests: Path) -> Client:
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                client(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        started = Process(name, digests, process, log)
        self.clients.append(started)
        return started

    def _pod(self, name: str, arguments: Sequence[str], *, ffmpeg: bool) -> Client:
        pod = Pod(name, self.namespace, self.directory / f"{name}.jsonl")
        self.clients.append(pod)
        pod.start(self.image, arguments, ffmpeg=ffmpeg)
        return pod

    def see(self, viewers: Sequence[Client], frames: int, seconds: float = 90) -> None:
        """Wait until each has so many frames more than now."""
        for each, before in [(each, len(each.received())) for each in viewers]:
            wait(
                f"{frames} more frames at {each.name}",
                lambda each=each, least=before + frames: len(each.received()) >= least,  # type: ignore[misc]
                seconds,
                pause=1,
            )


@contextlib.contextmanager
def audience(directory: Path, namespace: str, image: str) -> Iterator[Audience]:
    """Clients in the cluster's network whose files are in ``directory``, and in pods."""
    group = Audience(directory, namespace, image)
    try:
        yield group
    finally:
        for each in group.clients:
            each.remove()


def _publish(url: str) -> list[str]:
    options = ["--insecure", "--namespace", BROADCAST, "--renditions", "360", "--quiet", *_PATIENCE]
    return ["publish", url, *options, "test"]


def _watch(url: str, draft: int) -> list[str]:
    options = ["--insecure", "--namespace", BROADCAST, "--track", TRACK, "--quiet", *_PATIENCE]
    return ["subscribe", url, *options, "--draft", str(draft), "--wait", "60"]
