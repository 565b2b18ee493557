"""What an API server does with an object of a structural schema, in the same order: drop nulls,
fill in defaults, check types and limits, evaluate rules (CEL, by cel-python).

Kubernetes' own CEL functions are given to the library here, as far as the rules use them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import celpy
from celpy import celtypes

from fastrelay.api.model import Quantity

Schema = dict[str, Any]
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


def refused(document: object, schema: Schema) -> list[str]:
    """Everything that is wrong with it, each as PATH: MESSAGE."""
    return list(check(with_defaults(_prune(document, schema), schema), schema, ""))


def _prune(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        return {
            key: _prune(each, _below(schema, key))
            for key, each in value.items()
            if each is not None
        }
    if isinstance(value, list):
        return [_prune(each, schema.get("items", {})) for each in value]
    return value


def with_defaults(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        filled = dict(value)
        for key, each in schema.get("properties", {}).items():
            if key not in filled and "default" in each:
                filled[key] = each["default"]
        return {key: with_defaults(each, _below(schema, key)) for key, each in filled.items()}
    if isinstance(value, list):
        return [with_defaults(each, schema.get("items", {})) for each in value]
    return value


def _below(schema: Schema, key: str) -> Schema:
    properties = schema.get("properties", {})
    return properties.get(key) or schema.get("additionalProperties") or {}


def check(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
    else:
        fits = isinstance(value, _TYPES[schema["type"]])
        fits &= not (schema["type"] == "integer" and isinstance(value, bool))
    if not fits:
        yield f"{path}: must be of type {schema.get('type', 'integer or string')}"
        return
    before = len(found := list(_limits(value, schema, path)))
    if isinstance(value, dict):
        found += _mapping(value, schema, path)
    if isinstance(value, list):
        for index, each in enumerate(value):
            found += check(each, schema["items"], f"{path}[{index}]")
    yield from found
    if len(found) == before == 0:  # rules see only what fits its type
        for each in schema.get("x-kubernetes-validations", ()):
            if "oldSelf" not in each["rule"] and not holds(each["rule"], value):
                yield f"{path}: {each['message']}"


def _limits(value: Any, schema: Schema, path: str) -> Iterator[str]:
    limits: dict[str, Callable[[Any], bool]] = {
        "enum": lambda wanted: value in wanted,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "pattern": lambda text: re.search(text, value) is not None,
        "minItems": lambda least: len(value) >= least,
        "maxItems": lambda most: len(value) <= most,
        "maxProperties": lambda most: len(value) <= most,
        "x-kubernetes-list-map-keys": lambda keys: (
            len({tuple(each.get(key) for key in keys) for each in value}) == len(value)
        ),
    }
    for name, fits in limits.items():
        if name in schema and not fits(schema[name]):
            yield f"{path}: {name} {schema[name]}"


def _mapping(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{path}.{key}: Required value"
    for key, each in value.items():
        below = _below(schema, key)
        if below:
            yield from check(each, below, f"{path}.{key}")
        elif path != ".metadata":
            yield f'unknown field "{path}.{key}"'  # with strict validation, as kubectl asks for


def holds(expression: str, value: Any) -> bool:
    """Whether a rule is true of a value."""
    return bool(_program(expression).evaluate({"self": celpy.json_to_cel(value)}))


@cache
def _environment() -> celpy.Environment:
    return celpy.Environment()


@cache
def _program(expression: str) -> celpy.Runner:
    environment = _environment()
    return environment.program(environment.compile(expression), functions=_FUNCTIONS)


def _is_sorted(values: list[Any]) -> celtypes.BoolType:
    return celtypes.BoolType(list(values) == sorted(values))


def _sum(values: list[int]) -> celtypes.IntType:
    return celtypes.IntType(sum(values))


def _is_cidr(text: str) -> celtypes.BoolType:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType("/" in text)


def _cidr(text: str) -> celtypes.StringType:
    return celtypes.StringType(ipaddress.ip_interface(text).with_prefixlen)


def _masked(text: str) -> celtypes.StringType:
    return celtypes.StringType(ipaddress.ip_interface(text).network)


def _quantity(text: str) -> celtypes.DoubleType:
    return celtypes.DoubleType(Quantity(text).value)


def _compare(a: float, b: float) -> celtypes.IntType:
    return celtypes.IntType((a > b) - (a < b))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": _is_sorted,
    "sum": _sum,
    "isCIDR": _is_cidr,
    "cidr": _cidr,
    "masked": _masked,
    "quantity": _quantity,
    "compareTo": _compare,
}
