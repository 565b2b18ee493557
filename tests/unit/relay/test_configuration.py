"""From a spec to the options of the parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastrelay.api.load import validate
from fastrelay.api.spec import RelaySpec
from fastrelay.fastpath.bands import Shares
from fastrelay.moqt.limits import SessionLimits
from fastrelay.quic.options import QuicOptions, Retry
from fastrelay.relay.configuration import UNREAD_BYTES, ConfigurationError, Trace, server_options
from fastrelay.relay.options import PolicyRule, RelayOptions

TLS = {"files": {"certificate": "c.pem", "privateKey": "k.pem"}}


def spec(**sections: Any) -> RelaySpec:
    return validate(
        {
            "apiVersion": "fastrelay.io/v1alpha1",
            "kind": "MoQRelay",
            "metadata": {"name": "r"},
            "spec": {"tls": TLS, **sections},
        }
    ).spec


def test_defaults_of_the_spec_are_those_of_the_parts() -> None:
    options = server_options(spec())
    files = {"certificate": Path("c.pem"), "private_key": Path("k.pem")}
    assert options.quic == QuicOptions(**files)
    assert options.session == SessionLimits(
        namespaces=10_000, filter_ranges=0, unread_bytes=UNREAD_BYTES
    )
    assert options.relay == RelayOptions(policy=(PolicyRule(prefix=()),))
    assert (options.host, options.port) == ("", 4443)
    assert [draft.number for draft in options.quic.drafts] == [18, 22, 16]
    assert options.monitoring == ("", 9464)
    assert options.upstreams == ()


def test_every_section_arrives() -> None:
    options = server_options(
        spec(
            listen={
                "host": "::1",
                "port": 1,
                "drafts": [22],
                "transports": ["WebTransport"],
                "retry": "Always",
                "idleTimeoutSeconds": 60,
                "handshakeTimeoutSeconds": 3,
            },
            cache={
                "maxAgeSeconds": 7,
                "maxSize": "1Mi",
                "lingerSeconds": 9,
                "replayCurrentGroup": False,
            },
            limits={
                "sessions": 5,
                "requestsPerSession": 6,
                "subscriberBacklog": "2Mi",
                "subscriberStreams": 8,
            },
            congestion={"controller": "Cubic"},
            drain={"gracePeriodSeconds": 4, "redirect": "moqt://other:4443"},
            monitoring={"port": 0},
        ),
        Trace(Path("keys"), Path("qlogs")),
    )
    quic, relay = options.quic, options.relay
    assert (options.host, options.port, options.monitoring) == ("::1", 1, None)
    assert (quic.certificate, quic.private_key) == (Path("c.pem"), Path("k.pem"))
    assert (quic.raw, quic.webtransport, quic.retry) == (False, True, Retry.ALWAYS)
    assert (quic.idle_timeout, quic.handshake_timeout) == (60.0, 3.0)
    assert (quic.congestion_control, quic.max_connections) == ("cubic", 5)
    assert (quic.key_log, quic.qlog_directory) == (Path("keys"), Path("qlogs"))
    assert (relay.cache.seconds, relay.cache.bytes, relay.linger_seconds) == (7.0, 1 << 20, 9.0)
    assert not relay.deviations.replay_current_group
    assert (relay.limits.sessions, relay.limits.requests_per_session) == (5, 6)
    assert (relay.limits.bytes_behind, relay.limits.streams_behind) == (2 << 20, 8)
    assert options.session.incoming_requests == 6
    assert options.session.setup_timeout == 3.0
    assert (options.grace_period_seconds, options.redirect) == (4.0, "moqt://other:4443")


def test_no_certificate() -> None:
    with pytest.raises(ConfigurationError, match="fastrelay certificate makes both"):
        server_options(RelaySpec())


def test_rules_become_secrets(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from-file \n")
    policy = server_options(
        spec(
            authorization={
                "subscribe": "Nobody",
                "rules": [
                    {
                        "prefix": "live/a",
                        "subscribe": "Token",
                        "tokens": [
                            {"name": "studio", "file": str(token), "allow": ["Publish"]},
                            {"name": "both", "value": "inline"},
                        ],
                    },
                    {"prefix": "news", "publish": "Nobody"},
                ],
            }
        )
    ).relay.policy
    assert policy == (
        PolicyRule(prefix=(), publish=None, subscribe=()),
        PolicyRule((b"live", b"a"), (b"from-file", b"inline"), (b"inline",)),
        PolicyRule((b"news",), (), None),
    )


def test_a_rule_for_everything_replaces_the_default() -> None:
    rule = {"prefix": "", "publish": "Nobody"}
    policy = server_options(spec(authorization={"rules": [rule]})).relay.policy
    assert policy == (PolicyRule(prefix=(), publish=(), subscribe=None),)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (
            {"secretKeyRef": {"name": "s"}},
            r"rules\[0\].tokens\[0\].secretKeyRef: Secrets can be read in a cluster only",
        ),
        ({"file": "/nowhere"}, r"tokens\[0\].file: /nowhere: No such file"),
        ({"file": "/dev/null"}, "is empty; write the token into it"),
    ],
)
def test_secrets_that_cannot_be_read(token: dict[str, Any], message: str) -> None:
    rule = {"prefix": "live", "tokens": [{"name": "t", **token}]}
    with pytest.raises(ConfigurationError, match=message):
        server_options(spec(authorization={"rules": [rule]}))


def test_upstreams() -> None:
    first, second, third = server_options(
        spec(
            listen={"drafts": [22, 18], "idleTimeoutSeconds": 30},
            upstreams=[
                {"url": "moqt://a:1", "prefixes": ["live/x"], "token": {"value": "t"}},
                {"url": "https://b/c", "verify": False, "reconnectMaxSeconds": 3},
                {"url": "moqt://c:1", "certificateSha256": "ab" * 32},
            ],
        )
    ).upstreams
    assert (first.url, first.prefixes, first.token) == ("moqt://a:1", ((b"live", b"x"),), b"t")
    assert (first.quic.insecure, first.quic.keep_alive) == (False, 10.0)
    assert [draft.number for draft in first.quic.drafts] == [22, 18]
    assert (second.quic.insecure, second.reconnect_max_seconds) == (True, 3.0)
    assert third.quic.certificate_sha256 == b"\xab" * 32


def test_names_of_relays_are_for_clusters() -> None:
    with pytest.raises(ConfigurationError, match=r"upstreams\[0\].relay: .* write url instead"):
        server_options(spec(upstreams=[{"relay": {"name": "core"}}]))


@pytest.mark.parametrize("mode", ["Auto", "Required", "Disabled"])
def test_the_fast_path(mode: str) -> None:
    given = spec(
        fastPath={"mode": mode, "maxMembers": 7}, upstreams=[{"url": "moqt://upstream:4443"}]
    )
    options = server_options(given, fast_path=Path("pins"))
    used = mode != "Disabled"
    assert options.fast_path == (Path("pins") if used else None)
    assert options.fast_path_required is (mode == "Required")
    assert options.quic.fast_path is options.upstreams[0].quic.fast_path is used
    assert options.relay.kernel_members == 7
    assert not server_options(given).quic.fast_path


def test_no_encryption_only_in_the_laboratory() -> None:
    given = spec(
        fastPath={"encryption": "Disabled", "insecureLaboratory": True},
        upstreams=[{"url": "moqt://upstream:4443"}],
    )
    with pytest.raises(ConfigurationError, match="for `fastrelay local` alone; write Enabled"):
        server_options(given)
    options = server_options(given, laboratory=True)
    assert not options.quic.encryption
    assert options.upstreams[0].quic.encryption
    assert server_options(spec(), laboratory=True).quic.encryption


def test_authorities_in_a_secret_are_for_clusters() -> None:
    upstream = {"url": "moqt://a:1", "caSecretKeyRef": {"name": "ca", "key": "ca.crt"}}
    with pytest.raises(ConfigurationError, match=r"upstreams\[0\].caSecretKeyRef: .* write caFile"):
        server_options(spec(upstreams=[upstream]))


def test_bands_and_the_rate_that_they_share() -> None:
    bands = [{"lowestPriority": 100, "share": 70}, {"lowestPriority": 255, "share": 30}]
    relay = server_options(
        spec(
            congestion={
                "bands": bands,
                "subscriberRate": "250k",
                "burstMilliseconds": 20,
                "overflow": 50,
            }
        )
    ).relay
    assert relay.shares == Shares((100, 255), (70, 30), 20_000_000, 50)
    assert relay.peer_rate == 250_000
