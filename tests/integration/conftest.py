"""Fixtures: a certificate for all, and relays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrelay.quic.certificates import make_self_signed
from integration.harness import Certificate, RelayProcess, running_relay


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    made = make_self_signed()
    directory = tmp_path_factory.mktemp("certificate")
    paths = directory / "certificate.pem", directory / "key.pem"
    made.write(*paths)
    return Certificate(*paths, made.sha256)


@pytest.fixture(scope="module")
def shared_relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RelayProcess]:
    """A relay with every draft for all tests of a module, which use namespaces of their own."""
    with running_relay(certificate, tmp_path_factory.mktemp("relay") / "relay.log") as relay:
        yield relay


@pytest.fixture
def relay(certificate: Certificate, tmp_path: Path) -> Iterator[RelayProcess]:
    """A relay with every draft, for one test."""
    with running_relay(certificate, tmp_path / "relay.log") as relay:
        yield relay
