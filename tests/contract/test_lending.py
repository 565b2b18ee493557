"""Two senders on one connection: the engine and a kernel, over a wire that loses and reorders."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.kernel import Kernel, Leg, lent_wire, seal
from contract.wire import Wire
from fastrelay.quic.aioquic_private import Engine

CLIENTS = pytest.mark.parametrize("client", [Engine, QuicConnection], ids=["engine", "aioquic"])


class Relay:
    """Streams of all kinds towards the client: the kernel's, user space's, and mixed ones."""

    def __init__(self, wire: Wire, kernel: Kernel, seed: int) -> None:
        self.wire, self.kernel, self.engine = wire, kernel, kernel.engine
        self.random = random.Random(seed)
        self.expected: dict[int, bytes] = {}
        self.open: list[Leg] = []
        self.forwarded = 0
        self.ended_early: set[int] = set()

    def begin(self, size: int) -> None:
        data = self.random.randbytes(size)
        leg = self.kernel.begin()
        if leg is None:
            self.own(data)
            return
        leg.data, leg.ended = data, True
        self.expected[leg.stream_id] = data
        self.open.append(leg)

    def own(self, data: bytes) -> None:
        stream_id = self.engine.open_stream(unidirectional=True)
        self.expected[stream_id] = data
        self.engine.write(stream_id, data, True)

    def push(self, *, patience: float = 0.0) -> None:
        """Each open stream goes on; what lacks credit waits, or user space takes it over."""
        for leg in list(self.open):
            if leg.users or leg.fin_sent:
                self.open.remove(leg)
            elif self.kernel.send(leg, self.random.choice([1, 400, 1100, 1150])):
                self.forwarded += 1
            elif self.random.random() >= patience:
                self.kernel.take_over(leg)

    def abandon(self, leg: Leg) -> None:
        """Reset what the kernel began."""
        leg.users = leg.closed = True
        self.engine.adopt(leg.stream_id, leg, leg.highest, continued=True)
        self.engine.reset_stream(leg.stream_id, 66)
        self.ended_early.add(leg.stream_id)

    def stop_one(self) -> None:
        """The client wants no more of a stream that it has heard of."""
        heard = self.wire.heard[self.wire.client]
        ids = [i for i in self.wire.client._streams if i % 4 == 3 and i not in heard.finished]
        if ids:
            stream_id = self.random.choice(sorted(ids))
            self.wire.client.stop_stream(stream_id, 8)
            self.ended_early.add(stream_id)

    def update_keys(self) -> None:
        """By either side, until both have it: the next one may only begin then."""
        side = self.random.choice([self.wire.client, self.wire.server])
        side.request_key_update()
        side.send_ping(0)
        pairs = [each._cryptos[Epoch.ONE_RTT] for each in (self.wire.client, self.wire.server)]
        phase = pairs[0].recv.key_phase

        def done() -> bool:
            self.push(patience=0.9)
            return all(pair.recv.key_phase != phase for pair in pairs)

        self.wire.run(done)
        sides = (self.wire.client, self.wire.server)
        first = [each._packet_number for each in sides]
        for each in sides:
            each.send_ping(0)
        spaces = [each._spaces[Epoch.ONE_RTT] for each in sides]
        self.wire.run(
            lambda: all(
                space.largest_acked_packet >= number
                for space, number in zip(spaces, first, strict=True)
            )
        )

    def finish(self) -> None:
        while self.open:
            self.push(patience=0.9)
            self.wire.step()
        heard = self.wire.heard[self.wire.client]
        self.wire.run(lambda: self.expected.keys() <= heard.finished | heard.resets.keys())
        for stream_id, data in self.expected.items():
            if stream_id in self.ended_early and stream_id not in heard.finished:
                assert data.startswith(bytes(heard.streams.get(stream_id, b"")))
            else:
                assert heard.streams.get(stream_id, b"") == data
        self.clean()

    def clean(self) -> None:
        """Nothing is left on either side, and no number was used twice."""
        self.wire.settle(400)
        assert self.wire.heard[self.wire.client].ended is None
        assert self.wire.heard[self.wire.server].ended is None
        assert self.engine._streams == {}
        assert self.engine.unsent == 0
        assert self.kernel.account.live == 0
        assert self.kernel.account.bytes_in_flight == 0
        assert self.engine._loss.bytes_in_flight == 0
        assert not self.engine._gone_codes
        numbers = self.kernel.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@CLIENTS
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("reordering", [0.0, 0.3])
def test_streams_arrive_whole(client: type[QuicConnection], loss: float, reordering: float) -> None:
    wire, kernel = lent_wire(client, loss=loss, reordering=reordering, seed=2)
    relay = Relay(wire, kernel, 3)
    for number in range(120):
        relay.begin(relay.random.choice([0, 1, 300, 1100, 5000]))
        if number % 5 == 0:
            relay.own(relay.random.randbytes(2000))
        relay.push(patience=0.9)
        if number % 2:
            wire.step()
    relay.finish()
    assert relay.forwarded > 80
    if loss:
        assert kernel.lost
        assert kernel.engine.measurements().lost > 0
    if not loss and not reordering:
        assert not kernel.lost


def test_the_round_trip_is_measured_on_the_kernels_packets() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    before = kernel.engine._loss._rtt_smoothed
    kernel.engine._loss._rtt_initialized = False
    for _ in range(40):
        relay.begin(1000)
        relay.push()
        wire.step()
    assert 0 < kernel.engine.measurements().smoothed_rtt <= 0.015
    assert before > 0
    relay.finish()


def test_the_window_grows_with_the_kernels_packets_and_shrinks_with_their_loss() -> None:
    wire, kernel = lent_wire(seed=5)
    relay = Relay(wire, kernel, 3)
    first = kernel.engine.credit().congestion_window
    for _ in range(60):
        relay.begin(1100)
        relay.push()
        wire.step()
    grown = kernel.engine.credit().congestion_window
    assert grown > first
    wire._loss = 0.3
    for _ in range(30):
        relay.begin(1100)
        relay.push()
        wire.step()
    assert kernel.engine.credit().congestion_window < grown
    wire._loss = 0.0
    relay.finish()


def test_the_kernel_never_sends_beyond_the_window() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    for _ in range(100):
        relay.begin(1100)
    while relay.open:
        relay.push(patience=1.0)
        loss = kernel.engine._loss
        in_flight = loss.bytes_in_flight + kernel._unreported
        assert in_flight <= loss.congestion_window
        wire.step()
    assert kernel.refused.counts["window"] > 0
    relay.finish()


@CLIENTS
def test_small_windows_and_few_streams(client: type[QuicConnection]) -> None:
    wire, kernel = lent_wire(client, loss=0.03, seed=9, max_data=4000, max_stream_data=3000)
    relay = Relay(wire, kernel, 3)
    for number in range(700):
        relay.begin(relay.random.choice([10, 900, 5000]))
        relay.push(patience=0.5)
        if number % 4 == 0:
            wire.step()
    relay.finish()
    assert kernel.refused.counts["data"] > 0
    assert kernel.refused.counts["stream data"] > 0
    assert kernel.refused.counts["stream"] > 0


@CLIENTS
def test_key_updates_by_both_sides(client: type[QuicConnection]) -> None:
    wire, kernel = lent_wire(client, loss=0.05, reordering=0.2, seed=6)
    relay = Relay(wire, kernel, 3)
    updates = 0
    for number in range(200):
        relay.begin(3000)
        relay.push(patience=0.9)
        if number % 20 == 5:
            (wire.client if number % 40 == 5 else wire.server).request_key_update()
            updates += 1
        if number % 7 == 0:
            stream_id = wire.client.get_next_available_stream_id(is_unidirectional=True)
            wire.client.send_stream_data(stream_id, bytes(3000), end_stream=True)
        wire.step()
    relay.finish()
    assert updates == 10
    assert wire.server._cryptos[Epoch.ONE_RTT].recv.key_phase == 0
    assert kernel.suspensions >= 10
    assert kernel.suspensions == kernel.resumptions


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_nothing_but_packets_of_the_kernels_and_all_are_lost(loss: float) -> None:
    wire, kernel = lent_wire(seed=4)
    relay = Relay(wire, kernel, 3)
    wire.settle(20)
    for _ in range(5):
        relay.begin(1000)
    wire._loss = 1.0
    while relay.open:
        relay.push(patience=1.0)
    for _ in range(10):
        wire.step()
    wire._loss = loss
    assert kernel.account.live == 5
    relay.finish()
    assert len(kernel.lost) >= 5


def test_probe_timeouts_back_off() -> None:
    wire, kernel = lent_wire(seed=4)
    relay = Relay(wire, kernel, 3)
    wire.settle(60)
    wire._loss = 1.0
    relay.begin(500)
    relay.push()
    times = []
    sent = wire.packets
    for _ in range(400):
        wire.step()
        if wire.packets > sent:
            sent = wire.packets
            times.append(wire.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    own_probes = [gap for gap in gaps if gap > 0.006]
    assert 3 <= len(own_probes) <= 12
    assert own_probes[-1] > 3 * own_probes[0]
    wire._loss = 0.0
    relay.finish()


def test_an_acknowledgement_of_what_nobody_sent_is_an_error() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    relay.begin(100)
    relay.push()
    beyond = kernel.next_packet_number() + 5
    engine = wire.client
    space = engine._spaces[Epoch.ONE_RTT]
    space.ack_queue.add(beyond)
    space.largest_received_packet, space.largest_received_time = beyond, wire.now
    space.ack_at = wire.now
    wire.run(lambda: wire.heard[wire.client].ended is not None)
    ended = wire.heard[wire.client].ended
    assert ended is not None
    assert ended.error_code == 0x0A
    assert kernel.drained == 1
    assert kernel.suspended == 1  # for ever
    assert kernel.engine.send_state() is None


def test_a_report_that_is_late_is_fetched_when_its_acknowledgement_comes() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    wire.settle(60)
    relay.begin(100)
    kernel.hold_reports = True
    relay.push()
    wire.run(lambda: kernel.drained > 0)
    relay.finish()
    assert kernel.drained == 1


def test_retired_connection_ids_and_new_ones() -> None:
    wire, kernel = lent_wire(loss=0.05, reordering=0.2, seed=12)
    relay = Relay(wire, kernel, 3)
    dcids = set()
    for number in range(150):
        relay.begin(2000)
        relay.push(patience=0.9)
        if number % 25 == 10:
            wire.client.change_connection_id()
        if number % 25 == 20:
            wire.server.change_connection_id()
        wire.step()
        assert kernel.send_state is not None
        assert kernel.receive_state is not None
        dcids.add(kernel.send_state.dcid)
        assert kernel.send_state.dcid == wire.server._peer_cid.cid
        assert set(kernel.receive_state.cids) == {cid.cid for cid in wire.server._host_cids}
    relay.finish()
    assert len(dcids) >= 6


def test_the_peer_moves_to_another_address() -> None:
    from contract import wire as module

    wire, kernel = lent_wire(seed=3)
    relay = Relay(wire, kernel, 3)
    old = module._ADDRESS[True]
    states = set()
    try:
        for number in range(80):
            relay.begin(2000)
            relay.push(patience=0.9)
            if number == 20:
                module._ADDRESS[True] = ("198.51.100.7", 4)
                stream_id = wire.client.get_next_available_stream_id(is_unidirectional=True)
                wire.client.send_stream_data(stream_id, bytes(5000), end_stream=True)
            wire.step()
            if kernel.send_state is not None:
                states.add(kernel.send_state.remote)
                path = wire.server._network_paths[0]
                assert path.is_validated
                assert kernel.send_state.remote == path.addr
            else:
                assert kernel.engine.fast_reason
        relay.finish()
    finally:
        module._ADDRESS[True] = old
    assert states == {("192.0.2.1", 1), ("198.51.100.7", 4)}


def test_stop_sending_ends_a_stream_of_the_kernels() -> None:
    wire, kernel = lent_wire()
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(100_000)
    heard = wire.heard[wire.client]
    while leg.stream_id not in heard.streams:
        kernel.send(leg, 1000)
        wire.step()
    wire.client.stop_stream(leg.stream_id, 9)
    for _ in range(10):
        kernel.send(leg, 1000)
        wire.step()
    assert kernel.stopped == [(leg.stream_id, 9)]
    wire.run(lambda: leg.stream_id in heard.resets)
    assert heard.resets == {leg.stream_id: 9}
    assert not wire.heard[wire.server].stops
    Relay(wire, kernel, 1).clean()


def test_user_space_resets_what_the_kernel_began() -> None:
    wire, kernel = lent_wire(loss=0.1, seed=8)
    legs = []
    for _ in range(20):
        leg = kernel.begin()
        assert leg is not None
        leg.data = bytes(3000)
        kernel.send(leg, 1000)
        legs.append(leg)
        wire.step()
    for leg in legs:
        leg.users = leg.closed = True
        kernel.engine.adopt(leg.stream_id, leg, leg.highest, continued=True)
        kernel.engine.write(leg.stream_id, leg.data[leg.highest :], False)
        if leg.stream_id % 8 == 3:
            wire.step()
        kernel.engine.reset_stream(leg.stream_id, 77)
    heard = wire.heard[wire.client]
    wire.run(lambda: {leg.stream_id for leg in legs} <= heard.resets.keys())
    assert set(heard.resets.values()) == {77}
    Relay(wire, kernel, 1).clean()


def test_a_stream_that_was_ended_by_user_space_is_reset_at_its_true_size() -> None:
    """What the kernel had begun with is lost, the rest has arrived, and nobody wants to repair."""
    wire, kernel = lent_wire()
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(5000)
    assert kernel.send(leg, 1000)
    kernel._outgoing.clear()  # never reaches the wire
    leg.users = leg.closed = True
    kernel.engine.adopt(leg.stream_id, leg, leg.highest, continued=True)
    assert kernel.engine.is_sending(leg.stream_id)
    kernel.engine.write(leg.stream_id, leg.data[leg.highest :], True)
    wire.run(lambda: not kernel.engine.is_sending(leg.stream_id))
    kernel.engine.adopt(leg.stream_id, leg, len(leg.data), continued=True)
    kernel.engine.reset_stream(leg.stream_id, 77)
    heard = wire.heard[wire.client]
    wire.run(lambda: leg.stream_id in heard.resets)
    Relay(wire, kernel, 1).clean()


def test_patches_need_no_take_over_and_leave_nothing_behind() -> None:
    wire, kernel = lent_wire()
    leg = kernel.begin()
    assert leg is not None
    leg.data = random.Random(1).randbytes(10_000)
    for _ in range(10):
        assert kernel.send(leg, 1000)
    kernel._outgoing[2:8] = []  # never reach the wire
    leg.ended = True
    assert kernel.send(leg, 1000)  # the end alone
    heard = wire.heard[wire.client]
    wire.run(lambda: leg.stream_id in heard.finished)
    assert heard.streams[leg.stream_id] == leg.data
    assert len(kernel.lost) == 6
    Relay(wire, kernel, 1).clean()
    with pytest.raises(ValueError, match="not adopted"):
        kernel.engine.send_range(leg.stream_id, 0, 10, False)
    kernel.engine.adopt(leg.stream_id, leg, leg.highest, continued=False)
    kernel.engine.send_range(leg.stream_id, 0, 10, False)
    with pytest.raises(RuntimeError, match="not taken over"):
        kernel.engine.write(leg.stream_id, b"x", False)
    Relay(wire, kernel, 1).clean()


@pytest.mark.parametrize("continued", [False, True])
def test_bytes_that_are_gone_end_the_stream(continued: bool) -> None:
    class Gone(Leg):
        def read(self, start: int, stop: int) -> bytes | None:
            return None

    wire, kernel = lent_wire()
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(3000)
    assert kernel.send(leg, 1000)
    gone = Gone(leg.stream_id, leg.limit)
    if continued:
        leg.users = leg.closed = True
    kernel.engine.adopt(leg.stream_id, gone, leg.highest, continued=continued, gone_code=5)
    kernel.engine.send_range(leg.stream_id, 0, 500, False)
    heard = wire.heard[wire.client]
    wire.run(lambda: leg.stream_id in heard.resets, 100)
    assert heard.resets[leg.stream_id] == 5
    Relay(wire, kernel, 1).clean()


def test_the_path_is_probed_for_larger_packets() -> None:
    wire, kernel = lent_wire()
    wire.run(lambda: kernel.packet_size == 1452, 200)
    assert kernel.engine._loss.bytes_in_flight == 0


def test_probes_that_do_not_get_through_cost_nothing() -> None:
    wire, kernel = lent_wire()
    receive = wire.client.receive_datagram

    def narrow(data: bytes, addr: Any, now: float) -> None:
        if len(data) <= 1300:
            receive(data, addr, now)

    wire.client.receive_datagram = narrow  # type: ignore[method-assign]
    relay = Relay(wire, kernel, 3)
    window = kernel.engine.credit().congestion_window
    for _ in range(200):
        relay.begin(1000)
        relay.push()
        wire.step()
    assert kernel.packet_size == 1280
    assert kernel.engine.credit().congestion_window > window
    assert kernel.engine.measurements().lost == 0
    assert kernel.engine._path_probe is None
    relay.finish()


def test_taken_back_in_the_middle() -> None:
    wire, kernel = lent_wire(loss=0.05, seed=10)
    relay = Relay(wire, kernel, 3)
    for number in range(100):
        relay.begin(2500)
        relay.push(patience=0.9)
        if number % 3 == 0:
            wire.step()
    while relay.open:
        for leg in relay.open:
            if not leg.users and not leg.fin_sent:
                kernel.take_over(leg)
        relay.push()
    kernel.collect()
    kernel.engine.lend(None)
    wire.helper = None
    for _ in range(50):
        relay.own(bytes(3000))
        wire.step()
    heard = wire.heard[wire.client]
    wire.run(lambda: relay.expected.keys() <= heard.finished)
    for stream_id, data in relay.expected.items():
        assert heard.streams[stream_id] == data
    wire.settle(200)
    assert kernel.engine.unsent == 0
    assert heard.ended is None


def test_closing_stops_the_kernel_for_ever() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    relay.begin(3000)
    relay.push()
    wire.server.close(error_code=3)
    assert kernel.suspended == 1
    assert kernel.engine.send_state() is None
    assert kernel.engine.receive_state() is None
    wire.run(lambda: wire.heard[wire.client].ended is not None)
    wire.step(60.0)
    assert kernel.suspended == 1
    assert kernel.ledger.overdue(wire.now) == []


def test_numbers_wrap_in_the_rows_of_the_ledger() -> None:
    wire, kernel = lent_wire(seed=13, loss=0.01)
    relay = Relay(wire, kernel, 3)
    for _ in range(3000):
        relay.begin(20)
        relay.push(patience=0.9)
        wire.step()
    relay.finish()
    assert kernel.numbers[-1] > 3 * 1024
    assert kernel.refused.counts.get("number", 0) == 0


def test_the_keys_of_the_kernel_are_those_of_the_connection() -> None:
    wire, kernel = lent_wire()
    assert kernel.send_state is not None
    datagram = seal(kernel.send_state, kernel.take_packet_number(), b"\x01")
    before = wire.client._spaces[Epoch.ONE_RTT].largest_received_packet
    wire.client.receive_datagram(datagram, ("192.0.2.2", 2), wire.now)
    assert wire.client._spaces[Epoch.ONE_RTT].largest_received_packet == before + 1


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.02, 0.1]),
    reordering=st.sampled_from([0.0, 0.2]),
    windows=st.sampled_from([(1 << 20, 1 << 20), (30_000, 4000), (5000, 5000)]),
    engine=st.booleans(),
)
def test_whatever_happens(
    seed: int, loss: float, reordering: float, windows: tuple[int, int], engine: bool
) -> None:
    """Both senders, losses, updates of keys and ids, resets, stops: streams are whole, no
    packet number is used twice, no acknowledgement is unknown, nothing stays behind."""
    wire, kernel = lent_wire(
        Engine if engine else QuicConnection,
        loss=loss,
        reordering=reordering,
        seed=seed,
        max_data=windows[0],
        max_stream_data=windows[1],
    )
    relay = Relay(wire, kernel, seed)
    rng = relay.random
    for _ in range(rng.randrange(20, 150)):
        action = rng.randrange(20)
        if action < 9:
            relay.begin(rng.choice([0, 5, 600, 1100, 4000, 9000]))
        elif action < 11:
            relay.own(rng.randbytes(rng.choice([10, 3000])))
        elif action == 11:
            relay.update_keys()
        elif action == 12:
            rng.choice([wire.client, wire.server]).change_connection_id()
        elif action == 13 and relay.open:
            leg = relay.open.pop(rng.randrange(len(relay.open)))
            if not leg.users and not leg.fin_sent:
                relay.abandon(leg)
        elif action == 14:
            relay.stop_one()
        relay.push(patience=rng.choice([0.5, 0.95]))
        if rng.random() < 0.7:
            wire.step()
    relay.finish()
    assert kernel.drained == 0


def test_the_delivery_rate_counts_what_both_sides_sent() -> None:
    wire, kernel = lent_wire()
    relay = Relay(wire, kernel, 3)
    before = kernel.engine.measurements().delivered
    own = kernel.engine._recovery.own_bytes_in_flight
    begin = wire.now
    for number in range(400):
        relay.begin(1000)
        if number % 4 == 0:
            relay.own(bytes(1000))
        relay.push()
        wire.step()
    relay.finish()
    measured = kernel.engine.measurements()
    payload = sum(map(len, relay.expected.values()))
    delivered = measured.delivered - before
    assert own == 0
    assert payload < delivered < 1.2 * payload
    assert measured.application_limited
    assert measured.delivery_rate == pytest.approx(delivered / (wire.now - begin), rel=0.5)
    assert measured.bandwidth is not None
    assert measured.loss == 0.0
    assert 0 < measured.min_rtt <= measured.smoothed_rtt


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_everything_that_was_sent_is_delivered_lost_or_under_way(loss: float) -> None:
    """Without a lease: what aioquic settles is counted too."""
    wire = Wire(loss=loss, seed=3)
    wire.handshake()
    server: Any = wire.server
    before = server.measurements().delivered
    stream_id = server.open_stream(unidirectional=True)
    server.write(stream_id, bytes(300_000), True)
    wire.run(lambda: stream_id in wire.heard[wire.client].finished)
    wire.settle(400)
    measured = server.measurements()
    assert measured.delivered - before >= 300_000
    assert measured.bytes_in_flight == 0
    assert (measured.loss > 0) == (measured.lost > 0) == bool(loss)
    assert measured.delivery_rate is not None


def test_a_peer_that_acknowledges_nothing_gets_a_window_and_no_more() -> None:
    wire, kernel = lent_wire()
    wire.settle(100)
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(1 << 20)
    window = kernel.engine.credit().congestion_window
    sent = 0
    while kernel.send(leg, 1000):
        sent += 1
        assert sent <= window // 1000
    kernel.collect()
    assert list(kernel.refused.counts) == ["window"]
    assert window - 2000 < kernel.account.bytes_in_flight <= window
