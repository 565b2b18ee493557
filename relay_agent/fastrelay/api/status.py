"""What the operator tells about a `MoQRelay`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fastrelay.api.conditions import Condition
from fastrelay.api.model import Model, unique_by

Count = Annotated[int, Field(ge=0)]


class RelayStatus(Model):
    """Observed state, written by the operator only."""

    observed_generation: Count = 0
    """The metadata.generation that this status describes."""

    conditions: list[Condition] = Field(
        default=[], max_length=16, json_schema_extra=unique_by("type")
    )
    """Ready, Accepted, RelayAvailable, DataPathAttached and Degraded."""

    replicas: Count = 0
    """Relay pods that there are."""

    ready_replicas: Count = 0
    """Relay pods that serve."""

    relays: Annotated[str, Field(max_length=63)] = ""
    """Relay pods that serve, of those wanted: like 2/2."""

    fast_path: Annotated[str, Field(max_length=63)] = ""
    """Relay pods for which the kernel forwards, of all there are: like 2/2."""

    nodes_attached: Count = 0
    """Nodes whose kernel forwards for every relay pod there."""

    subscribers: Count = 0
    """Subscriptions on all pods together."""

    tracks: Count = 0
    """Tracks carried by all pods together."""

    endpoints: list[Annotated[str, Field(max_length=300)]] = Field(default=[], max_length=16)
    """Where clients reach the relay, as HOST:PORT."""

    selector: Annotated[str, Field(max_length=4096)] = ""
    """The pods' label selector, for the scale subresource."""
