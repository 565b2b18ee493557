"""What runs in the pods: commands of this package, started as a person would start them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastrelay.api.delivery import Mode
from fastrelay.api.load import MINIMAL, load, load_file
from fastrelay.api.spec import MoQRelay
from fastrelay.local import http, projection, topology
from fastrelay.local.node import Node
from fastrelay.local.state import Pod, State, Store
from fastrelay.local.topology import LocalError
from fastrelay.local.unprivileged import User
from fastrelay.quic.certificates import make_self_signed

RELAY = "relay"
PUBLISHER = "publisher"
RELAY_UID = 65534
READY_SECONDS = 60.0


def fastrelay(*arguments: str) -> list[str]:
    """The command line of this very installation."""
    return [sys.executable, "-m", "fastrelay.cli", *arguments]


def control_socket(store: Store, name: str) -> Path:
    """Of a stack's relay."""
    return store.workspace(name) / RELAY / "control.sock"


def viewer_name(number: int) -> str:
    return f"viewer-{number}"


@dataclass(slots=True)
class Stack:
    """Everything of one name while it is being started and used."""

    store: Store
    state: State
    directory: Path
    """Logs and recordings."""
    resource: MoQRelay
    dies_with_us: bool = False
    plaintext: bool = False
    """Our own publisher and viewers ask for connections without encryption."""
    node: Node | None = None
    """With the fast path: who serves it."""

    @classmethod
    def prepare(
        cls,
        store: Store,
        state: State,
        directory: Path,
        *,
        manifest: Path | None = None,
        fast_path: Mode | None = None,
        plaintext: bool = False,
        dies_with_us: bool = False,
    ) -> Stack:
        """``fast_path``, ``plaintext``: instead of what the manifest says.

        :raises SpecError: the manifest is wrong; the message says what to write instead.
        """
        directory.mkdir(parents=True, exist_ok=True)
        resource = load(MINIMAL) if manifest is None else load_file(manifest)
        if fast_path is not None:
            resource = _with_fast_path(resource, mode=fast_path)
        if plaintext:
            resource = _with_fast_path(resource, encryption="Disabled", insecure_laboratory=True)
        return cls(store, state, directory, resource, dies_with_us, plaintext)

    @property
    def session_options(self) -> tuple[str, ...]:
        """Of our own publisher and viewers."""
        return ("--insecure", "--insecure-no-encryption") if self.plaintext else ("--insecure",)

    @property
    def relay(self) -> Pod:
        return self.state.pods[RELAY]

    @property
    def port(self) -> int:
        return self.resource.spec.listen.port

    @property
    def monitoring_port(self) -> int:
        return self.resource.spec.monitoring.port

    def url(self, *, webtransport: bool = False, ipv6: bool = False) -> str:
        """Where the pods find the relay."""
        host = f"[{self.relay.ipv6}]" if ipv6 else self.relay.ipv4
        scheme, path = ("https", "/") if webtransport else ("moqt", "")
        return f"{scheme}://{host}:{self.port}{path}"

    def start(
        self, pod: str, command: Sequence[str], *, user: User | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a pod's command with its log beside the others."""
        log = self.directory / f"{pod}.log"
        log.unlink(missing_ok=True)
        return topology.run(
            self.store, self.state, pod, command, log, dies_with_us=self.dies_with_us, user=user
        )

    def attach(self) -> str:
        """Start the node agent and let it serve the relay that is to be started.

        :returns: why the kernel will not forward; empty if it will.
        :raises LocalError: it will not, and has to.
        """
        mode = self.resource.spec.fast_path.mode
        if mode == "Disabled":
            return "it is switched off"
        problem = self._attach()
        if problem and mode == "Required":
            raise LocalError(f"the fast path is required, but {problem}")
        return problem

    def _attach(self) -> str:
        log = self.directory / f"{topology.NODE}.log"
        log.unlink(missing_ok=True)
        node = Node(self.store, self.state, log, self.dies_with_us)
        try:
            node.prepare()
        except OSError as error:
            return f"the kernel has no file system for eBPF: {error.strerror}"
        node.want(RELAY, self.relay, RELAY_UID, self.resource.spec)
        node.start(fastrelay(*node.command()))
        try:
            report = node.settle(RELAY)
        except LocalError as error:
            return str(error)
        self.node = node
        return "" if report["state"] == "Attached" else f"{report['reason']}: {report['message']}"

    def start_relay(self, *, grace: int | None = None) -> subprocess.Popen[bytes]:
        """Start the relay, without any right, and wait until it says that it is ready.

        ``grace``: seconds that it serves on after SIGTERM, instead of what the manifest says.

        :raises LocalError: it ended, or said nothing in time; its last words are in the message.
        :raises OSError: a file that the manifest names cannot be read.
        """
        # Beside the state, not the recordings: a private key goes when the relay does.
        place = self.store.workspace(self.state.name) / RELAY
        manifest = projection.project(self.resource, place, RELAY_UID)
        control = control_socket(self.store, self.state.name)
        command = fastrelay("relay", "-f", str(manifest), "--control", str(control))
        if self.resource.spec.fast_path.encryption == "Disabled":
            command.append("--insecure-no-encryption")
        if grace is not None:
            command += ["--grace", str(grace)]
        if self.resource.spec.tls.files is None:
            certificate, key = place / "certificate.pem", place / "key.pem"
            hosts = [self.relay.ipv4, self.relay.ipv6, "relay", "localhost"]
            make_self_signed(hosts).write(certificate, key)
            for file in (certificate, key):
                os.chown(file, RELAY_UID, RELAY_UID)
            command += ["--certificate", str(certificate), "--private-key", str(key)]
        sees = [place]
        if self.node is not None:
            socket = self.node.socket_of(RELAY)
            command += ["--fast-path", str(socket)]
            sees.append(socket.parent)
        process = self.start(RELAY, command, user=User(RELAY_UID, tuple(sees)))
        self.state.url = self.url()
        self.store.save(self.state)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LocalError(f"the relay ended at once: {self.last_words(RELAY)}")
            with suppress(OSError):
                if http.get(self.relay.namespace, self.monitoring_port, "/readyz")[0] == 200:
                    if self.node is not None:
                        self.node.await_relay(RELAY)
                    return process
            time.sleep(0.05)
        raise LocalError(
            f"the relay was not ready after {READY_SECONDS:g} s: {self.last_words(RELAY)}"
        )

    def last_words(self, pod: str, lines: int = 5) -> str:
        """The end of a pod's log, for an error message."""
        with suppress(OSError):
            text = (self.directory / f"{pod}.log").read_text(errors="replace")
            if text.strip():
                return "\n" + "\n".join(text.strip().splitlines()[-lines:])
        return "(it said nothing)"


def _with_fast_path(resource: MoQRelay, **changes: object) -> MoQRelay:
    fast_path = resource.spec.fast_path.model_copy(update=changes)
    spec = resource.spec.model_copy(update={"fast_path": fast_path})
    return resource.model_copy(update={"spec": spec})
