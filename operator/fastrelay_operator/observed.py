"""What the operator knows of one relay when it decides, and what it then decides to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fastrelay.api.spec import MoQRelay
from fastrelay_operator.objects import Kind, Object

Key = tuple[str, str]
"""Kind and name of an object of the relay's namespace."""


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """Of a Secret that exists. Its content is not kept."""

    keys: frozenset[str]
    certificate_expires: datetime | None = None
    """When the certificate in ``tls.crt`` ends, if there is one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server did not take an object. ``code``: of HTTP."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a relay cannot be carried out. ``reason``: of the condition Accepted. ``waits``:
    something outside may end it without a word to us, so it is looked at again."""

    reason: str
    message: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """All of it is about one relay. ``relay``: the MoQRelay itself; ``parsed``: the same as a
    model."""

    relay: Object
    parsed: MoQRelay | Problem
    now: datetime
    children: Mapping[Key, Object] = field(default_factory=dict)
    pods: tuple[Object, ...] = ()
    node_states: tuple[Object, ...] = ()
    secrets: Mapping[str, SecretFacts | None] = field(default_factory=dict)
    """By name. None: there is no such Secret. Not in here: it could not be looked at."""
    relays: Mapping[str, Object] = field(default_factory=dict)
    """The MoQRelays of the namespace, by name."""
    refusals: Mapping[Key, Refusal] = field(default_factory=dict)
    """Children that the API server did not take when last tried."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person must know: `kubectl describe` shows it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply. ``new``: it fails where fields belong to somebody else."""

    kind: Kind
    object: Object
    new: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """An object, if it is still the one with that UID."""

    kind: Kind
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """The MoQRelay's new status, whole."""

    status: Object


Action = Apply | Delete | WriteStatus | Event


@dataclass(frozen=True, slots=True)
class Plan:
    """``recheck``: seconds until the mere passing of time may change the decision."""

    actions: tuple[Action, ...]
    recheck: float
