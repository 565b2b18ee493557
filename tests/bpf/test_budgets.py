"""No program comes near what verifiers take, on any kernel."""

from __future__ import annotations

import pytest

from bpf.budgets import BUDGETS
from bpf.harness import Datapath
from fastrelay.agent.programs import program_info
from fastrelay.fastpath.layout import Stage

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("source", ["server_ingress.c", "client_egress.c"])
def test_verified_instructions(datapath: Datapath, source: str) -> None:
    verified = {name: program_info(fd).verified for name, fd in datapath.load(source).items()}
    print(verified)
    assert {name: count for name, count in verified.items() if count > BUDGETS[name]} == {}


def test_every_program_has_a_budget() -> None:
    assert set(BUDGETS) == {
        "server_ingress",
        "client_egress",
        *(stage.name.lower() for stage in Stage),
    }
