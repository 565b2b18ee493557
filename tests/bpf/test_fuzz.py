"""A short run of the fuzzer, with fixed seeds; ``make fuzz`` makes a long one."""

from __future__ import annotations

import pytest

from bpf.fuzz import run_round
from bpf.harness import Datapath
from fastrelay.fastpath.layout import Outcome, Reason


@pytest.fixture(scope="module")
def programs(server_ingress: Datapath) -> Datapath:
    server_ingress.load("client_egress.c")
    return server_ingress


@pytest.mark.parametrize("seed", range(4))
def test_programs_do_what_the_model_does(programs: Datapath, seed: int) -> None:
    counted = run_round(programs, seed, packets=6000)
    assert counted[Reason.A_FORWARDED] > 100
    assert counted[Reason.B_OUTCOME + Outcome.SENT] > 100
