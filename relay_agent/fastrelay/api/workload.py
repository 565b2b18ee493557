"""How relays live on Kubernetes: where pods run, how many, and how they leave."""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fastrelay.api.model import (
    Amount,
    Check,
    Cidr,
    Label,
    ListenHost,
    Model,
    ObjectName,
    Quantity,
    RelayUrl,
    bad,
)


class Toleration(Model):
    """A taint of nodes that relay pods accept, as in a pod's spec."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.operator != 'Exists' || !has(self.value)",
            "value has no effect with operator Exists; remove it or write operator: Equal",
        ),
        Check(
            "has(self.key) || self.operator == 'Exists'",
            "needs a key; write key or operator: Exists",
        ),
        Check(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "tolerationSeconds needs effect NoExecute; write effect: NoExecute",
        ),
    )

    key: str | None = Field(default=None, max_length=317)
    """The taint's key; unset with operator Exists: every taint."""

    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value must be equal, or the key alone decides."""

    value: str | None = Field(default=None, max_length=63)
    """The taint's value, with operator Equal."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The effect to accept; unset: all."""

    toleration_seconds: int | None = Field(default=None, ge=0)
    """How long a NoExecute taint is borne; unset: for ever."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise bad(
                "value has no effect with operator Exists; remove it or write operator: Equal"
            )
        if self.key is None and self.operator != "Exists":
            raise bad("needs a key; write key or operator: Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise bad("tolerationSeconds needs effect NoExecute; write effect: NoExecute")
        return self


class Placement(Model):
    """Where relay pods run."""

    workload: Literal["Deployment", "DaemonSet"] = "Deployment"
    """Deployment: a number of pods, spread over nodes. DaemonSet: one on every matching node."""

    replicas: int = Field(default=1, ge=0, le=1000)
    """Pods of the Deployment; autoscaling takes it over where that is set."""

    node_selector: dict[str, Label] = Field(default={}, max_length=64)
    """Labels a node must have."""

    tolerations: list[Toleration] = Field(default=[], max_length=64)
    """Taints the pods accept."""

    priority_class_name: ObjectName | None = None
    """The pods' PriorityClass."""


class Autoscaling(Model):
    """More pods when there are more subscribers."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas is above maxReplicas; raise maxReplicas or lower minReplicas",
        ),
    )

    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Never fewer pods."""

    max_replicas: int = Field(ge=1, le=1000)
    """Never more pods."""

    subscribers_per_replica: int = Field(default=500, ge=1, le=1_000_000)
    """Subscribers that one pod should have on average."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise bad(
                f"minReplicas ({self.min_replicas}) is above maxReplicas ({self.max_replicas}); "
                "raise maxReplicas or lower minReplicas"
            )
        return self


class Drain(Model):
    """How a relay leaves: it tells clients (GOAWAY), refuses new ones, serves on for a while."""

    grace_period_seconds: int = Field(default=30, ge=0, le=3600)
    """How long sessions are still served after SIGTERM; then they are closed."""

    redirect: RelayUrl | None = None
    """Where clients should go instead; unset: to the same address, where another pod answers."""


class Resources(Model):
    """CPU and memory of a relay pod, as in a container's spec."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.requests.all(k, !(k in self.limits) || quantity(string(self.requests[k]))"
            ".compareTo(quantity(string(self.limits[k]))) <= 0)",
            "a request is above its limit; raise limits or lower requests",
        ),
    )

    requests: dict[str, Amount] = Field(
        default={"cpu": Quantity("500m"), "memory": Quantity("512Mi")}, max_length=16
    )
    """What the scheduler sets aside."""

    limits: dict[str, Amount] = Field(default={"memory": Quantity("1Gi")}, max_length=16)
    """What the pod may not exceed."""

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        for name, request in self.requests.items():
            if name in self.limits and request.value > self.limits[name].value:
                raise bad(
                    f"the request of {name} ({request}) is above its limit "
                    f"({self.limits[name]}); raise limits or lower requests"
                )
        return self


class Monitoring(Model):
    """The HTTP port for metrics, probes and status. It tells track names: keep it inside."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.members.all(b, isCIDR(b) && cidr(b) == cidr(b).masked())",
            "members has an entry that is no address block; write a block like 10.0.0.0/8",
        ),
    )

    host: ListenHost = ""
    """The local address; empty: every address."""

    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """The TCP port; 0: none."""

    members: list[Cidr] = Field(default=[], max_length=32)
    """Subscribers at addresses in these blocks have metrics of their own, 50 of a relay's at a
    time. All others are in histograms only."""

    @model_validator(mode="after")
    def _blocks_are_blocks(self) -> Self:
        for block in self.members:
            try:
                ipaddress.ip_network(block)
            except ValueError as error:
                raise bad(f"members: {error}; write a block like 10.0.0.0/8") from None
        return self


class Logging(Model):
    """What the relay writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are written."""

    format: Literal["console", "json"] = "json"
    """console: key=value for people; json: one object a line."""
