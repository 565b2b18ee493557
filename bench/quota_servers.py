"""The servers of bench/quota.py: each of the two with each of four quotas."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import quota_http3
from bench.relays import PORT, Relay
from fastrelay.api.spec import RelaySpec

SUBJECTS = ("relay", "http3")
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"mode": "Disabled"},
    "user space": {"mode": "UserSpace"},
    "kernel, TC": {"mode": "Kernel"},
    "kernel, XDP": {"mode": "Kernel", "device": "attackers"},
}
HELD = 16
"""Connections of one address."""
LIMITS = {
    "action": "Drop",
    "perAddress": {"connections": HELD, "newPerSecond": 1000, "burst": 1000},
    "perPrefix": {"connections": 4096, "newPerSecond": 1000, "burst": 4096},
}


def servers(directory: Path, certificate: Path, key: Path, subject: str) -> Iterator[Relay]:
    """One for each variant; the same server but for its quota."""
    for number, (name, quota) in enumerate(VARIANTS.items()):
        spec = {"quota": {**quota, **LIMITS}, "listen": {"drafts": [18]}}
        resource = {
            "apiVersion": "fastrelay.io/v1alpha1",
            "kind": "MoQRelay",
            "metadata": {"name": "quota"},
            "spec": spec,
        }
        manifest = directory / f"{number}.json"
        manifest.write_text(json.dumps(resource))
        files = str(certificate), str(key)
        if subject == "http3":
            arguments = [str(manifest), "0.0.0.0", str(PORT), *files]
            command = [sys.executable, "-m", quota_http3.__name__, *arguments]
        else:
            command = [
                *(sys.executable, "-m", "fastrelay.cli", "relay", "-f", str(manifest)),
                *("--listen", f"0.0.0.0:{PORT}", "--log-level", "warning"),
                *("--certificate", files[0], "--private-key", files[1]),
            ]
        parsed = RelaySpec.model_validate(spec)
        yield Relay(name, f"{subject}, {name}", tuple(command), kernel=True, spec=parsed)
