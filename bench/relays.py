"""The relays that are measured, each alone in the relay's namespace when its turn comes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench import floor
from bench.floor import PORT
from fastrelay.api.spec import RelaySpec

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Relay:
    """How to start one."""

    name: str
    what: str
    """For the table: version and kind."""
    command: tuple[str, ...]
    kernel: bool = False
    """With the node agent and its programs."""
    plain: bool = False
    """No relay: plaintext datagrams, to peers that are told by number."""
    spec: RelaySpec = field(default_factory=RelaySpec)
    """What the node agent is told."""


def available(certificate: Path, key: Path, third_party: Path | None) -> list[Relay]:
    """Ours first; the others where a Python with their libraries is at hand."""
    files = (str(certificate), str(key))
    ours = [
        *(sys.executable, "-m", "fastrelay.cli", "relay", "--listen", f"0.0.0.0:{PORT}"),
        *("--certificate", files[0], "--private-key", files[1], "--log-level", "warning"),
    ]
    relays = [
        Relay("kernel", "fastrelay, forwarding in the kernel", tuple(ours), kernel=True),
        Relay("user", "fastrelay, in user space: Python on aioquic", tuple(ours)),
        Relay("floor", "plaintext forwarder in C", (str(floor.build()), str(PORT)), plain=True),
    ]
    if third_party is None:
        return relays
    python = str(third_party)
    module = "aiomoqt.tools.moq_interop_relay"
    theirs = ["--dual", "--port", str(PORT), "--cert", files[0], "--key", files[1]]
    relays.append(
        Relay("aiomoqt", "Python on picoquic (C)", (python, "-m", module, "--draft", "18", *theirs))
    )
    server = (python, str(HERE / "moqrs_relay.py"), f"0.0.0.0:{PORT}", *files)
    relays.append(Relay("moq-rs", "moq.Server, Rust on noq", server))
    return relays
