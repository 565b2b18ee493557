"""A short run of the fuzzer, with fixed seeds; ``make fuzz`` makes a long one."""

from __future__ import annotations

import pytest

from bpf.fuzz import run_round
from bpf.harness import Datapath
from fastrelay.fastpath.layout import Outcome, Reason


@pytest.mark.parametrize("seed", range(4))
def test_programs_do_what_the_model_does(
    server_ingress: Datapath, program_b: None, seed: int
) -> None:
    counted = run_round(server_ingress, seed, packets=6000)
    assert counted[Reason.A_FORWARDED] > 100
    assert counted[Reason.B_OUTCOME + Outcome.SENT] > 100
    assert counted[Reason.B_DROPPED_LEVEL]


@pytest.mark.kernels
def test_a_short_life(server_ingress: Datapath, program_b: None) -> None:
    run_round(server_ingress, 100, packets=800)
