"""The programs of ``bpf/``, compiled once; a scenario with empty maps for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bpf.harness import Datapath
from bpf.scenario import Scenario
from bpf.wire import Wire, attached


@pytest.fixture(scope="session")
def datapath() -> Iterator[Datapath]:
    with Datapath() as made:
        yield made


@pytest.fixture
def scenario(datapath: Datapath) -> Scenario:
    return Scenario(datapath)


@pytest.fixture(scope="module")
def program_a(datapath: Datapath) -> None:
    datapath.load("server_ingress.c")


@pytest.fixture
def server_ingress(datapath: Datapath, program_a: None) -> Iterator[Datapath]:
    """Program A alone: its clones are captured as they are."""
    with datapath.attached():
        yield datapath


@pytest.fixture
def wire(server_ingress: Datapath) -> Iterator[Wire]:
    """Program A attached; its clones are captured as they are."""
    with attached(server_ingress) as made:
        yield made
