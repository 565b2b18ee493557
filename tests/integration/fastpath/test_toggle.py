"""The toggle test: whatever comes and goes, everybody gets every byte once; also with copies on
two CPUs at the same time.

For longer: ``python -m integration.fastpath.soak``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.fastpath.crowd import Crowd, Terms, members
from integration.fastpath.scripted import scripted_relay
from integration.fastpath.toggling import Troubles, spread_over_cpus
from integration.harness import Certificate

SUBSCRIBERS = 20
SWITCHES, AGENTS, KEYS = 50, 5, 10


@pytest.mark.timeout(600)
@pytest.mark.parametrize("spread", [False, True], ids=["one CPU", "two CPUs"])
async def test_everybody_gets_every_byte_once(
    certificate: Certificate, tmp_path: Path, spread: bool
) -> None:
    with scripted_relay(certificate, tmp_path / "relay") as relay:
        if spread:
            spread_over_cpus(relay)
        crowd = Crowd(relay, certificate, "toggle")
        troubles = Troubles(crowd, seed=1 + spread)
        async with crowd.gathered(
            members(SUBSCRIBERS, bad=True),
            streams=Terms(loss=0.05, late_out=0.05),
            datagrams=Terms(late_out=0.05),
        ):
            await troubles.run(switches=SWITCHES, agents=AGENTS, keys=KEYS)
            await crowd.mend()
            await crowd.settle()
            await relay.mostly_in_kernel(crowd.settle)
        assert troubles.done == {
            "switch": SWITCHES,
            "kill": AGENTS,
            "replace": AGENTS,
            "keys": KEYS,
        }
