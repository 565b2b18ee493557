"""The chart in the cluster: installed with the images of this tree, and removed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from e2e.cluster.lifecycle import ClusterError, client, kubectl
from e2e.cluster.places import Node

_TREE = Path(__file__).resolve().parents[2]
NAME, NAMESPACE = "fastrelay", "fastrelay-system"
RELAY_IMAGE = "localhost/fastrelay-relay:0.1.0"
QUOTA_DEVICE = "eth0"
"""Of each node, at which relays may refuse connections."""
_SECONDS = 180


def chart_of(tree: Path) -> Path:
    return tree / "deploy/helm/fastrelay"


CHART = chart_of(_TREE)


def helm(*arguments: str) -> str:
    """What Helm says.

    :raises ClusterError: it fails.
    """
    done = subprocess.run(client(["helm", *arguments]), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def install(chart: Path = CHART, **values: str) -> str:
    """Install or upgrade, and wait until all of it is ready; returns the notes."""
    settings = {f"{part}.image.pullPolicy": "Never" for part in ("operator", "agent", "relay")}
    # On the node that stays, whatever happens to others.
    settings[r"operator.nodeSelector.kubernetes\.io/hostname"] = Node(1).name
    settings["agent.quotaDevices"] = f"{{{QUOTA_DEVICE}}}"
    settings |= {"imageRegistry": "localhost", "crds.keep": "false", **values}
    options = [f"--set={key}={value}" for key, value in settings.items()]
    where = ["--namespace", NAMESPACE, "--create-namespace"]
    return helm(
        *("upgrade", "--install", NAME, str(chart), *where, *options),
        *("--wait", f"--timeout={_SECONDS}s"),
    )


def uninstall() -> None:
    """Remove the release, and the namespace that was made for it."""
    helm("uninstall", NAME, "--namespace", NAMESPACE, "--wait", f"--timeout={_SECONDS}s")
    kubectl("delete", "namespace", NAMESPACE, f"--timeout={_SECONDS}s")


def objects(*arguments: str) -> list[dict[str, Any]]:
    """What ``kubectl get`` finds."""
    items: list[dict[str, Any]] = json.loads(kubectl("get", *arguments, "-o", "json"))["items"]
    return items


def pods(component: str, *options: str) -> list[dict[str, Any]]:
    """The pods of a part: ``operator`` or ``agent``."""
    select = ["-l", f"app.kubernetes.io/component={component}", *options]
    return objects("pods", "-n", NAMESPACE, *select)


def is_installed() -> bool:
    return bool(helm("list", "--namespace", NAMESPACE, "--filter", f"^{NAME}$", "--short").strip())
