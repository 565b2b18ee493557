"""The resource `MoQRelay`: what its owner writes (``fastrelay.io/v1alpha1``)."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from fastrelay.api.delivery import Cache, Congestion, FastPath
from fastrelay.api.model import (
    NAME_ADVICE,
    NAME_PATTERN,
    Check,
    Model,
    Name,
    RelayName,
    bad,
)
from fastrelay.api.network import Listen, Tls, Upstream
from fastrelay.api.policy import Authorization, Limits, Quota
from fastrelay.api.status import RelayStatus
from fastrelay.api.workload import (
    Autoscaling,
    Drain,
    Logging,
    Monitoring,
    Placement,
    Resources,
)

GROUP = "fastrelay.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "MoQRelay"
PLURAL = "moqrelays"


class RelaySpec(Model):
    """The wanted relay. Every field has a default: ``spec: {}`` with a certificate works."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.autoscaling) || self.placement.workload != 'DaemonSet'",
            "autoscaling has no effect with placement.workload DaemonSet; "
            "remove it or write workload: Deployment",
        ),
    )

    placement: Placement = Placement()
    """Where relay pods run, and how many."""

    listen: Listen = Listen()
    """Where the relay listens, and what it speaks there."""

    tls: Tls = Tls()
    """The server's certificate."""

    upstreams: list[Upstream] = Field(default=[], max_length=16)
    """Relays or origins to ask, in this order, for what nobody publishes here."""

    authorization: Authorization = Authorization()
    """Who may publish and subscribe what."""

    fast_path: FastPath = FastPath()
    """Forwarding in the kernel."""

    congestion: Congestion = Congestion()
    """What a subscriber may have in flight, and who goes first."""

    cache: Cache = Cache()
    """What the relay keeps of what passed, and for how long."""

    limits: Limits = Limits()
    """How much one relay process does before it refuses more."""

    quota: Quota = Quota()
    """How many connections clients may open."""

    autoscaling: Autoscaling | None = None
    """More pods when there are more subscribers; unset: a fixed number."""

    drain: Drain = Drain()
    """How a relay leaves."""

    resources: Resources = Resources()
    """CPU and memory of a relay pod."""

    monitoring: Monitoring = Monitoring()
    """Metrics, probes and status pages."""

    logging: Logging = Logging()
    """What the relay logs."""

    @model_validator(mode="after")
    def _daemon_sets_do_not_scale(self) -> Self:
        if self.autoscaling and self.placement.workload == "DaemonSet":
            raise bad(
                "autoscaling has no effect with placement.workload DaemonSet; "
                "remove it or write workload: Deployment"
            )
        return self


class Metadata(Model):
    """The part of a Kubernetes object's metadata that matters here; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: RelayName
    """The relay's name, unique in its namespace."""

    namespace: Name = "default"
    """The Kubernetes namespace."""

    labels: dict[str, str] = Field(default={}, max_length=512)
    """Labels of the object."""

    annotations: dict[str, str] = Field(default={}, max_length=512)
    """Annotations of the object."""


class MoQRelay(Model):
    """A relay for Media over QUIC Transport."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            f"self.metadata.name.matches('{NAME_PATTERN}') && self.metadata.name.size() <= 57",
            f"metadata.name does not fit; write {NAME_ADVICE.text}",
        ),
    )

    api_version: Literal["fastrelay.io/v1alpha1"]
    """Always fastrelay.io/v1alpha1."""

    kind: Literal["MoQRelay"]
    """Always MoQRelay."""

    metadata: Metadata
    """The object's name and labels."""

    spec: RelaySpec = RelaySpec()
    """The wanted relay."""

    status: RelayStatus | None = None
    """What the operator found; never written by hand."""
