"""Turns pydantic's findings into sentences that say what to write instead."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fastrelay.api.model import Advice

Location = tuple[str | int, ...]


def format_path(location: Location) -> str:
    """``("spec", "upstreams", 0, "url")`` as ``spec.upstreams[0].url``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part)}]"
    return text


def explain(error: ErrorDetails, root: type[BaseModel]) -> str:
    """What is wrong with the value at ``error["loc"]``, and what to write there.

    :param root: the model that was being validated.
    """
    kind, context = error["type"], error.get("ctx", {})
    location, value = error["loc"], error["input"]
    if kind == "rule":
        return str(context["message"])
    if kind == "extra_forbidden":
        return _unknown_field(location, root)
    place = _Place.find(root, location)
    if kind == "missing":
        return f"is missing; write {place.wanted()}"
    shown = "this secret value" if place.secret else _show(value)
    if kind in ("greater_than_equal", "greater_than"):
        return f"{shown} is too small; write {place.wanted()}"
    if kind in ("less_than_equal", "less_than"):
        return f"{shown} is too large; write {place.wanted()}"
    if kind == "literal_error":
        return f"{shown} is not known; write {place.wanted()}{_close(value, place.choices())}"
    if kind in ("too_long", "string_too_long"):
        return f"is too long; at most {context['max_length']} {_unit(kind)} fit"
    if kind in ("too_short", "string_too_short"):
        return f"is empty; write {place.wanted()}"
    if kind == "int_type" and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return f"{shown} is text; write the number without quotes: {value.strip()}"
    if kind == "bool_type":
        return f"{shown} is neither true nor false; write true or false"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown} is not a mapping; write {place.wanted()}"
    if kind == "list_type":
        return f"{shown} is not a list; write {place.wanted()}"
    return f"{shown} does not fit; write {place.wanted()}"


class _Place:
    """A type within the models, with the constraints that apply to it."""

    def __init__(
        self, annotation: Any, metadata: tuple[Any, ...] = (), secret: bool = False
    ) -> None:
        self.annotation, self.metadata, self.secret = annotation, metadata, secret
        self._unwrap()

    def _unwrap(self) -> None:
        """Strip ``Annotated`` and ``| None``, gathering metadata (the outermost first)."""
        while True:
            origin = get_origin(self.annotation)
            if origin is Annotated:
                self.annotation, *extra = get_args(self.annotation)
                self.metadata += tuple(extra)
            elif origin in (Union, types.UnionType):
                members = [a for a in get_args(self.annotation) if a is not type(None)]
                self.annotation = members[0]
            else:
                return

    @classmethod
    def find(cls, root: type[BaseModel], location: Location) -> _Place:
        place = cls(root)
        for part in location:
            place = place._step(part)
        return place

    def _step(self, part: str | int) -> _Place:
        fields = self.fields()
        if fields is not None and isinstance(part, str) and part in fields:
            info = fields[part]
            return _Place(info.annotation, tuple(info.metadata), secret=not info.repr)
        arguments = get_args(self.annotation)
        return _Place(arguments[-1]) if arguments else self

    def fields(self) -> dict[str, FieldInfo] | None:
        """The fields of a model by the names people write; None if this is no model."""
        if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel):
            return {info.alias or name: info for name, info in self.annotation.model_fields.items()}
        return None

    def choices(self) -> list[str]:
        if get_origin(self.annotation) is Literal:
            return [str(choice) for choice in get_args(self.annotation)]
        return []

    def _constraints(self) -> Iterator[Any]:
        for item in self.metadata:
            yield from item.metadata if isinstance(item, FieldInfo) else (item,)

    def _limit(self, name: str) -> Any:
        for item in self._constraints():
            limit = getattr(item, name, None)
            if limit is not None:
                return limit
        return None

    def wanted(self) -> str:
        """Completes "write ..."."""
        for item in self._constraints():
            if isinstance(item, Advice):
                return item.text
        if self.choices():
            *others, last = self.choices()
            return f"{', '.join(others)} or {last}" if others else last
        fields = self.fields()
        if fields is not None:
            needed = [name for name, info in fields.items() if info.is_required()]
            if needed:
                return f"a mapping with {_enumerate(needed)}"
            return f"{{}} for the defaults, or a mapping of {_enumerate(list(fields))}"
        if self.annotation is int:
            low, high = self._limit("ge"), self._limit("le")
            if low is not None and high is not None:
                return f"a number from {low} to {high}"
            return "a whole number" if low is None else f"a number from {low} up"
        origin = get_origin(self.annotation)
        if origin is list:
            return f"a list, each entry {_Place(get_args(self.annotation)[0]).wanted()}"
        if origin is dict:
            return f"a mapping, each value {_Place(get_args(self.annotation)[1]).wanted()}"
        return "true or false" if self.annotation is bool else "text"


def _unknown_field(location: Location, root: type[BaseModel]) -> str:
    fields = list(_Place.find(root, location[:-1]).fields() or ())
    name = str(location[-1])
    matches = get_close_matches(name.replace("_", "").lower(), [f.lower() for f in fields], 1)
    if matches:
        match = next(field for field in fields if field.lower() == matches[0])
        return f"there is no such field; did you mean {match}?"
    return f"there is no such field; the fields here are {_enumerate(fields)}"


def _close(value: object, choices: list[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(str(value).lower(), list(lowered), 1)
    return f" (did you mean {lowered[matches[0]]}?)" if matches else ""


def _enumerate(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "entries"


def _show(value: object) -> str:
    """The value as in YAML, cut short."""
    if value is None:
        return "an empty value"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
