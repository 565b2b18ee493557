"""From YAML to a :class:`MoQRelay`, or to all that is wrong and what to write instead."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fastrelay.api.advice import explain, format_path
from fastrelay.api.places import Location
from fastrelay.api.spec import API_VERSION, KIND, MoQRelay

MAX_FILE_SIZE = 1 << 20
"""Bytes; etcd would not store more."""

MINIMAL = f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: my-relay\nspec: {{}}\n"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: ``path`` like ``spec.listen.port``, ``line`` from 1 if known."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(Exception):
    """A resource that cannot be used; ``problems`` names everything that is wrong with it."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source, self.problems = source, problems
        super().__init__(
            "\n".join(
                f"{source}:{problem.line}: {problem}" if problem.line else f"{source}: {problem}"
                for problem in problems
            )
        )


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: no dates, and no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value} is written twice; keep one of them",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_file(path: Path, name: str | None = None) -> MoQRelay:
    """Read the one `MoQRelay` of a file.

    :param name: which one, by ``metadata.name``, if the file holds several.
    :raises OSError: it cannot be read.
    :raises SpecError: it is wrong.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise SpecError(str(path), [Problem("", f"is larger than {MAX_FILE_SIZE} bytes")])
    return load(data, source=str(path), name=name)


def load(text: str | bytes, *, source: str = "<text>", name: str | None = None) -> MoQRelay:
    """As :func:`load_file`, from YAML (or JSON) text."""
    try:
        node, document = _choose(_documents(text), name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = Problem("", error.problem or "is not YAML", mark.line + 1 if mark else None)
        raise SpecError(source, [problem]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(source, [Problem("", f"is not YAML: {error}")]) from None
    except ValueError as error:
        raise SpecError(source, [Problem("", str(error))]) from None
    return validate(document, source=source, node=node)


def validate_stored(document: dict[str, Any]) -> MoQRelay:
    """Check a resource that the Kubernetes API has taken: fields that are not known belong to a
    later version of its definition, and are passed over.

    :raises SpecError: it is wrong.
    """
    try:
        return MoQRelay.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        known = deepcopy(document)
        for details in error.errors(include_url=False, include_input=False):
            if details["type"] == "extra_forbidden":
                _remove(known, details["loc"])
    return validate(known)


def _remove(document: Any, location: Location) -> None:
    with suppress(LookupError, TypeError):  # what cannot be found is said by `validate`
        for part in location[:-1]:
            document = document[part]
        del document[location[-1]]


def validate(document: object, *, source: str = "<object>", node: Node | None = None) -> MoQRelay:
    """Check a resource that was read already.

    :param node: the YAML it came from, for line numbers.
    :raises SpecError: it is wrong.
    """
    try:
        return MoQRelay.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = [
            Problem(
                format_path(details["loc"]),
                explain(details, MoQRelay),
                _line(node, details["loc"]) if node else None,
            )
            for details in error.errors(include_url=False)
        ]
        problems.sort(key=lambda problem: problem.line or 0)
        raise SpecError(source, problems) from None


def _documents(text: str | bytes) -> list[tuple[Node, Any]]:
    loader = _Loader(text)
    try:
        documents: list[tuple[Node, Any]] = []
        while loader.check_node():
            node = loader.get_node()
            document = loader.construct_document(node) if node else None
            if node and document is not None:
                documents.append((node, document))
        return documents
    finally:
        loader.dispose()


def _choose(documents: list[tuple[Node, Any]], name: str | None) -> tuple[Node, Any]:
    relays = [
        (node, document)
        for node, document in documents
        if isinstance(document, dict) and document.get("kind") == KIND
    ]
    if not relays and len(documents) == 1:
        return documents[0]
    if not relays:
        what = "holds no MoQRelay" if documents else "is empty"
        raise ValueError(f"{what}; the smallest one is\n\n{MINIMAL}")
    if name is not None:
        relays = [r for r in relays if (r[1].get("metadata") or {}).get("name") == name] or relays
    if len(relays) > 1:
        names = ", ".join(str((r[1].get("metadata") or {}).get("name")) for r in relays)
        raise ValueError(f"holds {len(relays)} MoQRelays ({names}); choose one with --name")
    return relays[0]


def _line(node: Node, location: Location) -> int:
    """The line of the deepest part of ``location`` that exists."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                return line
            key, node = found
            line = key.start_mark.line + 1
        elif isinstance(node, SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
