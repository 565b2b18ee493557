"""How relays live on Kubernetes: where pods run, how many, and how they leave."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fastrelay.api.model import Amount, ListenHost, Model, Quantity, RelayUrl, bad


class Toleration(Model):
    """A taint of nodes that relay pods accept, as in a pod's spec."""

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


class Placement(Model):
    """Where relay pods run."""

    workload: Literal["Deployment", "DaemonSet"] = "Deployment"
    """Deployment: a number of pods, spread over nodes. DaemonSet: one on every matching node."""

    replicas: int = Field(default=1, ge=0, le=1000)
    """Pods of the Deployment; autoscaling takes it over where that is set."""

    node_selector: dict[str, str] = Field(default={}, max_length=64)
    """Labels a node must have."""

    tolerations: list[Toleration] = Field(default=[], max_length=64)
    """Taints the pods accept."""

    priority_class_name: str | None = Field(default=None, max_length=253)
    """The pods' PriorityClass."""


class Autoscaling(Model):
    """More pods when there are more subscribers."""

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

    requests: dict[str, Amount] = Field(
        default={"cpu": Quantity("500m"), "memory": Quantity("512Mi")}, max_length=16
    )
    """What the scheduler sets aside."""

    limits: dict[str, Amount] = Field(default={"memory": Quantity("1Gi")}, max_length=16)
    """What the pod may not exceed."""


class Monitoring(Model):
    """The HTTP port for metrics, probes and status. It tells track names: keep it inside."""

    host: ListenHost = ""
    """The local address; empty: every address."""

    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """The TCP port; 0: none."""


class Logging(Model):
    """What the relay writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are written."""

    format: Literal["console", "json"] = "json"
    """console: key=value for people; json: one object a line."""
