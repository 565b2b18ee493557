"""Whether an object is as it was applied, whatever others have added to it."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastrelay.api.model import Quantity

_QUANTITY: TypeAdapter[Quantity] = TypeAdapter(Quantity)
_QUANTITIES = frozenset({"requests", "limits", "averageValue"})


def differs(wanted: Any, found: Any, name: str = "") -> bool:
    """Whether something that is wanted is missing, or has another value.

    What the API server or somebody else added does not count, except to lists: order and
    number of their entries are the owner's. ``name``: of the field.
    """
    if isinstance(wanted, dict):
        if not wanted and found is None:
            return False
        if not isinstance(found, dict):
            return True
        below = name if name in _QUANTITIES else ""
        return any(differs(each, found.get(key), below or key) for key, each in wanted.items())
    if isinstance(wanted, list):
        if not wanted and found is None:
            return False
        if not isinstance(found, list) or len(found) != len(wanted):
            return True
        return any(differs(a, b) for a, b in zip(wanted, found, strict=True))
    if name in _QUANTITIES:
        return _value(wanted) != _value(found)
    return bool(wanted != found)


def _value(quantity: object) -> object:
    """As a number: the API server writes 500m for 0.5."""
    try:
        return _QUANTITY.validate_python(quantity).value
    except ValidationError:
        return quantity
