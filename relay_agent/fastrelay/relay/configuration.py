"""From the resource `MoQRelay` to the options of the parts that carry it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from fastrelay.api.delivery import Congestion
from fastrelay.api.network import Upstream
from fastrelay.api.policy import Action, Authorization, ConnectionLimit, Rule
from fastrelay.api.policy import Quota as QuotaSpec
from fastrelay.api.secrets import SecretValue
from fastrelay.api.spec import RelaySpec
from fastrelay.fastpath.bands import Shares
from fastrelay.moqt.drafts import DRAFTS
from fastrelay.moqt.limits import SessionLimits
from fastrelay.moqt.names import Namespace, parse_namespace
from fastrelay.quic.options import QuicOptions, Retry
from fastrelay.relay.member_metrics import Block
from fastrelay.relay.options import (
    CacheOptions,
    Deviations,
    Limits,
    PolicyRule,
    RelayOptions,
)
from fastrelay.relay.quota import Limit, QuotaOptions
from fastrelay.relay.rate import Rate

UNREAD_BYTES = 8 * 1024 * 1024
"""What may wait for a client that reads nothing: far more than the high-water mark of media
and the names of all namespaces."""


class ConfigurationError(Exception):
    """A spec that is well formed but cannot be carried out here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """One upstream, ready to be dialled."""

    url: str
    quic: QuicOptions
    prefixes: tuple[Namespace, ...]
    token: bytes | None
    reconnect_max_seconds: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """Tokens: those that clients need, and for each upstream the one that it is shown."""

    policy: tuple[PolicyRule, ...]
    upstreams: tuple[bytes | None, ...] = ()


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Where tokens come from that may change. ``read``: all of them again.

    :raises ConfigurationError: by ``read``, one cannot be had.
    """

    paths: tuple[Path, ...]
    read: Callable[[], Credentials]


@dataclass(frozen=True, slots=True)
class Trace:
    """Files for investigations; both slow the relay down or tell its secrets."""

    key_log: Path | None = None
    qlog_directory: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """All that a relay process needs to know. ``monitoring`` None: no HTTP port.

    ``fast_path``: the node agent's socket for this relay; None: user space alone.
    """

    host: str
    port: int
    quic: QuicOptions
    relay: RelayOptions
    session: SessionLimits
    upstreams: tuple[UpstreamOptions, ...]
    monitoring: tuple[str, int] | None
    grace_period_seconds: float
    redirect: str
    fast_path: Path | None = None
    fast_path_required: bool = False
    """The relay is not ready as long as the kernel does not forward."""
    quota: QuotaOptions | None = None
    """None: as many connections as ``quic.max_connections``, whoever has them."""
    credential_files: CredentialFiles | None = None
    """None: no token is read from a file."""
    member_blocks: tuple[Block, ...] = ()
    """Subscribers at these addresses have metrics of their own."""
    control: Path | None = None
    """The control socket; None: there is none."""


def server_options(
    spec: RelaySpec,
    trace: Trace | None = None,
    fast_path: Path | None = None,
    *,
    laboratory: bool = False,
) -> ServerOptions:
    """Resolve a spec on this machine: read secret files, leave what only the cluster can do.

    :param laboratory: connections without encryption may be, if the spec wants them.
    :raises ConfigurationError: something is missing that the relay cannot do without.
    """
    trace = trace or Trace()
    if spec.fast_path.encryption == "Disabled" and not laboratory:
        raise ConfigurationError(
            "spec.fastPath.encryption: Disabled is for `fastrelay local` alone; write Enabled"
        )
    if spec.fast_path.mode == "Disabled":
        fast_path = None
    return ServerOptions(
        host=spec.listen.host,
        port=spec.listen.port,
        quic=_server_quic(spec, trace, shared=fast_path is not None),
        relay=_relay(spec),
        session=SessionLimits(
            incoming_requests=spec.limits.requests_per_session,
            filter_ranges=0,  # draft 22: a request with range filters gets INVALID_FILTER
            namespaces=spec.limits.namespaces,
            unread_bytes=UNREAD_BYTES,
            setup_timeout=float(spec.listen.handshake_timeout_seconds),
        ),
        upstreams=tuple(
            _upstream(upstream, index, spec, trace, shared=fast_path is not None)
            for index, upstream in enumerate(spec.upstreams)
        ),
        monitoring=(spec.monitoring.host, spec.monitoring.port) if spec.monitoring.port else None,
        member_blocks=tuple(ip_network(block) for block in spec.monitoring.members),
        grace_period_seconds=float(spec.drain.grace_period_seconds),
        redirect=spec.drain.redirect or "",
        fast_path=fast_path,
        fast_path_required=spec.fast_path.mode == "Required",
        quota=quota_options(spec.quota),
        credential_files=_credential_files(spec),
    )


def quota_options(spec: QuotaSpec) -> QuotaOptions | None:
    """None: everybody comes in."""
    if spec.mode == "Disabled":
        return None
    return QuotaOptions(
        per_address=_limit(spec.per_address),
        per_prefix=_limit(spec.per_prefix),
        total=spec.total,
        attempts=Rate(spec.attempts_per_second, spec.attempts_per_second),
        ipv4_prefix_length=spec.ipv4_prefix_length,
        ipv6_prefix_length=spec.ipv6_prefix_length,
        exempt=tuple(ip_network(block) for block in spec.exempt),
        in_kernel=spec.mode == "Kernel",
        answer=spec.action == "Refuse",
    )


def _limit(spec: ConnectionLimit) -> Limit:
    return Limit(spec.connections, Rate(spec.new_per_second, spec.burst))


def _credential_files(spec: RelaySpec) -> CredentialFiles | None:
    secrets: list[SecretValue] = []
    for rule in spec.authorization.rules:
        secrets += rule.tokens
    secrets += [upstream.token for upstream in spec.upstreams if upstream.token]
    paths = tuple(Path(secret.file) for secret in secrets if secret.file is not None)
    return CredentialFiles(paths, lambda: _credentials(spec)) if paths else None


def _credentials(spec: RelaySpec) -> Credentials:
    return Credentials(
        _policy(spec.authorization),
        tuple(_upstream_token(upstream, i) for i, upstream in enumerate(spec.upstreams)),
    )


def _upstream_token(upstream: Upstream, index: int) -> bytes | None:
    if upstream.token is None:
        return None
    return read_secret(upstream.token, f"spec.upstreams[{index}].token")


def _server_quic(spec: RelaySpec, trace: Trace, *, shared: bool) -> QuicOptions:
    files = spec.tls.files
    if files is None:
        raise ConfigurationError(
            "the relay has no certificate; write spec.tls.files or give --certificate and "
            "--private-key (fastrelay certificate makes both)"
        )
    return QuicOptions(
        drafts=tuple(DRAFTS[number] for number in spec.listen.drafts),
        raw="Quic" in spec.listen.transports,
        webtransport="WebTransport" in spec.listen.transports,
        certificate=Path(files.certificate),
        private_key=Path(files.private_key),
        handshake_timeout=float(spec.listen.handshake_timeout_seconds),
        idle_timeout=float(spec.listen.idle_timeout_seconds),
        retry=Retry(spec.listen.retry.lower()),
        max_connections=spec.limits.sessions,
        fast_path=shared,
        encryption=spec.fast_path.encryption == "Enabled",
        congestion_control=spec.congestion.controller.lower(),
        key_log=trace.key_log,
        qlog_directory=trace.qlog_directory,
    )


def _relay(spec: RelaySpec) -> RelayOptions:
    limits = spec.limits
    return RelayOptions(
        cache=CacheOptions(
            seconds=float(spec.cache.max_age_seconds), bytes=int(spec.cache.max_size)
        ),
        limits=Limits(
            sessions=limits.sessions,
            requests_per_session=limits.requests_per_session,
            fetches_per_session=limits.fetches_per_session,
            tracks=limits.tracks,
            namespaces=limits.namespaces,
            namespaces_per_session=limits.namespaces_per_session,
            streams_behind=limits.subscriber_streams,
            bytes_behind=int(limits.subscriber_backlog),
        ),
        policy=_policy(spec.authorization),
        deviations=Deviations(replay_current_group=spec.cache.replay_current_group),
        linger_seconds=float(spec.cache.linger_seconds),
        shares=_shares(spec.congestion),
        limit_by_path=spec.congestion.limit_by_path,
        peer_rate=int(spec.congestion.subscriber_rate or 0),
        kernel_members=spec.fast_path.max_members,
    )


def _shares(congestion: Congestion) -> Shares:
    bands = congestion.bands
    return Shares(
        ends=tuple(band.lowest_priority for band in bands),
        percent=tuple(band.share for band in bands),
        burst=congestion.burst_milliseconds * 1_000_000,
        overflow=congestion.overflow,
    )


def _policy(authorization: Authorization) -> tuple[PolicyRule, ...]:
    default = PolicyRule(
        prefix=(),
        publish=None if authorization.publish == "Anyone" else (),
        subscribe=None if authorization.subscribe == "Anyone" else (),
    )
    rules = [_rule(rule, index) for index, rule in enumerate(authorization.rules)]
    return tuple(rules) if any(not rule.prefix for rule in rules) else (default, *rules)


def _rule(rule: Rule, index: int) -> PolicyRule:
    secrets = {
        token.name: read_secret(token, f"spec.authorization.rules[{index}].tokens[{place}]")
        for place, token in enumerate(rule.tokens)
    }

    def allowed(action: Action, access: str) -> tuple[bytes, ...] | None:
        if access == "Anyone":
            return None
        if access == "Nobody":
            return ()
        return tuple(secrets[token.name] for token in rule.tokens if action in token.allow)

    return PolicyRule(
        prefix=_prefix(rule.prefix),
        publish=allowed("Publish", rule.publish),
        subscribe=allowed("Subscribe", rule.subscribe),
    )


def _upstream(
    upstream: Upstream, index: int, spec: RelaySpec, trace: Trace, *, shared: bool
) -> UpstreamOptions:
    path = f"spec.upstreams[{index}]"
    if upstream.url is None:
        raise ConfigurationError(
            f"{path}.relay: names of other relays are known to a cluster only; write url instead"
        )
    if upstream.ca_secret_key_ref is not None:
        raise ConfigurationError(
            f"{path}.caSecretKeyRef: Secrets can be read in a cluster only; write caFile instead"
        )
    pin = upstream.certificate_sha256
    return UpstreamOptions(
        url=upstream.url,
        quic=QuicOptions(
            drafts=tuple(DRAFTS[number] for number in spec.listen.drafts),
            ca_file=Path(upstream.ca_file) if upstream.ca_file else None,
            insecure=not upstream.verify,
            certificate_sha256=bytes.fromhex(pin) if pin else None,
            idle_timeout=float(spec.listen.idle_timeout_seconds),
            keep_alive=spec.listen.idle_timeout_seconds / 3,
            fast_path=shared,
            congestion_control=spec.congestion.controller.lower(),
            key_log=trace.key_log,
            qlog_directory=trace.qlog_directory,
        ),
        prefixes=tuple(_prefix(prefix) for prefix in upstream.prefixes),
        token=_upstream_token(upstream, index),
        reconnect_max_seconds=float(upstream.reconnect_max_seconds),
    )


def _prefix(text: str) -> Namespace:
    return parse_namespace(text) if text else ()


def read_secret(secret: SecretValue, path: str) -> bytes:
    """The secret itself.

    :param path: where the spec has it, for messages.
    :raises ConfigurationError: it cannot be read here, or is empty.
    """
    if secret.value is not None:
        return secret.value.encode()
    if secret.file is None:
        raise ConfigurationError(
            f"{path}.secretKeyRef: Secrets can be read in a cluster only; write file instead"
        )
    try:
        value = Path(secret.file).read_bytes().rstrip()
    except OSError as error:
        raise ConfigurationError(f"{path}.file: {secret.file}: {error.strerror}") from error
    if not value:
        raise ConfigurationError(f"{path}.file: {secret.file} is empty; write the token into it")
    return value
