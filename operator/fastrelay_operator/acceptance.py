"""Whether a relay can be carried out here, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastrelay.api.load import SpecError, validate_stored
from fastrelay.api.spec import MoQRelay
from fastrelay_operator.objects import CERTIFICATE, Object, name_of
from fastrelay_operator.observed import Observed, Problem, Refusal
from fastrelay_operator.projection import certificate_secret, secret_keys
from fastrelay_operator.settings import Settings

TLS_KEYS = frozenset({"tls.crt", "tls.key"})


def parse(relay: Object) -> MoQRelay | Problem:
    """The MoQRelay as a model."""
    metadata = {key: relay["metadata"][key] for key in ("name", "namespace")}
    parts = {key: relay[key] for key in ("apiVersion", "kind")}
    try:
        return validate_stored({**parts, "metadata": metadata, "spec": relay.get("spec") or {}})
    except SpecError as error:
        return Problem("Invalid", "; ".join(map(str, error.problems)))


def references(relay: MoQRelay) -> list[str]:
    """The Secrets that a relay needs, by name."""
    return sorted({certificate_secret(relay), *secret_keys(relay)})


def problem(relay: MoQRelay, observed: Observed, settings: Settings) -> Problem | None:
    """The first thing that is in the way."""
    return next(_problems(relay, observed, settings), None)


def refusal(observed: Observed) -> Problem | None:
    """The first of the relay's objects that the API server did not take."""
    for (kind, name), refused in observed.refusals.items():
        return _refused(kind, name, refused)
    return None


def _problems(relay: MoQRelay, observed: Observed, settings: Settings) -> Iterator[Problem]:
    if relay.spec.fast_path.encryption == "Disabled" and not settings.allow_plaintext:
        yield Problem(
            "PlaintextRefused",
            "this operator allows no relay without encryption; write fastPath.encryption: Enabled",
        )
    yield from _upstreams(relay, observed.relays)
    certificate = certificate_secret(relay)
    found = observed.secrets.get(certificate, ...)
    if found is None or (found is not ... and not found.keys >= TLS_KEYS):
        yield Problem("CertificateMissing", _certificate_advice(relay, certificate), waits=True)
    for name, keys in secret_keys(relay).items():
        facts = observed.secrets.get(name, ...)
        if facts is None:
            yield Problem("SecretMissing", f"there is no Secret {name}; create it", waits=True)
        elif facts is not ... and (missing := keys - facts.keys):
            text = ", ".join(sorted(missing))
            yield Problem("SecretMissing", f"Secret {name} has no key {text}; add it", waits=True)


def _certificate_advice(relay: MoQRelay, secret: str) -> str:
    if relay.spec.tls.issuer is not None:
        return f"waiting for cert-manager to write Secret {secret}: kubectl describe certificate"
    return (
        f"there is no Secret {secret} with tls.crt and tls.key; "
        f"kubectl create secret tls {secret} --cert FILE --key FILE"
    )


def _upstreams(relay: MoQRelay, relays: Mapping[str, Object]) -> Iterator[Problem]:
    for upstream in relay.spec.upstreams:
        if upstream.relay is not None and upstream.relay.name not in relays:
            yield Problem("UpstreamMissing", f"there is no MoQRelay {upstream.relay.name}")
    loop = _loop(relay.metadata.name, relays)
    if loop:
        text = " -> ".join(loop)
        yield Problem("UpstreamLoop", f"upstreams lead in a circle: {text}; remove one of them")


def upstream_names(relay: Object) -> list[str]:
    """The MoQRelays that a MoQRelay names as upstreams."""
    upstreams = (relay.get("spec") or {}).get("upstreams") or ()
    return [each["relay"]["name"] for each in upstreams if each.get("relay")]


def _loop(start: str, relays: Mapping[str, Object]) -> list[str]:
    """The shortest way from a relay back to itself; empty: there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for name in upstream_names(relays[way[-1]]) if way[-1] in relays else ():
            if name == start:
                return [*way, start]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def _refused(kind: str, name: str, refused: Refusal) -> Problem:
    if kind == CERTIFICATE.name and refused.code == 404:
        advice = "install cert-manager, or remove tls.issuer and create the Secret"
        return Problem("CertManagerMissing", f"the cluster has no cert-manager; {advice}", True)
    if refused.code == 409:
        return Problem("NameTaken", f"{kind} {name} belongs to somebody else", waits=True)
    return Problem("Rejected", f"{kind} {name}: {refused.message}", waits=True)


def listen_ports(relays: Mapping[str, Object]) -> dict[str, int]:
    """Where each relay listens, by name."""
    return {
        name_of(each): int(((each.get("spec") or {}).get("listen") or {}).get("port", 4443))
        for each in relays.values()
    }
