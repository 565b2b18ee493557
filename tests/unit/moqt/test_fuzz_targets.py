"""The fuzz targets on their own seeds and on random bytes; ``make fuzz`` goes on from there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import codec_targets, session_targets

TARGETS = {**codec_targets.TARGETS, **session_targets.TARGETS}


def test_seeds() -> None:
    for name, data in codec_targets.seeds() + session_targets.seeds():
        TARGETS[name](data)


@pytest.mark.parametrize("name", list(TARGETS))
def test_random_bytes(name: str) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


def test_a_program_reaches_a_conversation() -> None:
    """The programs do something: seeds bring requests, answers and objects about."""
    seen: set[str] = set()
    for name, data in session_targets.seeds():
        if name == "session":
            run = session_targets.Run(session_targets.Tape(data))
            run.go()
            seen |= {type(event).__name__ for event in run.peer.events}
    assert seen >= {"RequestReceived", "SetupReceived", "SubgroupOpened", "SessionClosed"}
