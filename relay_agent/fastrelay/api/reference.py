"""The resource, described from its own models: for people who write one."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from fastrelay.api import docstrings
from fastrelay.api.conditions import REASONS, ConditionType
from fastrelay.api.places import Place, enumerate_names
from fastrelay.api.spec import API_VERSION, KIND, RelaySpec

WIDTH = 96


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``fits`` completes "write ..."; ``default`` is YAML on one line, None if the
    field has to be written or is left out by default; ``children`` are the fields of the
    mapping, or of each entry if ``is_list``."""

    name: str
    path: str
    fits: str
    description: str
    default: str | None
    is_list: bool
    children: tuple[Field, ...]


def spec_fields() -> tuple[Field, ...]:
    """Everything under ``spec``."""
    return tuple(_fields(RelaySpec, "spec"))


def lookup(path: str) -> Field:
    """The field at ``spec.listen.port`` (``spec.`` may be left out, list indices too).

    :raises LookupError: there is none; the message names those that are there.
    """
    whole = Field("spec", "spec", "a mapping", RelaySpec.__doc__ or "", "{}", False, spec_fields())
    here = whole
    for name in re.sub(r"\[\w*\]", "", path).split(".")[path.split(".")[0] == "spec" :]:
        names = {child.name: child for child in here.children}
        if name not in names:
            close = get_close_matches(name, list(names), 1)
            there = enumerate_names(list(names)) or "none"
            advice = f"did you mean {close[0]}?" if close else f"the fields here: {there}"
            raise LookupError(f"{here.path} has no field {name}; {advice}")
        here = names[name]
    return here


def document() -> str:
    """A resource with every field, its meaning and its default, that can be used as it is."""
    head = f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: my-relay\nspec:\n"
    return head + "\n".join(_lines(spec_fields(), 1)) + "\n"


def conditions() -> str:
    """Every condition and reason, with what to do."""
    lines = []
    for kind in ConditionType:
        lines.append(f"{kind}")
        for reason in REASONS:
            if reason.type is kind:
                lines.append(f"  {reason.status:7} {reason.name}: {reason.meaning}")
                if reason.action != "Nothing.":
                    lines.append(f"          {reason.action}")
    return "\n".join(lines)


def _fields(model: type[BaseModel], path: str, instance: Any = None) -> Iterator[Field]:
    """:param instance: where defaults come from, if not from the model itself."""
    said = docstrings.of_fields(model)
    for attribute, info in model.model_fields.items():
        name = info.alias or attribute
        place = Place(info.annotation, tuple(info.metadata))
        entry = place.innermost()
        is_list = entry is not place
        default = getattr(instance, attribute) if instance else info.get_default()
        here = f"{path}.{name}"
        children: tuple[Field, ...] = ()
        if entry.fields() is not None:
            inner = default if isinstance(default, BaseModel) else None
            below = f"{here}[]" if is_list else here
            children = tuple(_fields(entry.annotation, below, inner))
        yield Field(
            name=name,
            path=here,
            fits=place.wanted(),
            description=" ".join(said.get(attribute, "").split()),
            default=None if default in (None, PydanticUndefined) else _yaml(default),
            is_list=is_list,
            children=children,
        )


def _lines(fields: tuple[Field, ...], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for field in fields:
        yield from _comment(_sentence(field), f"{indent}# ")
        if field.default is None:
            yield f"{indent}# {field.name}:"
        elif field.children and not field.is_list:
            yield f"{indent}{field.name}:"
            yield from _lines(field.children, depth + 1)
            continue
        else:
            yield f"{indent}{field.name}: {field.default}"
        if field.children:
            yield f"{indent}# {'Each entry has' if field.is_list else 'It has'}:"
            yield from _brief(field.children, f"{indent}#   ")


def _brief(fields: tuple[Field, ...], indent: str) -> Iterator[str]:
    """Fields that are not there by default: one paragraph each, all of it comment."""
    for field in fields:
        text = f"{field.name}: {_sentence(field)}"
        if field.default is not None and not field.children:
            text += f" Default: {field.default}"
        yield from textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    "
        )
        yield from _brief(field.children, f"{indent}  ")


def _sentence(field: Field) -> str:
    if field.children or field.fits in ("text", "true or false"):
        return field.description
    return f"{field.description} Write {field.fits}."


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _yaml(value: Any) -> str:
    plain = to_jsonable_python(value, by_alias=True, exclude_none=True)
    text = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000, sort_keys=False)
    return text.removesuffix("...\n").strip()
