"""Where a relay listens, how it is reached, and with which certificate."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fastrelay.api.model import (
    Advice,
    Annotation,
    Check,
    FilePath,
    HostName,
    ListenHost,
    Model,
    ObjectName,
    Port,
    Prefix,
    RelayName,
    RelayUrl,
    bad,
)
from fastrelay.api.secrets import SecretKey, SecretValue

DraftNumber = Literal[18, 22, 16]
WireTransport = Literal["Quic", "WebTransport"]


class Service(Model):
    """The Kubernetes Service in front of the relay's pods."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.nodePort) || self.type != 'ClusterIP'",
            "nodePort has no effect with type ClusterIP; write type: NodePort",
        ),
    )

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the relay is reached: inside the cluster, on a port of every node, or through a
    load balancer that can forward UDP."""

    node_port: Port | None = None
    """The port on every node with type NodePort or LoadBalancer; chosen by Kubernetes if unset."""

    load_balancer_class: str | None = Field(default=None, max_length=253)
    """Which load balancer implementation serves the Service; the cluster's default if unset."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Local"
    """Local keeps the client's address and saves a hop; Cluster also reaches nodes without a
    relay pod."""

    annotations: dict[str, Annotation] = Field(default={}, max_length=64)
    """Annotations for the Service, as load balancer implementations want them."""

    @model_validator(mode="after")
    def _node_port_needs_type(self) -> Self:
        if self.node_port is not None and self.type == "ClusterIP":
            raise bad("nodePort has no effect with type ClusterIP; write type: NodePort")
        return self


class Listen(Model):
    """The UDP port, and what is spoken on it."""

    checks: ClassVar[tuple[Check, ...]] = tuple(
        Check(
            f"self.{field}.all(x, self.{field}.exists_one(y, y == x))",
            f"{field} names something twice; write each once",
        )
        for field in ("drafts", "transports")
    )

    host: ListenHost = ""
    """The local address to listen on, IPv4 or IPv6. Empty: every address of both families."""

    port: Port = 4443
    """The UDP port for both transports and all drafts."""

    drafts: Annotated[list[DraftNumber], Advice("some of 18, 22 and 16, like [18, 16]")] = Field(
        default=[18, 22, 16], min_length=1, max_length=3
    )
    """The drafts of Media over QUIC Transport to speak, the most preferred first."""

    transports: Annotated[list[WireTransport], Advice("[Quic], [WebTransport] or both")] = Field(
        default=["Quic", "WebTransport"], min_length=1, max_length=2
    )
    """Quic: MoQT right on QUIC, by ALPN. WebTransport: MoQT in HTTP/3, for browsers."""

    handshake_timeout_seconds: int = Field(default=10, ge=1, le=120)
    """How long a client may take for the QUIC handshake and the MoQT SETUP."""

    idle_timeout_seconds: int = Field(default=30, ge=5, le=600)
    """A connection without any packet for this long is closed (the smaller of both ends' holds)."""

    retry: Literal["Auto", "Always", "Never"] = "Auto"
    """When a new client must prove its address with a QUIC Retry first. Auto: while many
    handshakes are unfinished, or were begun within a second."""

    service: Service = Service()
    """The Kubernetes Service in front of the relay."""

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for field, values in (("drafts", self.drafts), ("transports", self.transports)):
            if len(set(values)) != len(values):
                raise bad(f"{field} names something twice; write each once")
        return self


class CertificateFiles(Model):
    """A certificate on the relay's own file system; read again when the files change."""

    certificate: FilePath
    """PEM file: the server's certificate first, then its issuers."""

    private_key: FilePath
    """PEM file: the private key of the first certificate, without a passphrase."""


class Issuer(Model):
    """A cert-manager issuer that makes the certificate."""

    name: ObjectName
    """The issuer's name."""

    kind: Literal["Issuer", "ClusterIssuer"] = "Issuer"
    """Whether it lives in the relay's namespace or is cluster-wide."""

    group: HostName = "cert-manager.io"
    """The issuer's API group."""


class Tls(Model):
    """The server's certificate: from a Secret, from cert-manager, or from files."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.files) || !(has(self.secretName) || has(self.issuer))",
            "files excludes secretName and issuer; keep the one that is meant",
        ),
        Check(
            "self.dnsNames.size() == 0 || has(self.issuer)",
            "dnsNames has no effect without an issuer; write issuer or remove dnsNames",
        ),
    )
    cluster_checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.files)",
            "files is for relays outside Kubernetes; write secretName: my-certificate",
        ),
    )

    secret_name: ObjectName | None = None
    """A Secret of type kubernetes.io/tls in the relay's namespace. Unset: the relay's name
    followed by -tls. A changed Secret is used without a restart."""

    issuer: Issuer | None = None
    """Let cert-manager write the Secret."""

    dns_names: list[HostName] = Field(default=[], max_length=64)
    """Names for the certificate that the issuer makes; the Service's names are always in it."""

    files: CertificateFiles | None = None
    """Certificate files, for relays outside Kubernetes."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.files is not None and (self.secret_name or self.issuer):
            raise bad("files excludes secretName and issuer; keep the one that is meant")
        if self.dns_names and self.issuer is None:
            raise bad("dnsNames has no effect without an issuer; write issuer or remove dnsNames")
        return self


class RelayReference(Model):
    """Another MoQRelay in the same Kubernetes namespace."""

    name: RelayName
    """The other relay's metadata.name."""


class Upstream(Model):
    """A relay (or origin) to ask for what nobody publishes here."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "has(self.url) != has(self.relay)",
            "needs either url or relay; write url: moqt://HOST:PORT",
        ),
        Check(
            "[!self.verify, has(self.caFile), has(self.caSecretKeyRef), "
            "has(self.certificateSha256)].filter(x, x).size() <= 1",
            "verify: false, caFile, caSecretKeyRef and certificateSha256 exclude each other; "
            "keep one of them",
        ),
    )
    cluster_checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.caFile)",
            "caFile is for relays outside Kubernetes; "
            "write caSecretKeyRef: {name: my-secret, key: ca.crt}",
        ),
    )

    url: RelayUrl | None = None
    """Where it listens: moqt://HOST:PORT/PATH or https://HOST:PORT/PATH."""

    relay: RelayReference | None = None
    """A MoQRelay of the same namespace instead of a URL. Its certificate has to have the name
    NAME-relay.NAMESPACE.svc, as one that cert-manager makes has."""

    prefixes: list[Prefix] = Field(default=[], max_length=64)
    """Ask this upstream only for these namespaces and those below them. Empty: for every one."""

    ca_file: FilePath | None = None
    """PEM file of authorities to trust instead of the system's."""

    ca_secret_key_ref: SecretKey | None = None
    """Likewise, from a key of a Secret in the relay's own namespace."""

    certificate_sha256: (
        Annotated[
            str,
            Field(max_length=64, pattern=r"^[0-9a-f]{64}$"),
            Advice("the 64 hexadecimal digits that `fastrelay certificate` prints"),
        ]
        | None
    ) = None
    """SHA-256 of the upstream's certificate (DER, hexadecimal): that one is trusted, no other."""

    verify: bool = True
    """Check the upstream's certificate. False is for laboratories: it trusts anybody."""

    token: SecretValue | None = None
    """An authorisation token to show to the upstream."""

    reconnect_max_seconds: int = Field(default=30, ge=1, le=3600)
    """The longest pause between attempts to reach it; pauses double from a quarter second."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.url is None) == (self.relay is None):
            raise bad("needs either url or relay; write url: moqt://HOST:PORT")
        given = [
            name
            for name, value in (
                ("verify: false", not self.verify),
                ("caFile", self.ca_file),
                ("caSecretKeyRef", self.ca_secret_key_ref),
                ("certificateSha256", self.certificate_sha256),
            )
            if value
        ]
        if len(given) > 1:
            raise bad(f"{' and '.join(given)} exclude each other; keep one of them")
        return self
