"""Fixtures for tests of the fast path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrelay.local.shaping import Shape
from fastrelay.local.topology import PodPlan
from integration.fastpath.ends import protocol_errors
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scripted import scripted_relay
from integration.harness import Certificate


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "ends(reason, ...): connections that end with these words are expected"
    )


@pytest.fixture(autouse=True)
def _no_protocol_error(request: pytest.FixtureRequest) -> Iterator[None]:
    """No connection ends by one, here or in a relay, unless the test provokes it."""
    marker = request.node.get_closest_marker("ends")
    expected = marker.args if marker else ()
    with protocol_errors() as errors:
        yield
    unexpected = [each for each in errors if not any(words in each for words in expected)]
    assert not unexpected, "\n".join(["connections ended with errors:", *unexpected])


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


FAR = {"far": 0.02, "near": 0.01}
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
