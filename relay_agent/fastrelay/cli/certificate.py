"""``fastrelay certificate``: a certificate for a laboratory, and its hash."""

from __future__ import annotations

import base64
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail, told

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def certificate(
    host: Annotated[
        list[str],
        typer.Option("--host", help="A DNS name or address to put into it; may be repeated."),
    ] = ["localhost", "127.0.0.1", "::1"],  # noqa: B006 (typer copies it)
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long it is valid. Browsers take 14 at most.")
    ] = 14,
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the certificate goes (PEM).")
    ] = Path("cert.pem"),
    private_key: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where the private key goes (PEM, mode 0600)."),
    ] = Path("key.pem"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    show: Annotated[
        bool,
        typer.Option("--show", help="Make nothing; print the hashes of the existing certificate."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a self-signed certificate.

    Its hash is printed in the forms that browsers and tools want. The key is ECDSA P-256 and
    the certificate lives 14 days, so that a web page may name it in `serverCertificateHashes`
    and needs no authority. For the public, use a certificate of a real authority instead.
    """
    with told():
        if not show:
            _make(host, days, certificate, private_key, force)
        _print(certificate, json)


def _make(hosts: list[str], days: int, certificate: Path, key: Path, force: bool) -> None:
    from fastrelay.quic.certificates import make_self_signed

    for path in (certificate, key):
        if path.exists() and not force:
            fail(Exit.USAGE, f"{path} exists; add --force to overwrite it")
    try:
        made = make_self_signed(hosts, days)
    except ValueError as error:
        fail(Exit.USAGE, f"--host: {error}")
    made.write(certificate, key)


def _print(path: Path, as_json: bool) -> None:
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError:
        fail(Exit.CONFIGURATION, f"{path}: holds no PEM certificate")
    forms = describe(leaf)
    if as_json:
        typer.echo(json_module.dumps({"certificate": str(path), **forms}, indent=2))
        return
    width = max(map(len, forms))
    typer.echo(f"{'certificate':{width}}  {path}")
    for name, value in forms.items():
        typer.echo(f"{name:{width}}  {value}")


def describe(leaf: Certificate) -> dict[str, str]:
    """The hashes and the life time of a certificate, by the names that are printed."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from fastrelay.quic.certificates import certificate_sha256

    digest = certificate_sha256(leaf)
    public = Hash(SHA256())
    public.update(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return {
        "sha256": digest.hex(),
        "sha256-colons": digest.hex(":").upper(),
        "sha256-base64": base64.b64encode(digest).decode(),
        "spki-sha256-base64": base64.b64encode(public.finalize()).decode(),
        "javascript": (
            "serverCertificateHashes: [{algorithm: 'sha-256', value: "
            f"Uint8Array.from(atob('{base64.b64encode(digest).decode()}'), c => c.charCodeAt(0))}}]"
        ),
        "valid-until": leaf.not_valid_after_utc.isoformat(),
    }
