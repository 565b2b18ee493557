"""Turns pydantic's findings into sentences that say what to write instead."""

from __future__ import annotations

import json
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from fastrelay.api.places import Location, Place, enumerate_names


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
    place = Place.find(root, location)
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


def _unknown_field(location: Location, root: type[BaseModel]) -> str:
    fields = list(Place.find(root, location[:-1]).fields() or ())
    name = str(location[-1])
    matches = get_close_matches(name.replace("_", "").lower(), [f.lower() for f in fields], 1)
    if matches:
        match = next(field for field in fields if field.lower() == matches[0])
        return f"there is no such field; did you mean {match}?"
    return f"there is no such field; the fields here are {enumerate_names(fields)}"


def _close(value: object, choices: list[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(str(value).lower(), list(lowered), 1)
    return f" (did you mean {lowered[matches[0]]}?)" if matches else ""


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "entries"


def _show(value: object) -> str:
    """The value as in YAML, cut short."""
    if value is None:
        return "an empty value"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
