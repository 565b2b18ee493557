"""Message parameters (draft-18 section 10.2): :class:`~fastrelay.moqt.messages.Parameters` on
the wire of each draft, and which of them a message may hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from fastrelay.moqt import reader as fields
from fastrelay.moqt import scopes
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.filters import (
    read_location_filter,
    read_range_filter,
    write_location_filter,
    write_range_filter,
)
from fastrelay.moqt.messages import (
    NO_PARAMETERS,
    Parameters,
    RangeFilterKind,
    Request,
    RequestOk,
    RequestUpdate,
    Token,
    TrackStatus,
)
from fastrelay.moqt.names import GroupOrder, Location, Namespace
from fastrelay.moqt.reader import Reader, violation
from fastrelay.moqt.scopes import SCOPES, Scope
from fastrelay.moqt.tokens import decode_token, encode_token

_MAX_VALUE = 0xFFFF
_LARGEST_TYPE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class _Parameter:
    field: str
    read: Callable[[Reader, Draft], Any]
    write: Callable[[Any, Draft], bytes]
    repeats: bool = False
    """May be there several times; the field is a tuple."""
    hint: bool = False
    """Left out where the draft has no place for it; without the others the message would
    mean something else."""


# Values. Drafts with key-value pairs write small numbers as integers, later ones as a byte.


def _read_integer(reader: Reader, draft: Draft) -> int:
    return reader.integer()


def _write_integer(value: int, draft: Draft) -> bytes:
    return draft.varints.encode(value)


def _read_small(reader: Reader, draft: Draft, allowed: range) -> int:
    value = reader.byte() if draft.typed_parameters else reader.integer()
    if value not in allowed:
        raise violation(f"a parameter has the value {value}")
    return value


def _write_small(value: int, draft: Draft) -> bytes:
    return bytes([value]) if draft.typed_parameters else draft.varints.encode(value)


def _read_boolean(reader: Reader, draft: Draft) -> bool:
    return bool(_read_small(reader, draft, range(2)))


def _read_priority(reader: Reader, draft: Draft) -> int:
    return _read_small(reader, draft, range(256))


def _read_group_order(reader: Reader, draft: Draft) -> GroupOrder | None:
    # Zero meant "as the publisher does" before draft 15. Players in the field still send it
    # in later ones, which forbid it; to them it means what leaving it out means.
    return GroupOrder(value) if (value := _read_small(reader, draft, range(3))) else None


def _read_delivery_timeout(reader: Reader, draft: Draft) -> int:
    value = reader.integer()
    if not value and not draft.zero_delivery_timeout:
        raise violation("a delivery timeout of 0")
    return value


def _read_location(reader: Reader, draft: Draft) -> Location:
    if draft.typed_parameters:
        return reader.location()
    value = reader.value()
    location = value.location()
    value.finish()
    return location


def _write_location(value: Location, draft: Draft) -> bytes:
    out = fields.location(value, draft.varints)
    return out if draft.typed_parameters else fields.prefixed(out, draft.varints)


def _read_token(reader: Reader, draft: Draft) -> Token:
    size = reader.integer()
    if size > _MAX_VALUE:
        raise violation(f"a token of {size} bytes, more than {_MAX_VALUE}")
    return decode_token(reader.take(size), draft.varints)


def _write_token(value: Token, draft: Draft) -> bytes:
    return fields.prefixed(encode_token(value, draft.varints), draft.varints)


def _read_namespace(reader: Reader, draft: Draft) -> Namespace:
    return reader.namespace()


def _write_namespace(value: Namespace, draft: Draft) -> bytes:
    return fields.namespace(value, draft.varints)


def _read_fill(reader: Reader, draft: Draft) -> Parameters:
    value = reader.value()
    scope = SCOPES[draft.number].fill
    if not value.remaining:
        return NO_PARAMETERS
    # The texts leave open whether a count comes first, and both are seen. No parameter that
    # may be in here has a type below FILL_TIMEOUT, so a smaller number is a count.
    counted = value.data[0] < scopes.FILL_TIMEOUT
    parameters = _read(value, scope, draft, value.integer() if counted else None)
    value.finish()
    return parameters


def _write_fill(value: Parameters, draft: Draft) -> bytes:
    return fields.prefixed(write(value, SCOPES[draft.number].fill, draft), draft.varints)


def _range_filter(kind: RangeFilterKind) -> _Parameter:
    return _Parameter(
        "range_filters",
        lambda reader, draft: read_range_filter(reader, kind),
        write_range_filter,
        repeats=True,
    )


_INTEGER = (_read_integer, _write_integer)

_PARAMETERS: dict[int, _Parameter] = {
    scopes.OBJECT_DELIVERY_TIMEOUT: _Parameter(
        "object_delivery_timeout", _read_delivery_timeout, _write_integer, hint=True
    ),
    scopes.AUTHORIZATION_TOKEN: _Parameter("tokens", _read_token, _write_token, repeats=True),
    scopes.RENDEZVOUS_TIMEOUT: _Parameter("rendezvous_timeout", *_INTEGER, hint=True),
    scopes.SUBGROUP_DELIVERY_TIMEOUT: _Parameter("subgroup_delivery_timeout", *_INTEGER, hint=True),
    scopes.EXPIRES: _Parameter("expires", *_INTEGER, hint=True),
    scopes.LARGEST_OBJECT: _Parameter("largest_object", _read_location, _write_location, hint=True),
    scopes.FILL_TIMEOUT: _Parameter("fill_timeout", *_INTEGER, hint=True),
    scopes.FORWARD: _Parameter("forward", _read_boolean, _write_small),
    scopes.SUBSCRIBER_PRIORITY: _Parameter(
        "subscriber_priority", _read_priority, _write_small, hint=True
    ),
    scopes.LOCATION_FILTER: _Parameter("filter", read_location_filter, write_location_filter),
    scopes.GROUP_ORDER: _Parameter("group_order", _read_group_order, _write_small, hint=True),
    scopes.FILL_PARAMETERS: _Parameter("fill", _read_fill, _write_fill),
    **{int(kind): _range_filter(kind) for kind in RangeFilterKind},
    scopes.NEW_GROUP_REQUEST: _Parameter("new_group_request", *_INTEGER, hint=True),
    scopes.TRACK_NAMESPACE_PREFIX: _Parameter(
        "namespace_prefix", _read_namespace, _write_namespace
    ),
    scopes.INCLUDE_PROPERTIES: _Parameter(
        "include_properties", _read_boolean, _write_small, hint=True
    ),
}
"""By type, ascending: the order on the wire."""


@cache
def _known(draft: Draft) -> Scope:
    """Every parameter that the draft has."""
    rules = SCOPES[draft.number]
    every = (*rules.messages.values(), *rules.answers.values(), *rules.updates.values())
    return rules.fill.union(*every)


def read(reader: Reader, scope: Scope, draft: Draft) -> Parameters:
    """The count and the parameters of a message that may hold ``scope``.

    :raises MoqtError: PROTOCOL_VIOLATION; a parameter that the draft does not know, or not in
        this message, one that is there twice or has a forbidden value.
        KEY_VALUE_FORMATTING_ERROR; an undecodable token.
    """
    return _read(reader, scope, draft, reader.integer())


def _read(reader: Reader, scope: Scope, draft: Draft, count: int | None) -> Parameters:
    """``count`` None: parameters to the reader's end."""
    values: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    kind = 0
    while reader.remaining if count is None else count:
        if count is not None:
            count -= 1
        kind += reader.integer()
        if kind > _LARGEST_TYPE:
            raise violation("the type of a parameter exceeds 2**64-1")
        if kind not in scope:
            if not draft.ignores_misplaced_parameters or kind not in _known(draft):
                raise violation(f"a parameter {kind:#x} that may not be in this message")
            _skip(reader, kind)
            continue
        parameter = _PARAMETERS[kind]
        value = parameter.read(reader, draft)
        if parameter.repeats:
            repeated.setdefault(parameter.field, []).append(value)
        elif parameter.field in values:
            raise violation(f"parameter {kind:#x} twice in one message")
        else:
            values[parameter.field] = value
    for field, several in repeated.items():
        values[field] = tuple(several)
    return Parameters(**values) if values else NO_PARAMETERS


def _skip(reader: Reader, kind: int) -> None:
    if kind & 1:
        reader.prefixed()
    else:
        reader.integer()


def _present(parameters: Parameters) -> dict[int, tuple[Any, ...]]:
    """Values by type, ascending, in the order of the wire."""
    present: dict[int, tuple[Any, ...]] = {}
    for kind, parameter in _PARAMETERS.items():
        value = getattr(parameters, parameter.field)
        if parameter.field == "range_filters":
            value = tuple(item for item in value if item.kind == kind)
        elif not parameter.repeats:
            value = () if value is None else (value,)
        if value:
            present[kind] = value
    return present


def write(parameters: Parameters, scope: Scope, draft: Draft) -> bytes:
    """The count and the parameters, for a message that may hold ``scope``. Mere hints that the
    draft does not know in this message are left out.

    :raises ValueError: the draft cannot say what is asked for.
    """
    out: list[bytes] = []
    previous = count = 0
    for kind, values in _present(parameters).items() if parameters is not NO_PARAMETERS else ():
        parameter = _PARAMETERS[kind]
        if kind not in scope:
            if parameter.hint:
                continue
            raise ValueError(f"{draft}: no {parameter.field} in this message")
        for value in values:
            out += (draft.varints.encode(kind - previous), parameter.write(value, draft))
            previous = kind
            count += 1
    return draft.varints.encode(count) + b"".join(out)


_Dependent = TypeVar("_Dependent", RequestOk, RequestUpdate)


def check_scope(message: _Dependent, request: Request | RequestUpdate, draft: Draft) -> _Dependent:
    """Whether a REQUEST_OK may answer this request (or update) and hold what it holds, or a
    REQUEST_UPDATE change it: what decoding could not know.

    :returns: the message, without what the draft says is to be ignored.
    :raises MoqtError: PROTOCOL_VIOLATION.
    """
    rules = SCOPES[draft.number]
    answer = isinstance(message, RequestOk)
    table = rules.answers if answer else rules.updates
    allowed = table.get(type(request), frozenset())
    if isinstance(message, RequestOk) and message.properties and type(request) is not TrackStatus:
        raise violation(f"track properties in the answer to a {type(request).__name__}")
    misplaced = _present(message.parameters).keys() - allowed
    if not misplaced:
        return message
    if not (answer and draft.ignores_misplaced_parameters):
        kinds = ", ".join(f"{kind:#x}" for kind in sorted(misplaced))
        raise violation(f"parameters {kinds} for a {type(request).__name__}")
    dropped: dict[str, Any] = {_PARAMETERS[kind].field: None for kind in misplaced}
    return replace(message, parameters=replace(message.parameters, **dropped))
