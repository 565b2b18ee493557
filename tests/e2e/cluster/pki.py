"""The cluster's authorities, certificates and kubeconfig files: fresh ones for each cluster."""

from __future__ import annotations

import ipaddress
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster import places
from e2e.cluster.places import ADMIN, PKI, SERVER, Node

_LIFETIME = timedelta(days=30)
_USERS = {
    ADMIN.stem: ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
}


@dataclass(frozen=True)
class Authority:
    """Signs certificates; ``PKI/NAME.crt`` and ``.key``."""

    name: str
    key: ec.EllipticCurvePrivateKey
    subject: x509.Name

    @classmethod
    def create(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(name, key, _name(f"{places.NAME} {name}"))
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = _builder(made, made.subject, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        _write(name, builder.add_extension(usage, critical=True), key, key)
        return made

    @classmethod
    def load(cls, name: str) -> Authority:
        key = serialization.load_pem_private_key((PKI / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(name, key, _name(f"{places.NAME} {name}"))

    def issue(
        self, name: str, user: str, group: str | None = None, names: Sequence[str] = ()
    ) -> None:
        """Write ``PKI/NAME.crt`` and ``.key``; ``names``: DNS names and addresses of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(self, _name(user, group), key).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general(each) for each in names])
            builder = builder.add_extension(alternatives, critical=False)
        _write(name, builder, key, self.key)


def create_for_control_plane() -> None:
    """Everything that does not belong to a node."""
    PKI.mkdir(mode=0o700)
    authority, proxy = Authority.create("ca"), Authority.create("front-proxy-ca")
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names = [*service, f"{service[-1]}.{places.DOMAIN}", "localhost", "127.0.0.1"]
    authority.issue(
        "apiserver", "kube-apiserver", names=[*names, places.ADDRESS, places.API_SERVICE]
    )
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
    proxy.issue("front-proxy-client", "front-proxy-client")
    for name, (user, group) in _USERS.items():
        authority.issue(name, user, group)
        write_kubeconfig(places.STATE / f"{name}.kubeconfig", name)
    tokens = ec.generate_private_key(ec.SECP256R1())
    _write_key(PKI / "tokens.key", tokens)
    (PKI / "tokens.pub").write_bytes(
        tokens.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def create_for_node(node: Node) -> None:
    """The kubelet's certificate and kubeconfig."""
    names = [node.name, node.address]
    Authority.load("ca").issue(node.name, f"system:node:{node.name}", "system:nodes", names)
    write_kubeconfig(node.folder / "kubelet.kubeconfig", node.name)


def write_kubeconfig(path: Path, name: str) -> None:
    """For the user who has the certificate NAME."""

    def inline(file: str) -> str:
        return b64encode((PKI / file).read_bytes()).decode()

    cluster = {"server": SERVER, "certificate-authority-data": inline("ca.crt")}
    user = {
        "client-certificate-data": inline(f"{name}.crt"),
        "client-key-data": inline(f"{name}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": places.NAME,
        "clusters": [{"name": places.NAME, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": places.NAME, "context": {"cluster": places.NAME, "user": name}}],
    }
    path.touch(0o600)
    path.write_text(json.dumps(config))


def _name(common: str, organization: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    issuer: Authority, subject: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _write(
    name: str,
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> None:
    certificate = builder.sign(signer, hashes.SHA256())
    (PKI / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(PKI / f"{name}.key", key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
