"""Walks the models by the paths that people write, and says what fits in a place."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fastrelay.api.model import Advice

Location = tuple[str | int, ...]
"""Field names as in files, and list indices."""


class Place:
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
    def find(cls, root: type[BaseModel], location: Location) -> Place:
        place = cls(root)
        for part in location:
            place = place._step(part)
        return place

    def _step(self, part: str | int) -> Place:
        fields = self.fields()
        if fields is not None and isinstance(part, str) and part in fields:
            info = fields[part]
            return Place(info.annotation, tuple(info.metadata), secret=not info.repr)
        arguments = get_args(self.annotation)
        return Place(arguments[-1]) if arguments else self

    def fields(self) -> dict[str, FieldInfo] | None:
        """The fields of a model by the names people write; None if this is no model."""
        if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel):
            return {info.alias or name: info for name, info in self.annotation.model_fields.items()}
        return None

    def innermost(self) -> Place:
        """What the entries of a list or mapping are; this place itself, if it is none."""
        arguments = get_args(self.annotation)
        if arguments and self.fields() is None and not self.choices():
            return Place(arguments[-1])
        return self

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
                return f"a mapping with {enumerate_names(needed)}"
            return f"{{}} for the defaults, or a mapping of {enumerate_names(list(fields))}"
        if self.annotation is int:
            low, high = self._limit("ge"), self._limit("le")
            if low is not None and high is not None:
                return f"a number from {low} to {high}"
            return "a whole number" if low is None else f"a number from {low} up"
        origin = get_origin(self.annotation)
        if origin is list:
            return f"a list, each entry {Place(get_args(self.annotation)[0]).wanted()}"
        if origin is dict:
            return f"a mapping, each value {Place(get_args(self.annotation)[1]).wanted()}"
        return "true or false" if self.annotation is bool else "text"


def enumerate_names(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
