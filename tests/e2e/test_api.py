"""What the API server takes and refuses, and what the operator puts back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import relays
from e2e.cluster.lifecycle import ask, kubectl, wait
from e2e.relays import Relay
from unit.api import bad_specs
from unit.api.samples import SAMPLES

pytestmark = pytest.mark.timeout(900)

SPEC: dict[str, Any] = {"placement": {"replicas": 0}}


def test_bad_specs_are_refused_with_the_words_that_help(installed: None) -> None:
    """All at once: kubectl tells of each in turn."""
    table = {**bad_specs.EVERYWHERE, **bad_specs.CLUSTER_ONLY}
    manifests = [json.dumps(bad_specs.resource(spec)) for spec in table]
    done = ask("create", "-f", "-", stdin="\n---\n".join(manifests))
    told = done.stderr.split("Error from server")[1:]
    assert not done.stdout  # nothing was created
    assert len(told) == len(table)
    wrong = [case for case in zip(table.items(), told, strict=True) if case[0][1] not in case[1]]
    assert not wrong


def test_bad_names_are_refused(installed: None) -> None:
    for name in bad_specs.BAD_NAMES:
        manifest = json.dumps(bad_specs.resource("{}", name))
        assert ask("create", "-f", "-", stdin=manifest).returncode != 0, name


def test_samples_are_taken(installed: None) -> None:
    """As they are, without a field that is unknown. Several relays of one name: one by one."""
    options = ["--dry-run=server", "--validate=strict"]
    for path in SAMPLES:
        done = ask("create", *options, "-f", "-", stdin=path.read_text())
        assert done.returncode == 0, f"{path}: {done.stderr}"
        assert not done.stderr


@pytest.fixture(scope="module")
def relay(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Without a pod."""
    with relays.namespace("api") as namespace:
        made = relays.create(namespace, "quiet", SPEC, tmp_path_factory.mktemp("relay"))
        made.wait_for("Accepted")
        yield made


CHILDREN = {
    "configmap": {"data": {"moqrelay.json": "{}"}},
    "service": {"spec": {"selector": {"fastrelay.io/relay": "another"}}},
    "deployment": {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}},
    "networkpolicy": {"spec": {"policyTypes": ["Ingress"]}},
    "poddisruptionbudget": {"spec": {"maxUnavailable": 5}},
    "serviceaccount": {"automountServiceAccountToken": True},
}
"""What the operator makes, and what a person might make of it."""


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_was_deleted_is_made_again(relay: Relay, kind: str) -> None:
    before = _child(relay, kind)
    kubectl("-n", relay.namespace, "delete", kind, before["metadata"]["name"])
    wait(f"a new {kind}", lambda: _uid(relay, kind) not in {"", before["metadata"]["uid"]}, 30)


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_was_edited_is_put_back(relay: Relay, kind: str) -> None:
    wait(f"the {kind}", lambda: bool(_uid(relay, kind)), 30)
    before = _child(relay, kind)
    name, edit = before["metadata"]["name"], json.dumps(CHILDREN[kind])
    patch = ["patch", kind, name, "--type=merge", "-p", edit, "-o", "json"]
    assert _content(json.loads(kubectl("-n", relay.namespace, *patch))) != _content(before)
    wait(f"the {kind} as it was", lambda: _content(_child(relay, kind)) == _content(before), 30)


def test_all_of_it_goes_with_the_relay(relay: Relay, tmp_path: Path) -> None:
    leaving = relays.create(relay.namespace, "leaving", SPEC, tmp_path)
    leaving.wait_for("Accepted")
    select = ["-n", relay.namespace, "get", ",".join(CHILDREN), "-o", "name"]
    select += ["-l", f"fastrelay.io/relay={leaving.name}"]
    wait("its children", lambda: len(kubectl(*select).split()) == len(CHILDREN))
    kubectl("-n", relay.namespace, "delete", "moqrelay", leaving.name)
    wait("its children to go", lambda: not kubectl(*select).split())


def _child(relay: Relay, kind: str) -> dict[str, Any]:
    name = f"{relay.name}-relay"
    found: dict[str, Any] = json.loads(
        kubectl("-n", relay.namespace, "get", kind, name, "-o", "json")
    )
    return found


def _uid(relay: Relay, kind: str) -> str:
    """Empty: it is not there."""
    path = "jsonpath={.metadata.uid}"
    return ask("-n", relay.namespace, "get", kind, f"{relay.name}-relay", "-o", path).stdout


def _content(found: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server says of it."""
    return {key: value for key, value in found.items() if key not in {"metadata", "status"}}
