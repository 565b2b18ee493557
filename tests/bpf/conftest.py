"""The programs of ``bpf/``, compiled once; a scenario with empty maps for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bpf.egress import Egress
from bpf.harness import Datapath
from bpf.ingress import Ingress
from bpf.scenario import Peer, Scenario
from bpf.wire import Wire, attached


@pytest.fixture(scope="session")
def datapath() -> Iterator[Datapath]:
    with Datapath() as made:
        yield made


@pytest.fixture
def family() -> int:
    """Of peers' addresses. Modules and tests that are about both parametrize it."""
    return 4


@pytest.fixture
def scenario(datapath: Datapath, family: int) -> Scenario:
    return Scenario(datapath, family)


@pytest.fixture(scope="module")
def program_a(datapath: Datapath) -> None:
    datapath.load("server_ingress.c")


@pytest.fixture(scope="module")
def program_b(datapath: Datapath) -> None:
    datapath.load("client_egress.c")


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


@pytest.fixture
def ingress(scenario: Scenario, server_ingress: Datapath) -> Ingress:
    """Packets to program A."""
    return Ingress(scenario)


@pytest.fixture
def egress(scenario: Scenario, program_b: None) -> Egress:
    """Clones to program B, of packets of a stream that has begun."""
    made = Egress(scenario)
    made.stream()
    return made


@pytest.fixture
def peer(egress: Egress) -> Peer:
    """A subscriber, at position 0 of array 0."""
    made = egress.scenario.connect(1)
    egress.members(made)
    return made
