"""Fixtures: a certificate for all, and relays. What takes long begins first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import Certificate, RelayProcess, running_relay

LONGEST_FIRST = (
    "fastpath/test_toggle.py",
    "test_soak.py",
    "local/test_crashes.py",
    "fastpath/test_third_party.py",
    "test_media.py",
    "fastpath/test_shortage.py",
    "test_matrix.py",
    "test_relay_process.py",
    "agent/test_survival.py",
    "agent/test_loading.py",
    "fastpath/test_capabilities.py",
    "fastpath/test_switching.py",
    "fastpath/test_connections.py",
    "test_relay.py",
    "test_hostile.py",
    "test_media_handover.py",
)
"""Files that take half a minute and more: begun late, one of them would run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


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
