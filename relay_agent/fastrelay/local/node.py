"""The node agent of a stack: the same process as on a node of a cluster, told by files.

::

    NAME/node/desired/relay.json    which relay there is (written here)
    NAME/node/reports/relay.json    what became of it (written by the agent)
    NAME/bpf/relay/                 what is pinned for it
    NAME/relays/relay/agent.sock    where it gets its maps
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrelay.agent.instance import Reason
from fastrelay.api.objects import SOCKET
from fastrelay.api.spec import RelaySpec
from fastrelay.local import bpffs, topology
from fastrelay.local.state import Pod, State, Store
from fastrelay.local.topology import NODE, LocalError

REPORT_SECONDS = 120.0
"""bcc compiles; on a busy machine that takes its time."""
RELAY_SECONDS = 5.0
INTERVAL = 0.05


@dataclass(slots=True)
class Node:
    """The agent's files and process of one stack."""

    store: Store
    state: State
    log: Path
    dies_with_us: bool = False
    process: subprocess.Popen[bytes] | None = None
    """The agent, if we started it."""

    @property
    def directory(self) -> Path:
        return self.store.workspace(self.state.name) / "node"

    @property
    def pins(self) -> Path:
        return topology.pins(self.store, self.state.name)

    @property
    def sockets(self) -> Path:
        return topology.sockets(self.store, self.state.name)

    def maps_of(self, relay: str) -> Path:
        """Where a relay's maps are pinned."""
        return self.pins / relay / "maps"

    def socket_of(self, relay: str) -> Path:
        """What a relay is given as ``--fast-path``; it has to see the directory."""
        return self.sockets / relay / SOCKET

    def command(self) -> Sequence[str]:
        """The agent's command line, without the interpreter."""
        return (
            *("agent", "--desired", str(self.directory / "desired")),
            *("--reports", str(self.directory / "reports"), "--pins", str(self.pins)),
            *("--records", str(topology.records(self.store, self.state.name))),
            *("--sockets", str(self.sockets)),
        )

    def prepare(self) -> None:
        """Make the directories, and the file system for pins.

        :raises OSError: the kernel has no such file system.
        """
        for name in ("desired", "reports"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        bpffs.mount(self.pins)

    def start(self, command: Sequence[str]) -> None:
        """Start the agent, also anew after it ended: what it attached stays in place meanwhile."""
        self.process = topology.run(
            self.store, self.state, NODE, command, self.log, dies_with_us=self.dies_with_us
        )

    def want(self, relay: str, pod: Pod, uid: int, spec: RelaySpec) -> None:
        """Say which relay is to be served."""
        desired = {
            "name": relay,
            "uid": uid,
            "addresses": [pod.ipv4, pod.ipv6],
            "attach": spec.fast_path.attach,
            "device": spec.quota.hook,
        }
        file = self.directory / "desired" / f"{relay}.json"
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(desired, indent=2) + "\n")
        os.replace(draft, file)

    def report(self, relay: str) -> dict[str, Any] | None:
        """What the agent says of a relay; None: nothing yet."""
        try:
            return dict(json.loads((self.directory / "reports" / f"{relay}.json").read_text()))
        except FileNotFoundError:
            return None

    def await_relay(self, relay: str) -> None:
        """Give the relay a moment to say that the kernel forwards for it."""
        deadline = time.monotonic() + RELAY_SECONDS
        while time.monotonic() < deadline:
            report = self.report(relay)
            if report and report["relay"]["forwarding"]:
                return
            time.sleep(INTERVAL)

    def settle(self, relay: str) -> dict[str, Any]:
        """Wait until the agent has attached the programs, or knows that it cannot.

        :raises LocalError: it ended, or said nothing in time.
        """
        assert self.process is not None
        deadline = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < deadline:
            report = self.report(relay)
            # The pod is there before the agent looks for it: there is nothing else to wait for.
            if report and report["reason"] != Reason.LOADING:
                return report
            if self.process.poll() is not None:
                raise LocalError(f"the node agent ended at once, see {self.log}")
            time.sleep(INTERVAL)
        raise LocalError(f"the node agent said nothing for {REPORT_SECONDS:g} s, see {self.log}")
