import struct

import pytest
from bench.capture import Capture, Residence, size_filter


def capture_of(*packets):
    """A capture that has seen packets: microseconds, and "in" or "out"."""
    capture = Capture.__new__(Capture)
    capture._packets = [(at * 1000, way == "in") for at, way in packets]
    return capture


def test_first_and_last_copy_are_told_apart():
    seen = capture_of((100, "in"), (150, "out"), (180, "out"), (20_100, "in"))
    found = seen.evaluate(subscribers=2)
    assert found.first == [pytest.approx(50e-6)]
    assert found.last == [pytest.approx(80e-6)]
    assert found.odd == 0


def test_order_of_capture_does_not_matter():
    seen = capture_of((20_100, "in"), (150, "out"), (100, "in"))
    assert seen.evaluate(subscribers=1).first == [pytest.approx(50e-6)]


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_another_number_of_copies_is_counted_and_left_out(copies):
    outs = [(150 + i, "out") for i in range(copies)]
    seen = capture_of((100, "in"), *outs, (20_100, "in"))
    assert seen.evaluate(subscribers=2) == Residence([], [], 1)


def test_nothing_seen_is_nothing_found():
    assert capture_of().evaluate(subscribers=1) == Residence()


def test_the_filter_is_five_instructions():
    assert len(size_filter(1130, 1240)) == 5 * struct.calcsize("=HBBI")


def test_copies_that_leave_after_the_next_object_came_are_matched_by_order():
    seen = capture_of((100, "in"), (1100, "in"), (1300, "out"), (2100, "in"), (2400, "out"))
    assert seen.delays() == [pytest.approx(1200e-6), pytest.approx(1300e-6)]


def test_a_copy_of_what_came_before_the_capture_is_left_out():
    seen = capture_of((50, "out"), (100, "in"), (150, "out"))
    assert seen.delays() == [pytest.approx(50e-6)]
