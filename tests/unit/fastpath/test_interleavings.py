"""Whatever the order of steps, each byte is sent once; nothing is used again too early."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit.fastpath.stand_ins import Clock
from unit.fastpath.world import World

STEPS = (
    ("write", 20),
    ("send_packet", 15),
    ("start_b", 30),
    ("step_programs", 90),
    ("read", 10),
    ("drain", 5),
    ("pass_time", 6),
    ("join", 3),
    ("leave", 2),
    ("close_link", 1),
    ("suspend", 3),
    ("squeeze", 3),
    ("meddle", 4),
    ("lose", 2),
)
NAMES = [name for name, weight in STEPS for _ in range(weight)]


@given(seed=st.integers(0, 1 << 32), steps=st.integers(10, 1200))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_byte_is_sent_once(seed: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = World(seed, Clock(monkeypatch))
        for _ in range(steps):
            getattr(world, world.random.choice(NAMES))()
        world.settle()
        world.check()
        world.check_credit()
        world.check_nothing_left()
