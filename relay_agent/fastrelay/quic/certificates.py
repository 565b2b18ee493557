"""Certificates: made for a test or a browser, loaded, and loaded again when they change."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fastrelay.quic.files import FileWatcher

logger = logging.getLogger(__name__)

BROWSER_DAYS = 14
"""Browsers take a certificate by its hash only if it is ECDSA P-256 and this short-lived."""


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate of one's own, in PEM."""

    certificate: bytes
    private_key: bytes
    sha256: bytes
    """Of the DER: the ``value`` in a browser's ``serverCertificateHashes``."""

    def write(self, certificate: Path, private_key: Path) -> None:
        """Write both files; the key is readable by its owner only."""
        private_key.touch(mode=0o600, exist_ok=True)
        private_key.write_bytes(self.private_key)
        certificate.write_bytes(self.certificate)


def make_self_signed(
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1"), days: float = BROWSER_DAYS
) -> SelfSigned:
    """An ECDSA P-256 certificate for names and addresses, valid from a minute ago.

    :raises ValueError: no host is given.
    """
    if not hosts:
        raise ValueError("a certificate needs at least one host")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        private_key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        sha256=certificate_sha256(certificate),
    )


def certificate_sha256(certificate: x509.Certificate) -> bytes:
    """The hash browsers and the ``certificate_sha256`` option want: SHA-256 of the DER."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server shows and proves: a chain, leaf first, and the leaf's key."""

    chain: tuple[x509.Certificate, ...]
    private_key: Any

    @property
    def sha256(self) -> bytes:
        return certificate_sha256(self.chain[0])


def load_identity(certificate: Path, private_key: Path) -> Identity:
    """Read PEM files.

    :raises OSError: a file cannot be read.
    :raises ValueError: a file is not what it should be, or they do not belong together;
        the message says what to do.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(certificate.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{certificate} holds no PEM certificate") from error
    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), password=None)
    except TypeError as error:
        raise ValueError(f"{private_key} has a passphrase; write the key without") from error
    except ValueError as error:
        raise ValueError(f"{private_key} holds no PEM private key") from error
    if key.public_key() != chain[0].public_key():
        raise ValueError(f"{private_key} is not the key of the certificate in {certificate}")
    return Identity(chain, key)


class IdentityWatcher(FileWatcher):
    """Hands over what the two files hold after a change. Half-written pairs do not match and are
    tried again."""

    def __init__(
        self, certificate: Path, private_key: Path, on_change: Callable[[Identity], None]
    ) -> None:
        super().__init__((certificate, private_key), self._load)
        self._files = certificate, private_key
        self._use = on_change

    def _load(self) -> bool:
        try:
            identity = load_identity(*self._files)
        except (OSError, ValueError) as error:
            logger.warning("the new certificate is not used: %s", error)
            return False
        self._use(identity)
        logger.info("certificate reloaded, sha256 %s", identity.sha256.hex())
        return True


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
