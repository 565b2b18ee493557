"""One certificate for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastrelay.quic.options import QuicOptions
from unit.quic.peers import Identity, write_identity


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return write_identity(Path(tmp_path_factory.mktemp("identity")))


@pytest.fixture
def options(identity: Identity) -> QuicOptions:
    return QuicOptions(certificate=identity.certificate, private_key=identity.private_key)
