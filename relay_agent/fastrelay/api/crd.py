"""The CustomResourceDefinitions, written from the models.

``python -m fastrelay.api.crd DIRECTORY...`` writes them; with ``--check`` it writes nothing, and
its exit status is 1 if what is there is something else.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import yaml

from fastrelay.api import node_state, spec
from fastrelay.api.model import Model
from fastrelay.api.schema import structural

Object = dict[str, Any]

_CATEGORIES = ["fastrelay"]


def moqrelays() -> Object:
    """`MoQRelay`."""
    return _definition(
        spec.MoQRelay,
        plural=spec.PLURAL,
        short=["moq"],
        categories=[*_CATEGORIES, "all"],
        columns=[
            _column("Ready", _condition("Ready"), "Whether the relay serves as the spec wants."),
            _column("Relays", ".status.relays", "Pods that serve, of those wanted."),
            _column("Fast Path", ".status.fastPath", "Pods for which the kernel forwards, of all."),
            _column("Subscribers", ".status.subscribers", "Subscriptions now.", "integer"),
            _column("Endpoint", ".status.endpoints[0]", "Where clients reach the relay."),
            _column("Reason", _condition("Ready", "reason"), "Why, in a word.", priority=1),
            _column("Message", _condition("Ready", "message"), "Why, in words.", priority=1),
            _column("Age", ".metadata.creationTimestamp", "", "date"),
        ],
        scale={
            "specReplicasPath": ".spec.placement.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    )


def moqrelaynodestates() -> Object:
    """`MoQRelayNodeState`."""
    return _definition(
        node_state.MoQRelayNodeState,
        plural=node_state.PLURAL,
        short=["moqnode"],
        categories=_CATEGORIES,
        selectable=(".spec.node", ".spec.relay"),
        columns=[
            _column("Relay", ".spec.relay", "The MoQRelay."),
            _column("Node", ".spec.node", "The node."),
            _column("Fast Path", ".status.fastPath", "Pods for which the kernel forwards, of all."),
            _column("Subscribers", ".status.subscribers", "Subscriptions now.", "integer"),
            _column("Heard", ".status.heartbeat", "When the agent wrote last.", "date"),
            _column("Message", ".status.message", "What is not as it should be.", priority=1),
            _column("Age", ".metadata.creationTimestamp", "", "date"),
        ],
    )


def _definition(
    model: type[Model],
    *,
    plural: str,
    short: list[str],
    categories: list[str],
    columns: list[Object],
    scale: Object | None = None,
    selectable: tuple[str, ...] = (),
) -> Object:
    kind = model.__name__
    schema = structural(model)
    # What the API server gives every object by itself.
    properties = {
        "apiVersion": {
            "type": "string",
            "description": schema["properties"]["apiVersion"]["description"],
        },
        "kind": {"type": "string", "description": schema["properties"]["kind"]["description"]},
        "metadata": {"type": "object"},
        **{name: schema["properties"][name] for name in ("spec", "status")},
    }
    schema["properties"] = properties
    schema["required"] = [name for name in schema["required"] if name == "spec"]
    if not schema["required"]:
        del schema["required"]
    subresources: Object = {"status": {}}
    if scale is not None:
        subresources["scale"] = scale
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{spec.GROUP}"},
        "spec": {
            "group": spec.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": short,
                "categories": categories,
            },
            "versions": [
                {
                    "name": spec.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                    **_selectable(selectable),
                }
            ],
        },
    }


def _selectable(paths: tuple[str, ...]) -> Object:
    return {"selectableFields": [{"jsonPath": path} for path in paths]} if paths else {}


def _column(
    name: str, path: str, description: str, kind: str = "string", priority: int = 0
) -> Object:
    column: Object = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if priority:
        column["priority"] = priority
    return column


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


def documents() -> dict[str, str]:
    """File names and their content."""
    head = "# Written by `make crds` from the models in relay_agent/fastrelay/api.\n"
    return {
        f"{spec.GROUP}_{definition['spec']['names']['plural']}.yaml": head
        + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=96, allow_unicode=True)
        for definition in (moqrelays(), moqrelaynodestates())
    }


class _Dumper(yaml.SafeDumper):
    """Every list indented, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def main(arguments: list[str]) -> int:
    """The command line; the exit status."""
    check = "--check" in arguments
    directories = [Path(each) for each in arguments if each != "--check"]
    stale = 0
    for directory, (name, text) in itertools.product(directories, documents().items()):
        path = directory / name
        if not check:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} is not what the models say; run: make crds", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
