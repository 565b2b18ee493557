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


def millisecond_apart(number, delay):
    return [(1000 * i, "in") for i in range(number)], [
        (1000 * i + delay, "out") for i in range(number)
    ]


@pytest.mark.parametrize("delay", [30, 900])
@pytest.mark.parametrize("lost", [1, 7, 19])
def test_after_a_lost_packet_the_others_have_their_own_delays(delay, lost):
    entered, left = millisecond_apart(20, delay)
    del left[lost]
    delays = capture_of(*entered, *left).delays()
    assert delays == [pytest.approx(delay / 1e6)] * 19


def test_a_packet_of_that_size_that_is_no_copy_is_left_out():
    entered, left = millisecond_apart(20, 30)
    delays = capture_of(*entered, *left, (5500, "out")).delays()
    assert delays == [pytest.approx(30e-6)] * 20


def test_a_relay_that_is_always_late_has_lost_nothing():
    entered, left = millisecond_apart(20, 1500)
    assert capture_of(*entered, *left[:-2]).delays() == [pytest.approx(1500e-6)] * 18
