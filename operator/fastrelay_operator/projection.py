"""What a relay process in a pod is told: its manifest, with files where the spec has Secrets.

Only what the process itself obeys is in it, and no default: so a change of anything else, or a
new field in a later version, does not restart a relay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fastrelay.api.objects import service_host
from fastrelay.api.spec import MoQRelay

MANIFEST = "moqrelay.json"
CONFIG_PATH = "/etc/fastrelay"
TLS_PATH = "/etc/fastrelay-tls"
SECRETS_PATH = "/etc/fastrelay-secrets"

_NOT_OF_THE_PROCESS = ("placement", "autoscaling", "resources", "tls")


@dataclass(frozen=True, slots=True)
class Projection:
    """``manifest``: the file's text. ``secrets``: which keys of which Secrets are mounted, as
    ``SECRETS_PATH/NAME/KEY``."""

    manifest: str
    secrets: dict[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """Another one means: start anew."""
        return sha256(self.manifest.encode()).hexdigest()[:16]


def project(relay: MoQRelay, ports: dict[str, int]) -> Projection:
    """``ports``: where other relays of the namespace listen, by name."""
    spec = relay.spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for section in _NOT_OF_THE_PROCESS:
        spec.pop(section, None)
    spec.get("listen", {}).pop("service", None)
    spec.get("monitoring", {}).pop("host", None)
    spec["tls"] = {
        "files": {"certificate": f"{TLS_PATH}/tls.crt", "privateKey": f"{TLS_PATH}/tls.key"}
    }
    for upstream in spec.get("upstreams", ()):
        reference = upstream.pop("relay", None)
        if reference is not None:
            name = reference["name"]
            host = service_host(name, relay.metadata.namespace)
            upstream["url"] = f"moqt://{host}:{ports[name]}"
    mounted: dict[str, set[str]] = {}
    spec = _with_files(spec, mounted)
    document = {
        "apiVersion": relay.api_version,
        "kind": relay.kind,
        "metadata": {"name": relay.metadata.name, "namespace": relay.metadata.namespace},
        "spec": {name: section for name, section in spec.items() if section != {}},
    }
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    return Projection(text, {name: tuple(sorted(keys)) for name, keys in sorted(mounted.items())})


def secret_keys(relay: MoQRelay) -> dict[str, set[str]]:
    """Which keys of which Secrets a relay needs, beside its certificate."""
    needed: dict[str, set[str]] = {}
    _with_files(relay.spec.model_dump(mode="json", exclude_none=True), needed)
    return needed


def certificate_secret(relay: MoQRelay) -> str:
    """The name of the Secret with the certificate."""
    return relay.spec.tls.secret_name or f"{relay.metadata.name}-tls"


def _with_files(value: Any, mounted: dict[str, set[str]]) -> Any:
    """``secretKeyRef`` as ``file``, ``caSecretKeyRef`` as ``caFile``."""
    if isinstance(value, list):
        return [_with_files(each, mounted) for each in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, each in value.items():
        if name in _REFERENCES:
            key = each.get("key", "token")
            mounted.setdefault(each["name"], set()).add(key)
            result[_REFERENCES[name]] = f"{SECRETS_PATH}/{each['name']}/{key}"
        else:
            result[name] = _with_files(each, mounted)
    return result


_REFERENCES = {"secretKeyRef": "file", "caSecretKeyRef": "caFile"}
