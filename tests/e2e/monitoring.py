"""Prometheus in the cluster's network, told what to scrape by the chart's monitors.

Debian's finds no pods by itself: it is given those that there are, with the labels that it would
have found. From there on it does with them what it would do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.chart import rendered
from e2e.cluster import binaries
from e2e.cluster.lifecycle import client, kubectl, wait
from e2e.cluster.places import ADDRESS
from e2e.release import CHART

URL = f"http://{ADDRESS}:9090"
_SWITCHES = ("podMonitor", "serviceMonitor", "rules", "dashboards")
_INTERVAL = "2s"
_MONITORS = {
    "PodMonitor": ("pod", "podMetricsEndpoints"),
    "ServiceMonitor": ("endpointslice", "endpoints"),
}
"""By kind: what is found, and the field that says how it is scraped."""
_NAMES = ("$namespace", "$pod", "$member")


def manifests() -> list[dict[str, Any]]:
    """Of the chart, with everything that is there for monitoring."""
    return rendered(*(f"--set=monitoring.{each}.enabled=true" for each in _SWITCHES))


def rules() -> dict[str, Any]:
    """What the PrometheusRule holds."""
    [found] = [each["spec"] for each in manifests() if each["kind"] == "PrometheusRule"]
    return dict(found)


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """promtool."""
    command = [str(binaries.unpack_debian() / "usr/bin/promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def panels() -> dict[str, str]:
    """Every query of every dashboard, by DASHBOARD/PANEL/NUMBER."""
    found = {}
    for path in sorted((CHART / "files/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for number, target in enumerate(panel.get("targets", [])):
                found[f"{path.stem}/{panel['title']}/{number}"] = _filled(target["expr"])
    return found


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples that an expression has now.

        :raises AssertionError: it is no expression.
        """
        command = [str(binaries.unpack_debian() / "usr/bin/promtool"), "query", "instant"]
        done = subprocess.run(
            client([*command, "--format=json", URL, query]), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        samples: list[dict[str, Any]] = json.loads(done.stdout)
        return samples


@contextlib.contextmanager
def prometheus(directory: Path) -> Iterator[Prometheus]:
    """It has scraped everything once; its data and log are in ``directory``."""
    settings = directory / "prometheus.yaml"
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules()))
    for role, find in _TARGETS.items():
        (directory / f"{role}.json").write_text(json.dumps(find()))
    settings.write_text(yaml.safe_dump(_settings()))
    command = [
        *(str(binaries.unpack_debian() / "usr/bin/prometheus"), f"--config.file={settings}"),
        *(f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={ADDRESS}:9090"),
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(client(command), stdout=log, stderr=log)
    running = Prometheus()
    try:
        wait("Prometheus", lambda: _answers(process, directory))
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(process: subprocess.Popen[bytes], directory: Path) -> bool:
    assert process.poll() is None, (directory / "prometheus.log").read_text()[-3000:]
    ready = ["curl", "--silent", "--fail", f"{URL}/-/ready"]
    return not subprocess.run(client(ready), capture_output=True, check=False).returncode


def _settings() -> dict[str, Any]:
    """As the Prometheus Operator would write them, of what the monitors use."""
    scrapes = [
        _scrape(each["metadata"]["name"], each["spec"], *_MONITORS[each["kind"]])
        for each in manifests()
        if each["kind"] in _MONITORS
    ]
    return {
        "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": scrapes,
    }


def _scrape(job: str, monitor: dict[str, Any], role: str, key: str) -> dict[str, Any]:
    [endpoint] = monitor[key]
    kind = "pod" if role == "pod" else "service"
    port = "pod_container_port_name" if role == "pod" else "endpointslice_port_name"
    keep = [
        {
            "source_labels": [f"__meta_kubernetes_{kind}_label_{_label(name)}"],
            "regex": value,
            "action": "keep",
        }
        for name, value in monitor["selector"]["matchLabels"].items()
    ]
    keep.append(
        {
            "source_labels": [f"__meta_kubernetes_{port}"],
            "regex": endpoint["port"],
            "action": "keep",
        }
    )
    names = {
        "namespace": "namespace",
        "pod": "pod_name",
        "service": "service_name",
        **{
            _label(each): f"pod_label_{_label(each)}" for each in monitor.get("podTargetLabels", [])
        },
    }
    labels = [
        {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
        for target, source in names.items()
    ]
    return {
        "job_name": job,
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint["path"],
        "file_sd_configs": [{"files": [f"{role}.json"]}],
        "relabel_configs": [*keep, *labels],
    }


def _pods() -> list[dict[str, Any]]:
    """Each port of each container of each pod."""
    return [
        {
            "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
            "labels": _labels("pod", pod["metadata"])
            | {
                "__meta_kubernetes_pod_name": pod["metadata"]["name"],
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
            },
        }
        for pod in _found("pods")
        if pod["status"].get("podIP")
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    ]


def _endpoints() -> list[dict[str, Any]]:
    """Each port of each address of each Service."""
    services = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["metadata"]
        for each in _found("services")
    }
    found = []
    for part in _found("endpointslices"):
        namespace = part["metadata"]["namespace"]
        name = part["metadata"]["labels"].get("kubernetes.io/service-name", "")
        metadata = services.get((namespace, name))
        if metadata is None:
            continue
        found += [
            {
                "targets": [f"{address}:{port['port']}"],
                "labels": _labels("service", metadata)
                | {
                    "__meta_kubernetes_service_name": name,
                    "__meta_kubernetes_endpointslice_port_name": port.get("name", ""),
                },
            }
            for endpoint in part["endpoints"] or ()
            for address in endpoint["addresses"]
            for port in part["ports"] or ()
        ]
    return found


_TARGETS = {"pod": _pods, "endpointslice": _endpoints}


def _labels(kind: str, metadata: dict[str, Any]) -> dict[str, str]:
    labels = {
        f"__meta_kubernetes_{kind}_label_{_label(name)}": value
        for name, value in metadata.get("labels", {}).items()
    }
    return labels | {"__meta_kubernetes_namespace": metadata["namespace"]}


def _found(kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-A", "-o", "json"))["items"]
    return items


def _label(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _filled(query: str) -> str:
    """With values for Grafana's variables."""
    for variable, value in (("$__rate_interval", "30s"), *((name, ".*") for name in _NAMES)):
        query = query.replace(variable, value)
    return query
