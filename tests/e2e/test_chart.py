"""The chart without a cluster: what it renders, what it refuses, whether it is documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import conform
from e2e.chart import SNAPSHOTS, helm, render_snapshot, rendered, snapshots
from e2e.release import CHART
from fastrelay.api.model import Quantity
from fastrelay.api.spec import GROUP, VERSION
from fastrelay.fastpath import layout

pytestmark = pytest.mark.timeout(600)  # Helm is compiled first, if it never was

SAMPLES = CHART.parents[2] / "samples"
API, MONITORING = f"{GROUP}/{VERSION}", "monitoring.coreos.com/v1"


def test_lint() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", snapshots())
def test_renders_as_in_the_snapshot(name: str) -> None:
    """After a wanted change: PYTHONPATH=tests python -m e2e.chart"""
    assert render_snapshot(name) == (SNAPSHOTS / f"{name}.yaml").read_text()


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    conform.write_schemas(folder)
    return folder


@pytest.mark.parametrize("name", snapshots())
def test_conforms_to_the_schemas_of_its_kinds(schemas: Path, name: str) -> None:
    assert conform.check(schemas, render_snapshot(name)) == []


def test_samples_conform(schemas: Path) -> None:
    """But for what is cert-manager's own."""
    found = [yaml.safe_load_all(path.read_text()) for path in SAMPLES.glob("*.yaml")]
    objects = [each for each in chain(*found) if not each["apiVersion"].startswith("cert-manager")]
    assert len(objects) > len(found)
    assert conform.check(schemas, "\n---\n".join(map(json.dumps, objects))) == []


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        ({"kind": "MoQRelay", "apiVersion": API, "spec": {"replica": 2}}, "'replica'"),
        ({"kind": "Service", "apiVersion": "v1", "spec": {"port": []}}, "'port'"),
        ({"kind": "Service", "apiVersion": "v1", "spec": {"ports": [{"port": "x"}]}}, "integer"),
        ({"kind": "ServiceMonitor", "apiVersion": MONITORING, "spec": {}}, "'selector'"),
        ({"kind": "Gadget", "apiVersion": "apps/v1"}, "could not find schema"),
    ],
)
def test_what_does_not_conform_is_found(
    schemas: Path, manifest: dict[str, Any], complaint: str
) -> None:
    manifest["metadata"] = {"name": "x"}
    [found] = conform.check(schemas, json.dumps(manifest))
    assert complaint in found


@pytest.mark.parametrize("keep", [True, False])
def test_definitions_are_those_of_the_source(keep: bool) -> None:
    objects = rendered("--set", f"crds.keep={str(keep).lower()}")
    found = {each["metadata"]["name"]: each for each in objects if "Definition" in each["kind"]}
    wanted = [yaml.safe_load(path.read_text()) for path in conform.CRDS.glob("*.yaml")]
    assert len(wanted) == 2
    for each in wanted:
        copy = found.pop(each["metadata"]["name"])
        annotations = copy["metadata"].pop("annotations", {})
        assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})
        assert copy == each
    assert not found


REFUSED = {
    "agent.image.digest=abc": "agent.image.digest",
    "agent.maxUnavailable=0": "agent.maxUnavailable",
    "agent.toleration=x": "toleration",
    "crds.enabled=perhaps": "crds.enabled",
    "imageRegistries=x": "imageRegistries",
    "networkPolicy.apiServerPorts={70000}": "networkPolicy.apiServerPorts",
    "operator.image.pullPolicy=Sometimes": "operator.image.pullPolicy",
    "operator.logLevel=loud": "operator.logLevel",
    "operator.replicas=2": "replicas",
    "operator.watchNamespaces={Live}": "operator.watchNamespaces",
    "priorityClass.name=": "priorityClass.name",
    "uninstall.timeoutSeconds=1": "uninstall.timeoutSeconds",
}


@pytest.mark.parametrize(("setting", "named"), REFUSED.items())
def test_wrong_values_are_refused_by_name(setting: str, named: str) -> None:
    done = helm("template", "x", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert named.rpartition(".")[2] in done.stderr


def test_every_value_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
        known = schema.get("properties", {})
        for name, value in values.items():
            if name not in known:
                yield f"{path}{name}"
            elif isinstance(value, dict) and known[name].get("properties"):
                yield from compare(value, known[name], f"{path}{name}.")
        yield from (f"{path}{name}" for name in set(known) - set(values) - FREE)

    assert not set(compare(values, schema, ""))


FREE = {"global", "requests", "limits", "claims"}
"""Of the schema, what need not have a default."""


def test_every_value_is_explained() -> None:
    """A comment stands right above each value, unless others are below it."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent = []
    for before, line in pairwise(lines):
        match = re.match(r"^ *(?P<name>\w+): *(?P<value>\S?)", line)
        if match and match["value"] and not before.strip().startswith("#"):
            silent.append(match["name"])
    assert not silent


def test_operator_has_no_right_that_others_have() -> None:
    """Neither wildcards, nor more than reading a secret or node by name, nor rights on roles."""
    for each in rendered():
        for rule in each.get("rules") or ():
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"roles", "clusterroles", "pods/exec"} & set(rule["resources"])
            if {"secrets", "nodes"} & set(rule["resources"]):
                assert rule["verbs"] == ["get"]


def test_only_the_agent_has_capabilities_and_only_those_that_are_explained() -> None:
    for options, wanted in (((), 3), (("--set", "agent.podAttachment=true"), 4)):
        for each in rendered(*options):
            for container in containers(each):
                added = container["securityContext"]["capabilities"].get("add", [])
                assert len(added) == (wanted if each["kind"] == "DaemonSet" else 0)
                assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
                assert not container["securityContext"].get("privileged")
                assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_agent_has_room_for_the_maps_of_a_hundred_relays() -> None:
    """They count as its own memory."""
    (agent,) = (each for each in rendered() if each["kind"] == "DaemonSet")
    (container,) = containers(agent)
    limit = Quantity(container["resources"]["limits"]["memory"]).value
    assert limit > 100 * sum(each.value * each.entries for each in layout.MAPS)


def containers(each: dict[str, Any]) -> list[dict[str, Any]]:
    spec = each.get("spec") or {}
    pod = spec if each["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
    return list(pod.get("containers") or ())
