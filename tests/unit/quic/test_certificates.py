"""Certificates: made, loaded, watched."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fastrelay.quic.certificates import (
    Identity,
    IdentityWatcher,
    certificate_sha256,
    load_identity,
    make_self_signed,
)
from unit.quic.peers import write_identity


def test_browsers_would_take_it() -> None:
    made = make_self_signed(["relay.example", "192.0.2.1", "2001:db8::1"])
    certificate = x509.load_pem_x509_certificate(made.certificate)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    valid = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert valid <= datetime.timedelta(days=14)
    assert certificate.not_valid_before_utc < datetime.datetime.now(datetime.UTC)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay.example"]
    assert len(names.get_values_for_type(x509.IPAddress)) == 2
    assert made.sha256 == certificate_sha256(certificate)
    assert len(made.sha256) == 32


def test_a_certificate_needs_a_host() -> None:
    with pytest.raises(ValueError, match="host"):
        make_self_signed([])


def test_the_key_file_is_private(tmp_path: Path) -> None:
    written = write_identity(tmp_path)
    assert stat.S_IMODE(written.private_key.stat().st_mode) == 0o600
    loaded = load_identity(written.certificate, written.private_key)
    assert loaded.sha256 == written.made.sha256


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path) -> None:
    one, two = write_identity(tmp_path, "one"), write_identity(tmp_path, "two")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(one.made.private_key, None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for certificate, private_key, message in (
        (one.certificate, two.private_key, "is not the key of"),
        (nothing, one.private_key, "holds no PEM certificate"),
        (one.certificate, nothing, "holds no PEM private key"),
        (one.certificate, locked, "passphrase"),
    ):
        with pytest.raises(ValueError, match=message):
            load_identity(certificate, private_key)
    with pytest.raises(FileNotFoundError):
        load_identity(tmp_path / "absent.pem", one.private_key)


def test_a_change_is_seen_once_and_a_broken_one_never(tmp_path: Path) -> None:
    seen: list[Identity] = []
    current = write_identity(tmp_path)
    watcher = IdentityWatcher(current.certificate, current.private_key, seen.append)
    assert not watcher.check()

    later = make_self_signed()
    current.certificate.write_bytes(later.certificate)
    touch(current.certificate)
    assert not watcher.check(), "the key is still the old one"
    current.private_key.write_bytes(later.private_key)
    touch(current.private_key)
    assert watcher.check()
    assert not watcher.check()
    assert [identity.sha256 for identity in seen] == [later.sha256]

    current.certificate.unlink()
    assert not watcher.check()


def test_swapped_links_are_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates the files of a mounted secret."""
    seen: list[Identity] = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        write_identity(tmp_path / name)
    link = tmp_path / "current"
    link.symlink_to("old")
    watcher = IdentityWatcher(link / "server.pem", link / "server.key", seen.append)
    replacement = tmp_path / "next"
    replacement.symlink_to("new")
    replacement.rename(link)
    assert watcher.check()
    assert len(seen) == 1


def touch(path: Path) -> None:
    """Another time of change, even where the clock of the file system is coarse."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
