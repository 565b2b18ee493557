"""From the models to structural schemas (OpenAPI v3), as Kubernetes wants them.

A structural schema has no references, gives each value one type, and leaves null out: the API
server removes a null before it looks at anything else. What a pattern wants is told in words,
so patterns with an advice become rules (CEL) whose message is that advice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fastrelay.api import docstrings
from fastrelay.api.model import ADVICE, Check, Model
from fastrelay.api.places import Place

Schema = dict[str, Any]

QUANTITY_LENGTH = 24
"""Characters of the longest quantity that fits its pattern, rounded up."""


def structural(model: type[Model]) -> Schema:
    """The schema of a model, with its rules and defaults at every level."""
    whole = model.model_json_schema(by_alias=True)
    definitions = {kind.__name__: kind for kind in _models(model)}
    return _Converter(whole.pop("$defs", {}), definitions).convert(whole, model)


class _Converter:
    def __init__(self, schemas: dict[str, Schema], models: dict[str, type[Model]]) -> None:
        self._schemas, self._models = schemas, models

    def convert(self, schema: Schema, model: type[Model] | None = None) -> Schema:
        """``model``: the one that the schema describes, if it describes one."""
        schema = _without_null(schema)
        reference = schema.pop("$ref", None)
        if reference is not None:
            name = reference.rpartition("/")[2]
            model = self._models[name]
            schema = self._schemas[name] | schema
        if schema.get("x-kubernetes-int-or-string"):
            return _quantity(schema)
        for key in ("title", "additionalProperties") if model else ("title",):
            schema.pop(key, None)
        if "const" in schema:
            schema["enum"] = [schema.pop("const")]
        if model is not None:
            self._mapping(schema, model)
        if "items" in schema:
            schema["items"] = self.convert(schema["items"])
        if "additionalProperties" in schema:
            schema["additionalProperties"] = self.convert(schema["additionalProperties"])
        advice = schema.pop(ADVICE, None)
        if advice and "pattern" in schema:
            pattern = schema.pop("pattern").replace("\\", "\\\\").replace("'", "\\'")
            check = Check(f"self.matches('{pattern}')", f"does not fit; write {advice}")
            schema.setdefault("x-kubernetes-validations", []).append(rule(check))
        schema["description"] = _sentence(schema.get("description", ""))
        return schema if schema["description"] else _without(schema, "description")

    def _mapping(self, schema: Schema, model: type[Model]) -> None:
        properties = {}
        said = docstrings.of_fields(model)
        names = {info.alias or field: field for field, info in model.model_fields.items()}
        for name, value in schema.get("properties", {}).items():
            described = value | {"description": said.get(names[name], "")}
            converted = self.convert(dict(sorted(described.items())))
            if "default" in converted and "properties" in converted:
                # Whole: rules look at a default before defaults below it are filled in.
                converted["default"] = _given(converted["default"])
            properties[name] = converted
        schema["properties"] = properties
        checks = [rule(check) for check in (*model.checks, *model.cluster_checks)]
        if checks:
            schema["x-kubernetes-validations"] = checks


def rule(check: Check) -> Schema:
    """A check as the API server reads it."""
    return {"rule": check.expression, "message": check.message}


def _without_null(schema: Schema) -> Schema:
    """``X | None`` as X; a default of null as none."""
    schema = dict(schema)
    others = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(others) == 1:
        del schema["anyOf"]
        # What is said of the field comes before what is said of its type.
        schema = others[0] | schema
    if schema.get("default", ...) is None:
        del schema["default"]
    return schema


def _quantity(schema: Schema) -> Schema:
    """The API server takes a number for what people write without a unit."""
    advice = schema.pop(ADVICE, "a quantity, like 256Mi")
    pattern = schema.pop("pattern").replace("\\", "\\\\")
    expression = f"string(self).matches('{pattern}')"
    schema["maxLength"] = QUANTITY_LENGTH
    schema["x-kubernetes-validations"] = [
        rule(Check(expression, f"does not fit; write {advice}")),
    ]
    if "description" in schema:
        schema["description"] = _sentence(schema["description"])
    return _without(schema, "title")


def _given(value: Any) -> Any:
    """Without what is not set."""
    if isinstance(value, dict):
        return {name: _given(each) for name, each in value.items() if each is not None}
    return value


def _models(model: type[BaseModel]) -> Iterator[type[Model]]:
    """A model and all that its fields lead to."""
    if not issubclass(model, Model):
        return
    yield model
    for field in model.model_fields.values():
        place = Place(field.annotation, tuple(field.metadata)).innermost()
        if place.fields() is not None:
            yield from _models(place.annotation)


def _sentence(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _without(schema: Schema, key: str) -> Schema:
    schema.pop(key, None)
    return schema
