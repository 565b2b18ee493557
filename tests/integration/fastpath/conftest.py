"""Fixtures for tests of the fast path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrelay.local.shaping import Shape
from fastrelay.local.topology import PodPlan
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scripted import scripted_relay
from integration.harness import Certificate


@pytest.fixture(scope="module")
def shared_fast_relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    """One with every draft for all tests of a module, which use namespaces of their own."""
    with fast_relay(certificate, tmp_path_factory.mktemp("fast-relay")) as relay:
        yield relay


@pytest.fixture
def fast(certificate: Certificate, tmp_path: Path) -> Iterator[FastRelay]:
    """One with every draft, for one test."""
    with fast_relay(certificate, tmp_path / "fast-relay") as relay:
        yield relay


FAR = {"far": 0.02, "near": 0.0025}
"""Seconds each way to pods of these names."""


@pytest.fixture(scope="session")
def scripted(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    """One for the tests of several modules: see :mod:`integration.fastpath.scripted`."""
    directory = tmp_path_factory.mktemp("scripted-relay")
    pods = [PodPlan(name, Shape(delay=delay)) for name, delay in FAR.items()]
    with scripted_relay(certificate, directory, pods=pods) as relay:
        yield relay
