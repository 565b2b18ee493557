"""The toggle test: whatever comes and goes, everybody gets every byte once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.fastpath.crowd import Crowd, Terms, members
from integration.fastpath.scripted import scripted_relay
from integration.fastpath.toggling import Troubles, spread_over_cpus
from integration.harness import Certificate

SUBSCRIBERS = 20
SWITCHES, AGENTS, KEYS = 50, 5, 10


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cpus", [1, 2], ids=["one-queue", "two-cpus-with-rps"])
async def test_everybody_gets_every_byte_once(
    certificate: Certificate, tmp_path: Path, cpus: int
) -> None:
    with scripted_relay(certificate, tmp_path / "relay") as relay:
        if cpus == 2:
            assert len(os.sched_getaffinity(0)) >= 2, "this test needs two CPUs"
            spread_over_cpus(relay)
        crowd = Crowd(relay, certificate, "toggle")
        troubles = Troubles(crowd, seed=cpus)
        async with crowd.gathered(
            members(SUBSCRIBERS, bad=True),
            streams=Terms(loss=0.05, late_out=0.05),
            datagrams=Terms(late_out=0.05),
        ):
            await troubles.run(switches=SWITCHES, agents=AGENTS, keys=KEYS)
            await crowd.mend()
            await crowd.settle()
            with relay.mostly_in_kernel():
                await crowd.settle()
        assert troubles.done == {
            "switch": SWITCHES,
            "kill": AGENTS,
            "replace": AGENTS,
            "keys": KEYS,
        }
