"""A cluster for all tests, with the images of this tree and the chart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import audit, images, relays, release, remains
from e2e.cluster import binaries, lifecycle, machines
from e2e.cluster.places import CONTROL_PLANE
from e2e.remains import Everything, on_this_machine
from e2e.watching import Audience, audience

_TOLD = pytest.StashKey[list[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What takes long once takes no test's time."""
    wanted = any("cluster" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        assert os.geteuid() == 0, "root is needed"
        binaries.build()
        images.build()


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One node with the images. A cluster that is there already is used, and stays."""
    assert os.geteuid() == 0, "root is needed"
    stays = machines.first_process(CONTROL_PLANE) is not None
    before = on_this_machine()
    try:
        lifecycle.up(nodes=1)
        images.load()
        yield
    finally:
        if not stays:
            lifecycle.down()
    assert stays or on_this_machine() == before


@pytest.fixture(scope="session")
def three_nodes(cluster: None) -> None:
    """Two more; they stay as long as the cluster does."""
    lifecycle.up(nodes=3)


@pytest.fixture(scope="session")
def log_begin(cluster: None) -> int:
    """Where the audit log of these tests begins."""
    return audit.here()


@pytest.fixture(scope="session")
def installed(log_begin: int) -> Iterator[Everything]:
    """The release, once for all tests; what there was before it."""
    before = remains.everywhere()
    notes = release.install()
    assert "kubectl wait --for=condition=Ready moqrelay/demo" in notes
    yield before
    if release.is_installed():
        release.uninstall()


@pytest.fixture
def viewers(tmp_path: Path) -> Iterator[Audience]:
    """Starts clients, in pods of the namespace ``viewers``."""
    with (
        relays.namespace("viewers") as namespace,
        audience(tmp_path, namespace, release.RELAY_IMAGE) as group,
    ):
        yield group


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Lines for the end of the run: what was measured."""
    told = pytestconfig.stash.setdefault(_TOLD, [])

    def add(what: str, *lines: object) -> None:
        told.append(what)
        told.extend(f"    {line}" for line in lines)

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if told := config.stash.get(_TOLD, []):
        terminalreporter.write_sep("=", "measured")
        terminalreporter.write_line("\n".join(told))
