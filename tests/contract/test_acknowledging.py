"""Acknowledgements that are taken in passing: read as aioquic reads them, and nothing forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.packet import pull_ack_frame, push_ack_frame
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import Epoch
from hypothesis import example, given
from hypothesis import strategies as st

from contract.kernel import Kernel, Leg, lent_wire, set_window
from contract.wire import Wire
from fastrelay.quic.aioquic_private.acknowledging import _FEW_RANGES, _read_ack

VARINTS = st.one_of(st.integers(0, (1 << limit) - 1) for limit in (6, 14, 30, 62))
"""Of each size as often."""
LENGTHS = (1, 2, 64, 65, 200, 16_384, 16_385, 1 << 30, (1 << 30) + 1)
"""Packets of a range: what the frame says is one less, in one to eight bytes."""


def frame(ranges: RangeSet, delay: int) -> bytes:
    buf: Any = Buffer(capacity=4096)
    buf.push_uint_var(2)
    push_ack_frame(buf, ranges, delay, capacity=4000)
    data: bytes = buf.data
    return data


def read_by_aioquic(payload: bytes) -> tuple[list[tuple[int, int]], int] | None:
    buf: Any = Buffer(data=payload)
    try:
        buf.pull_uint_var()
        ranges, delay = pull_ack_frame(buf)
    except (BufferReadError, ValueError):
        return None
    found = [(each.start, each.stop) for each in ranges][::-1]
    return (found, delay) if buf.eof() else None


@given(
    largest=VARINTS,
    lengths=st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=_FEW_RANGES + 1),
    holes=st.lists(st.integers(1, 200), min_size=_FEW_RANGES + 1, max_size=_FEW_RANGES + 1),
    delay=VARINTS,
)
def test_frames_that_are_one(
    largest: int, lengths: list[int], holes: list[int], delay: int
) -> None:
    ranges, stop = RangeSet(), largest + 1
    for length, hole in zip(lengths, holes, strict=False):
        if stop < length:
            break
        ranges.add(stop - length, stop)
        stop -= length + hole
    if not len(ranges):
        ranges.add(largest, largest + 1)
    found = _read_ack(frame(ranges, delay))
    assert found is not None
    assert (list(found[0]), found[1]) == ([(r.start, r.stop) for r in ranges][::-1], delay)


@given(st.binary(max_size=40))
@example(b"")
@example(b"\x05\x00\x00\x06")
@example(b"\x05\x00\x00\x05")
@example(b"\x05\x00\x00\x05\x00")
@example(b"\x40\x05\x40\x05\x00\x00")
@example(b"\x05\x00\x00\x80")
@example(b"\x05\x00\x00\xc0")
def test_any_bytes(content: bytes) -> None:
    payload = b"\x02" + content
    found, expected = _read_ack(payload), read_by_aioquic(payload)
    if found is not None:
        assert expected is not None
        assert (list(found[0]), found[1]) == expected
    elif expected is not None:
        assert len(expected[0]) > _FEW_RANGES


def send(wire: Wire, kernel: Kernel, leg: Leg, packets: int) -> None:
    """So many packets of the kernel's, all acknowledged."""
    for _ in range(packets):
        assert kernel.send(leg, 1000), kernel.refused
    wire.step()
    wire.run(lambda: kernel.account.live == 0)


def begin(wire: Wire, kernel: Kernel) -> Leg:
    wire.settle(100)
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(1 << 20)
    return leg


def test_packets_that_came_are_remembered() -> None:
    """A replay of any of them is one."""
    wire, kernel = lent_wire()
    leg = begin(wire, kernel)
    space = kernel.engine._spaces[Epoch.ONE_RTT]
    first = space.largest_received_packet
    for _ in range(150):
        send(wire, kernel, leg, 2)
    last = space.largest_received_packet
    assert last > first + 100
    assert all(number in space.received_packets for number in range(first, last + 1))
    assert len(space.received_packets._received) < 4 * space.received_packets._size


@pytest.mark.parametrize(("packets", "asked"), [(10, False), (70, True)])
def test_only_a_full_path_tells_of_queues(packets: int, asked: bool) -> None:
    """Slow start does not end because a path that is hardly used takes longer at times."""
    wire, kernel = lent_wire()
    leg = begin(wire, kernel)
    controller: Any = kernel.engine._recovery._cc
    assert controller.ssthresh is None
    before = 100 * 1200
    set_window(kernel, before)
    told: list[bool] = []

    def round_trip(rtt: float, now: float, *, used: bool) -> None:
        told.append(used)

    controller._rule.round_trip = round_trip
    send(wire, kernel, leg, packets)
    assert any(told) is asked
    assert (controller.congestion_window > before) is asked


def take_all(kernel: Kernel) -> None:
    """Whatever may be taken is, and is told when the engine asks."""
    kernel._random.random = lambda: 1.0  # type: ignore[method-assign]


def test_what_was_taken_elsewhere_is_as_good_as_what_was_read_here() -> None:
    found = []
    for taking in (False, True):
        wire, kernel = lent_wire()
        leg = begin(wire, kernel)
        take_all(kernel)
        if not taking:
            kernel.takes = lambda data, now: False  # type: ignore[method-assign]
        engine, space = kernel.engine, kernel.engine._spaces[Epoch.ONE_RTT]
        before = engine.measurements()  # signatures differ in length
        for _ in range(100):
            for _ in range(3):
                assert kernel.send(leg, 1000)
            wire.step()
            kernel.catch_up()
        assert (kernel.acknowledgements > 20) == taking
        measured = engine.measurements()
        assert measured.smoothed_rtt == pytest.approx(measured.min_rtt, rel=0.1)
        found.append(
            (
                measured.delivered - before.delivered,
                measured.bytes_in_flight,
                kernel.account.live,
                kernel.account.bytes_gone,
                space.largest_acked_packet,
                space.largest_received_packet,
                space.largest_received_time,
                space.expected_packet_number,
                [(each.start, each.stop) for each in space.ack_queue],
                engine._close_at,
            )
        )
    assert found[0] == found[1]


def test_a_peer_of_whom_only_acknowledgements_come_is_alive() -> None:
    wire, kernel = lent_wire(idle_timeout=3.0)
    leg = begin(wire, kernel)
    take_all(kernel)
    for _ in range(100):
        assert kernel.send(leg, 100)
        for _ in range(10):
            wire.step(0.02)
    assert kernel.acknowledgements > 50
    assert not wire.heard[wire.server].ended


def test_a_packet_that_was_taken_is_not_read_again() -> None:
    wire, kernel = lent_wire()
    leg = begin(wire, kernel)
    take_all(kernel)
    taken: list[bytes] = []
    takes = kernel.takes

    def note(data: bytes, now: float) -> bool:
        if found := takes(data, now):
            taken.append(data)
        return found

    kernel.takes = note  # type: ignore[method-assign]
    send(wire, kernel, leg, 2)
    for _ in range(20):
        assert kernel.send(leg, 1000)
        wire.step(0.03)
    assert taken
    space = kernel.engine._spaces[Epoch.ONE_RTT]
    heard = kernel.engine._packet_received
    numbers: list[int] = []

    def receive(first: int, number: int, plain: bytes, now: float) -> None:
        assert number in space.received_packets
        numbers.append(number)
        heard(first, number, plain, now)

    kernel.engine._packet_received = receive  # type: ignore[method-assign]
    ranges = [(each.start, each.stop) for each in space.ack_queue]
    for data in taken:
        kernel.engine.receive_datagram(data, kernel.engine.get_peer_address(), wire.now)
    assert len(numbers) == len(taken)
    kernel.catch_up()
    assert ranges[0][0] == space.ack_queue[0].start


def test_an_engine_with_something_in_flight_reads_itself() -> None:
    wire, kernel = lent_wire()
    leg = begin(wire, kernel)
    send(wire, kernel, leg, 2)
    wire.settle(50)
    assert kernel.lets
    kernel.engine.send_ping(1)
    kernel.engine.datagrams_to_send(wire.now)
    assert not kernel.lets


def test_an_engine_that_is_not_lent_any_more_lets_nothing_be_taken() -> None:
    wire, kernel = lent_wire()
    leg = begin(wire, kernel)
    send(wire, kernel, leg, 2)
    wire.settle(50)
    assert kernel.lets
    kernel.lets = False
    kernel.engine.lend(None)
    wire.helper = None
    wire.settle(20)
    assert not kernel.lets
