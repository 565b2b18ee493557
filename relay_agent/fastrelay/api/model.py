"""What every part of the resource has in common: strict models and small value types.

Field names are snake_case in Python and camelCase in files. Every constraint is
expressed so that the JSON schema carries it too, and every type that a message
cannot explain by its limits alone has an :class:`Advice`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Check:
    """A rule that spans fields, as the API server evaluates it: a CEL expression over ``self``,
    and the message when it is false, which ends by saying what to write."""

    expression: str
    message: str


class Model(BaseModel):
    """Immutable, strict (no text for numbers), and closed (no unknown fields)."""

    checks: ClassVar[tuple[Check, ...]] = ()
    """The same rules as the model's validators, for the API server."""

    cluster_checks: ClassVar[tuple[Check, ...]] = ()
    """Further ones: what makes sense only where there is no cluster."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        validate_default=True,
        extra="forbid",
        frozen=True,
        strict=True,
    )


@dataclass(frozen=True, slots=True)
class Advice:
    """What to write instead, for a value that fails this type: completes "write ..."."""

    text: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), ADVICE: self.text}


ADVICE = "x-advice"
"""Where a JSON schema carries an :class:`Advice`."""


def bad(message: str) -> PydanticCustomError:
    """The error for a rule that spans fields; ``message`` ends by saying what to write."""
    return PydanticCustomError("rule", "{message}", {"message": message})


Name = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Advice("up to 63 lower-case letters, digits and inner dashes, like my-relay"),
]
"""The name of a Kubernetes object that may become a DNS label (RFC 1123)."""

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_ADVICE = Advice(
    "up to 57 lower-case letters, digits and inner dashes, a letter first, like my-relay"
)
RelayName = Annotated[str, Field(min_length=1, max_length=57, pattern=NAME_PATTERN), NAME_ADVICE]
"""The name of a MoQRelay: with ``-relay`` behind it, that of its Service (RFC 1035)."""

ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
    Advice("a Kubernetes object's name: lower-case letters, digits, inner dashes and dots"),
]

HostName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$",
    ),
    Advice("a DNS name like relay.example.com, without scheme or port"),
]

ListenHost = Annotated[
    str,
    Field(max_length=253, pattern=r"^[0-9A-Za-z.:-]*$"),
    Advice("an address like 0.0.0.0 or ::1, or '' for every address"),
]
"""A local address to listen on."""

FilePath = Annotated[
    str, Field(min_length=1, max_length=4096), Advice("the path of a file, like /etc/tls/tls.crt")
]

RelayUrl = Annotated[
    str,
    Field(
        max_length=2048,
        pattern=r"^(moqt|https)://([^\s/?#@\[\]:]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][^\s#]*)?$",
    ),
    Advice("moqt://HOST:PORT/PATH (raw QUIC) or https://HOST:PORT/PATH (WebTransport)"),
]

Prefix = Annotated[
    str,
    Field(max_length=2048, pattern=r"^([^/]+(/[^/]+){0,31})?$"),
    Advice("namespace fields separated by slashes, like live/demo, or '' for every namespace"),
]
"""A track namespace prefix; whole fields match (``live`` covers ``live/a``, not ``livestream``)."""

Cidr = Annotated[
    str,
    Field(max_length=43, pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"),
    Advice("an address block like 10.0.0.0/8 or 2001:db8::/32"),
]

Port = Annotated[int, Field(ge=1, le=65535)]

Label = Annotated[str, Field(max_length=63)]
"""The value of a label."""

Annotation = Annotated[str, Field(max_length=4096)]
"""The value of an annotation."""


def unique_by(*keys: str) -> dict[str, Any]:
    """For ``json_schema_extra`` of a list: entries differ in these fields, and are merged by
    them when several people apply parts of it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


_QUANTITY = r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_FACTORS: dict[str, float] = {
    "m": 0.001,
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kMGTP", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", 1)},
}


class Quantity(str):
    """A Kubernetes quantity: ``256Mi``, ``5M``, ``500m``, or a plain number."""

    __slots__ = ()

    @property
    def value(self) -> float:
        """In base units: bytes, bits per second, cores."""
        match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", self)
        assert match is not None
        return float(match[1]) * _FACTORS[match[2]]

    def __int__(self) -> int:
        return round(self.value)

    @classmethod
    def _parse(cls, value: object) -> Quantity:
        if isinstance(value, Quantity):
            return value
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise PydanticCustomError("quantity", "not a quantity")
        text = str(value)
        if not re.fullmatch(_QUANTITY, text):
            raise PydanticCustomError("quantity", "not a quantity")
        return cls(text)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "x-kubernetes-int-or-string": True,
        }


Size = Annotated[Quantity, Advice("a number of bytes, like 256Mi or 1G")]
Amount = Annotated[Quantity, Advice("a Kubernetes quantity, like 500m (half a core) or 256Mi")]

Percent = Annotated[int, Field(ge=0, le=100)]
