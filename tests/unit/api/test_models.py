"""The models themselves: closed, strict, described, and equal to what they write out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from fastrelay.api import docstrings
from fastrelay.api.conditions import REASONS, Condition, ConditionType
from fastrelay.api.load import MINIMAL, load
from fastrelay.api.model import Quantity
from fastrelay.api.policy import AccessToken
from fastrelay.api.spec import MoQRelay, RelaySpec

FULL = """
placement: {workload: Deployment, replicas: 3, nodeSelector: {disk: fast}}
listen: {host: '::', port: 443, drafts: [22, 18], transports: [WebTransport], retry: Always}
tls: {issuer: {name: letsencrypt, kind: ClusterIssuer}, dnsNames: [relay.example.com]}
upstreams:
- {url: 'moqt://origin.example.com:4443/live', prefixes: [live], token: {file: /run/token}}
- {relay: {name: core}}
authorization:
  subscribe: Nobody
  rules:
  - {prefix: live, tokens: [{name: studio, secretKeyRef: {name: studio}, allow: [Publish]}]}
fastPath: {mode: Required, attach: Pod}
congestion: {bands: [{lowestPriority: 100, share: 70}, {lowestPriority: 255, share: 30}]}
cache: {maxAgeSeconds: 60, maxSize: 1Gi}
quota: {mode: UserSpace, exempt: [10.0.0.0/8, '2001:db8::/32']}
autoscaling: {maxReplicas: 9}
drain: {gracePeriodSeconds: 5, redirect: 'https://other.example.com'}
"""


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        pending: list[Any] = [field.annotation]
        while pending:
            annotation = pending.pop()
            pending += get_args(annotation)
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from models(annotation, seen)


ALL_MODELS = list(models(MoQRelay, set()))


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.__name__)
def test_every_field_is_described_and_bounded(model: type[BaseModel]) -> None:
    assert model.__doc__
    schema = TypeAdapter(model).json_schema()
    assert set(docstrings.of_fields(model)) == set(model.model_fields)
    for name, kind in model.model_fields.items():
        if model.__name__ != "Metadata" and "list" in str(kind.annotation):
            text = str(schema["properties"][kind.alias or name])
            assert "maxItems" in text, f"{model.__name__}.{name} has no upper bound"


def test_every_part_of_the_spec_has_a_default() -> None:
    assert [n for n, f in RelaySpec.model_fields.items() if f.is_required()] == []


def test_schema_carries_the_defaults() -> None:
    properties = MoQRelay.model_json_schema()["$defs"]["Listen"]["properties"]
    assert properties["port"] == {
        "default": 4443,
        "maximum": 65535,
        "minimum": 1,
        "title": "Port",
        "type": "integer",
    }
    assert properties["drafts"]["default"] == [18, 22, 16]


def test_what_is_written_out_is_read_back_the_same() -> None:
    relay = load(MINIMAL.replace(" {}", "\n" + FULL.replace("\n", "\n  ")))
    text = yaml.safe_dump(relay.model_dump(mode="json", exclude_none=True))
    assert load(text) == relay
    assert relay.spec.upstreams[1].relay is not None
    assert relay.spec.authorization.rules[0].tokens[0].allow == ["Publish"]


def test_models_do_not_change() -> None:
    with pytest.raises(ValidationError):
        RelaySpec().listen.port = 1  # type: ignore[misc]


def test_representations_hide_secrets() -> None:
    token = AccessToken(name="studio", value="correct-horse")
    assert "correct-horse" not in repr(token)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("256Mi", 256 << 20), ("1.5Gi", 3 << 29), ("5M", 5_000_000), ("2k", 2000), (7, 7)],
)
def test_quantities_in_base_units(text: str | int, value: int) -> None:
    assert int(TypeAdapter(Quantity).validate_python(text)) == value


def test_a_thousandth_is_not_rounded_away() -> None:
    assert Quantity("500m").value == 0.5


@given(st.text(max_size=8))
def test_quantities_are_valid_or_refused(text: str) -> None:
    try:
        quantity = TypeAdapter(Quantity).validate_python(text)
    except ValidationError:
        return
    assert quantity.value >= 0


def test_every_condition_has_its_reasons() -> None:
    for kind in ConditionType:
        states = {reason.status for reason in REASONS if reason.type is kind}
        assert states == {"True", "False", "Unknown"}, kind
    names = [(reason.type, reason.name) for reason in REASONS]
    assert len(set(names)) == len(names)


def test_reasons_make_valid_conditions() -> None:
    for reason in REASONS:
        condition = Condition(
            type=reason.type,
            status=reason.status,
            reason=reason.name,
            last_transition_time="2026-01-01T00:00:00Z",
        )
        assert condition.reason.isidentifier()
        assert reason.meaning.endswith(".")
        assert reason.action.endswith(".")
