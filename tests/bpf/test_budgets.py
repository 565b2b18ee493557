"""No program comes near what verifiers take, on any kernel."""

from __future__ import annotations

import pytest

from bpf.budgets import BUDGETS
from bpf.harness import Datapath
from fastrelay.agent.programs import ProgramKind, program_info
from fastrelay.fastpath.layout import Stage

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("server_ingress.c", ProgramKind.SCHED_CLS),
        ("client_egress.c", ProgramKind.SCHED_CLS),
        ("device_ingress.c", ProgramKind.XDP),
    ],
)
def test_verified_instructions(datapath: Datapath, source: str, kind: ProgramKind) -> None:
    loaded = datapath.load(source, kind=kind)
    verified = {name: program_info(fd).verified for name, fd in loaded.items()}
    print(verified)
    assert {name: count for name, count in verified.items() if count > BUDGETS[name]} == {}


def test_every_program_has_a_budget() -> None:
    assert set(BUDGETS) == {
        "server_ingress",
        "device_ingress",
        "client_egress",
        *(stage.name.lower() for stage in Stage),
    }
