"""Manifests beside the schemas of their kinds, by kubeconform, without a cluster.

Schemas are made from what lies in the Go modules that the cluster is compiled from: Kubernetes'
OpenAPI document, the definitions of the Prometheus operator; and from ours. No field may be
there that is not in them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from e2e.release import CHART

CRDS = CHART.parents[2] / "crds"
_REFERENCE = "#/definitions/"
_OTHERWISE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["number", "string"]},
}
"""Of which the document says less than the API server takes."""

Schema = dict[str, Any]


def write_schemas(folder: Path) -> None:
    """One file for each kind."""
    kubernetes = binaries.module("k8s.io/kubernetes", binaries.KUBERNETES)
    document = json.loads((kubernetes / "api/openapi-spec/swagger.json").read_text())
    operator = "github.com/prometheus-operator/prometheus-operator"
    monitoring = binaries.module(operator, binaries.CONFORM) / "example/prometheus-operator-crd"
    for name, schema in (
        *_of_kubernetes(document["definitions"]),
        *_of_definitions(monitoring, "*monitors.yaml"),
        *_of_definitions(monitoring, "*rules.yaml"),
        *_of_definitions(CRDS, "*.yaml"),
    ):
        (folder / f"{name}.json").write_text(json.dumps(schema))


def check(schemas: Path, manifests: str) -> list[str]:
    """What is wrong with them. ``schemas``: from :func:`write_schemas`."""
    command = [
        *(str(binaries.build_kubeconform()), "-strict", "-output", "json"),
        *("-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", "-"),
    ]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["resources"]
    assert done.returncode == bool(found), done.stderr
    return [f"{each['kind']} {each['name']}: {each['msg']}" for each in found]


def _of_kubernetes(definitions: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    closed = {name: _closed(_OTHERWISE.get(name, each)) for name, each in definitions.items()}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            needed = {each: closed[each] for each in _needed(name, definitions)}
            file = _file(kind["group"], kind["version"], kind["kind"])
            yield file, {"$ref": _REFERENCE + name, "definitions": needed}


def _of_definitions(folder: Path, pattern: str) -> Iterator[tuple[str, Schema]]:
    for path in folder.glob(pattern):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            file = _file(spec["group"], version["name"], spec["names"]["kind"])
            yield file, _closed(version["schema"]["openAPIV3Schema"])


def _file(group: str, version: str, kind: str) -> str:
    """As kubeconform calls it."""
    return "-".join(filter(None, (kind, group.partition(".")[0], version))).lower()


def _needed(name: str, definitions: dict[str, Schema]) -> set[str]:
    """Those to which a definition leads, and itself."""
    found, left = {name}, [name]
    while left:
        more = set(_references(definitions[left.pop()])) - found
        found |= more
        left += more
    return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(_REFERENCE)
            else:
                yield from _references(value)


def _closed(schema: Schema) -> Schema:
    """The same, without room for what it does not name."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            closed[key] = _closed(schema[key])
    return closed
