"""The CustomResourceDefinitions: structural, up to date, and of one mind with the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastrelay.api.crd import documents, main, moqrelaynodestates, moqrelays
from fastrelay.api.load import SpecError, validate
from fastrelay.api.reference import document
from fastrelay.api.spec import RelaySpec
from unit.api.apiserver import check, refused, with_defaults
from unit.api.bad_specs import BAD_NAMES, CLUSTER_ONLY, EVERYWHERE, resource
from unit.api.test_models import FULL

CRDS = Path(__file__).parents[3] / "crds"
FORBIDDEN = {"$ref", "$defs", "title", "const", "oneOf", "allOf", "not", "definitions", "nullable"}


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    (version,) = definition["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


RELAY = schema_of(moqrelays())
NODE_STATE = schema_of(moqrelaynodestates())


def places(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from places(each, f"{path}.{name}")
    if "items" in schema:
        yield from places(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from places(schema["additionalProperties"], f"{path}.*")


@pytest.mark.parametrize("schema", [RELAY, NODE_STATE], ids=["relay", "state"])
def test_schema_is_structural_described_and_bounded(schema: dict[str, Any]) -> None:
    for path, place in places(schema):
        assert not FORBIDDEN & place.keys(), path
        number_or_text = place.get("x-kubernetes-int-or-string")
        assert ("type" in place) != bool(number_or_text), path
        assert ("anyOf" in place) == bool(number_or_text), path
        if path.rpartition(".")[2] not in ("metadata", "*", "") and not path.endswith("[]"):
            assert place.get("description"), path
        if place.get("type") == "string" and "enum" not in place and path.count(".") > 1:
            assert "maxLength" in place or "64}$" in str(place), path
        if place.get("type") == "array":
            assert "maxItems" in place, path
        if "additionalProperties" in place:
            assert "maxProperties" in place, path
        for each in place.get("x-kubernetes-validations", ()):
            assert "write" in each["message"] or ";" in each["message"], path
            assert len(each["message"]) <= 2048
            assert "\n" not in each["message"]


def test_files_are_what_the_models_say(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == documents()
    assert written == {path.name: path.read_text() for path in CRDS.iterdir()}, "make crds"


def test_a_changed_file_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path)])
    name = next(iter(documents()))
    (tmp_path / name).write_text("")
    assert main(["--check", str(tmp_path)]) == 1
    assert "make crds" in capsys.readouterr().err


@pytest.mark.parametrize("spec", EVERYWHERE)
def test_bad_specs_are_refused_by_both(spec: str) -> None:
    found = refused(resource(spec), RELAY)
    assert any(EVERYWHERE[spec] in each for each in found), found
    with pytest.raises(SpecError) as caught:
        validate(resource(spec))
    assert all("write" in str(each) or ";" in str(each) for each in caught.value.problems)


@pytest.mark.parametrize("spec", CLUSTER_ONLY)
def test_what_needs_a_machine_of_ones_own_is_refused_by_the_cluster(spec: str) -> None:
    found = refused(resource(spec), RELAY)
    assert any(CLUSTER_ONLY[spec] in each for each in found), found
    validate(resource(spec))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_by_both(name: str) -> None:
    assert "like my-relay" in str(refused(resource("{}", name), RELAY))
    with pytest.raises(SpecError, match=r"metadata.name: .*(like my-relay|at most 57)"):
        validate(resource("{}", name))


@pytest.mark.parametrize(
    "spec", ["{}", FULL.replace("{file: /run/token}", "{value: x}"), "listen: null\ntls: null"]
)
def test_good_specs_are_taken(spec: str) -> None:
    assert refused(resource(spec), RELAY) == []


def test_the_explained_default_is_taken() -> None:
    assert refused(resource(yaml.safe_dump(yaml.safe_load(document())["spec"])), RELAY) == []


def test_defaults_are_those_of_the_models_at_every_level() -> None:
    defaults = RelaySpec().model_dump(mode="json", exclude_none=True)
    assert RELAY["properties"]["spec"]["default"] == defaults
    for path, place in places(RELAY["properties"]["spec"]):
        if "properties" in place and "default" in place:
            assert list(check(place["default"], place, path)) == []
            assert with_defaults({}, place) == place["default"] or "required" in place


def test_columns_and_subresources() -> None:
    (version,) = moqrelays()["spec"]["versions"]
    names = [each["name"] for each in version["additionalPrinterColumns"] if "priority" not in each]
    assert names == ["Ready", "Relays", "Fast Path", "Subscribers", "Endpoint", "Age"]
    assert version["subresources"]["status"] == {}
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.placement.replicas"


def test_a_state_is_named_after_relay_and_node() -> None:
    state = {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelayNodeState",
        "metadata": {"name": "live.node-1", "namespace": "media"},
        "spec": {"relay": "live", "node": "node-1"},
    }
    assert refused(state, NODE_STATE) == []
    state["metadata"]["name"] = "live.node-2"
    assert "a dot and the node" in str(refused(state, NODE_STATE))
