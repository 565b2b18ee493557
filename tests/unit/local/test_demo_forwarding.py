"""The demo's rule about who forwarded."""

import pytest

from fastrelay.local.demo.conductor import DemoOptions
from fastrelay.local.demo.samples import Forwarded, Sample
from fastrelay.local.demo.verdict import forwarded, judge_forwarding
from fastrelay.local.shaping import Shape


def sample(elapsed, counted):
    return Sample(elapsed, {}, None, None, counted)


def test_the_first_second_of_media_does_not_count():
    history = [
        sample(0.5, Forwarded(0, 1)),
        sample(3.5, Forwarded(0, 500)),
        sample(4.5, Forwarded(10, 600)),
        sample(5.0, None),
        sample(5.5, Forwarded(110, 605)),
    ]
    assert forwarded(history) == Forwarded(100, 5)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [sample(2.0, None)],
        [sample(2.0, Forwarded(0, 1)), sample(4.0, Forwarded(0, 2))],
        [sample(2.0, Forwarded(0, 500)), sample(2.5, Forwarded(0, 600))],
    ],
)
def test_nothing_known_is_nothing_counted(history):
    assert forwarded(history) is None


@pytest.mark.parametrize(
    ("counted", "shape", "faults"),
    [
        (Forwarded(75, 25), Shape(), 0),
        (Forwarded(749, 251), Shape(), 1),
        (Forwarded(10, 90), Shape(loss=0.02), 0),
        (Forwarded(0, 0), Shape(), 1),
        (None, Shape(), 1),
    ],
)
def test_less_than_its_share_is_a_fault(counted, shape, faults):
    assert len(judge_forwarding(counted, DemoOptions(shape=shape))) == faults
