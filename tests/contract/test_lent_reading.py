"""What the kernel reads of the peer's packets, and what the engine says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicLogger
from aioquic.tls import CipherSuite, Epoch

from contract.kernel import Kernel, lent_wire, opens, seal
from contract.wire import Wire
from fastrelay.quic.aioquic_private import Engine, datagram_place
from fastrelay.quic.aioquic_private.keys import UNSEEN

CLIENTS = pytest.mark.parametrize("client", [Engine, QuicConnection], ids=["engine", "aioquic"])


def spy(wire: Wire, look: Callable[[bytes], None]) -> None:
    """Look at each datagram before the server does."""
    receive = wire.server.receive_datagram

    def looked_at(data: bytes, addr: Any, now: float) -> None:
        look(data)
        receive(data, addr, now)

    wire.server.receive_datagram = looked_at  # type: ignore[method-assign]


def upload(wire: Wire, size: int) -> int:
    stream_id = wire.client.get_next_available_stream_id(is_unidirectional=True)
    wire.client.send_stream_data(stream_id, bytes(size), end_stream=True)
    return stream_id


@CLIENTS
@pytest.mark.parametrize("who", ["client", "server"])
def test_every_packet_can_be_read_across_key_updates(
    client: type[QuicConnection], who: str
) -> None:
    wire, kernel = lent_wire(client, reordering=0.3, seed=4)
    read = 0

    def look(data: bytes) -> None:
        nonlocal read
        assert kernel.receive_state is not None
        payload = opens(kernel.receive_state, data)
        assert payload is not None
        read += 1

    spy(wire, look)
    ids, starts = set(), set()
    for number in range(120):
        if number % 30 == 10:
            getattr(wire, who).request_key_update()
        ids.add(upload(wire, 2500))
        wire.step()
        assert kernel.receive_state is not None
        starts.add(kernel.receive_state.phase_start)
    wire.run(lambda: ids <= wire.heard[wire.server].finished)
    assert read > 240
    assert len(starts - {0, UNSEEN}) == 4
    assert (UNSEEN in starts) == (who == "server")
    assert kernel.receive_state is not None
    assert kernel.receive_state.previous is not None


def test_packets_of_before_an_update_of_ours_are_not_lost() -> None:
    """aioquic forgets the old keys at once; then a whole flight would have to come again."""
    wire, kernel = lent_wire()
    ids = {upload(wire, 1000) for _ in range(5)}
    flight = [data for data, _ in wire.client.datagrams_to_send(wire.now)]
    wire.server.request_key_update()
    kernel.engine.send_ping(1)
    wire.step()
    for data in flight:
        wire.server.receive_datagram(data, ("192.0.2.1", 1), wire.now)
    wire._listen(wire.server)
    assert ids <= wire.heard[wire.server].finished
    wire.settle(40)
    loss = wire.client._loss
    assert isinstance(wire.client, Engine)
    assert wire.client.measurements().lost == 0
    assert loss.bytes_in_flight == 0


def test_streams_of_the_peers_that_came() -> None:
    wire, kernel = lent_wire()
    assert kernel.receive_state is not None
    before = kernel.receive_state.stream_next
    stream_id = upload(wire, 10)
    wire.run(lambda: stream_id in wire.heard[wire.server].finished)
    state = kernel.engine.receive_state()
    assert state is not None
    assert state.stream_next == before + 1
    assert state.largest == wire.server._spaces[Epoch.ONE_RTT].largest_received_packet


@CLIENTS
def test_where_datagrams_came(client: type[QuicConnection]) -> None:
    wire, _ = lent_wire(client)
    places: list[tuple[int, int] | None] = []

    def take() -> None:
        for event in wire.server._events:
            if isinstance(event, events.DatagramFrameReceived):
                places.append(datagram_place(event))

    first = wire.client._packet_number
    for size in (10, 20, 1100, 30):
        wire.client.send_datagram_frame(bytes(size))
    flight = [data for data, _ in wire.client.datagrams_to_send(wire.now)]
    for data in flight:
        wire.server.receive_datagram(data, ("192.0.2.1", 1), wire.now)
    take()
    numbers = [place[0] for place in places if place is not None]
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(range(first, first + len(flight)))
    for number in set(numbers):
        indices = [place[1] for place in places if place is not None and place[0] == number]
        assert indices == list(range(len(indices)))
    wire.server._events.clear()
    # The packet that starts an update of the keys takes aioquic's own way.
    wire.client.request_key_update()
    places.clear()
    number = wire.client._packet_number
    wire.client.send_datagram_frame(b"one")
    wire.client.send_datagram_frame(b"two")
    for data, _ in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, ("192.0.2.1", 1), wire.now)
    take()
    assert places == [(number, 0), (number, 1)]


def test_without_a_lease_nobody_knows_where_datagrams_came() -> None:
    wire = Wire()
    wire.handshake()
    wire.client.send_datagram_frame(b"x")
    for data, _ in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, ("192.0.2.1", 1), wire.now)
    event = next(e for e in wire.server._events if isinstance(e, events.DatagramFrameReceived))
    assert datagram_place(event) is None


@pytest.mark.parametrize("suite", [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384])
def test_only_chacha20_can_be_lent(suite: CipherSuite) -> None:
    wire = Wire(cipher_suites=[suite])
    engine = wire.server
    assert isinstance(engine, Engine)
    assert engine.fast_reason == "the handshake is not confirmed"
    assert engine.send_state() is None
    wire.handshake()
    assert "ChaCha20" in engine.fast_reason
    assert engine.send_state() is None
    assert engine.receive_state() is None
    with pytest.raises(AssertionError):
        Kernel(wire)


def test_an_acknowledgement_leaves_nothing_to_do() -> None:
    wire, kernel = lent_wire()
    wire.settle(100)
    leg = kernel.begin()
    assert leg is not None
    leg.data, leg.ended = bytes(500), True
    unmoved: list[bool] = []
    spy(wire, lambda _: unmoved.append(kernel.engine.is_unmoved))
    kernel.send(leg, 1000)
    wire.run(lambda: kernel.account.live == 0)
    assert kernel.engine.is_unmoved
    timer = kernel.engine.get_timer()
    assert timer is not None
    assert timer > wire.now + 20
    upload(wire, 10)
    wire.step()
    assert not kernel.engine.is_unmoved


def test_own_packets_that_the_kernels_overtake_are_not_lost() -> None:
    wire, kernel = lent_wire()
    wire.settle(100)
    own = kernel.engine.open_stream(unidirectional=True)
    kernel.engine.write(own, bytes(500), True)
    late = [data for data, _ in kernel.engine.datagrams_to_send(wire.now)]
    for _ in range(12):
        leg = kernel.begin()
        assert leg is not None
        leg.data, leg.ended = bytes(10), True
        assert kernel.send(leg, 1000)
    for data in kernel.flight([], wire.now):
        wire.client.receive_datagram(data, ("192.0.2.2", 2), wire.now)
    kernel.collect()
    for data, _ in wire.client.datagrams_to_send(wire.now):
        wire.server.receive_datagram(data, ("192.0.2.1", 1), wire.now + 0.001)
    assert kernel.account.live == 0
    for data in late:
        wire.client.receive_datagram(data, ("192.0.2.2", 2), wire.now)
    wire.settle(20)
    assert own in wire.heard[wire.client].finished
    assert kernel.engine.measurements().lost == 0


def test_a_client_can_be_lent_too() -> None:
    """A relay's connection to its upstream relay."""
    wire = Wire(cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256])
    wire.handshake()
    assert isinstance(wire.client, Engine)
    wire.client, wire.server = wire.server, wire.client
    kernel = Kernel(wire)
    assert kernel.send_state is not None
    assert kernel.send_state.stream_bits == 2
    packet = seal(kernel.send_state, kernel.take_packet_number(), b"\x01")
    wire.client.receive_datagram(packet, ("192.0.2.1", 1), wire.now)
    assert wire.client._spaces[Epoch.ONE_RTT].largest_received_packet == kernel.numbers[-1]


def test_what_the_peer_takes_at_most_is_announced_and_kept() -> None:
    wire, kernel = lent_wire(client_arguments={"max_udp_payload_size": 1300})
    assert b"\x03\x02\x45\x14" in wire.client._serialize_transport_parameters()
    wire.settle(200)
    assert kernel.packet_size == 1280


def test_nothing_is_announced_without_the_fast_path() -> None:
    wire, kernel = lent_wire()
    assert b"\x03\x02\x45\x14" not in wire.client._serialize_transport_parameters()
    wire.settle(200)
    assert kernel.packet_size == 1452


def test_with_qlog_aioquic_writes_all_packets_with_numbers_of_the_lease() -> None:
    logger = QuicLogger()
    wire, kernel = lent_wire(loss=0.05, seed=3, quic_logger=logger)
    ids = []
    for number in range(60):
        leg = kernel.begin()
        assert leg is not None
        leg.data, leg.ended = bytes([number]) * 1500, True
        ids.append(leg.stream_id)
        kernel.send(leg, 1000)
        if not kernel.send(leg, 1000):
            kernel.take_over(leg)
        own = kernel.engine.open_stream(unidirectional=True)
        kernel.engine.write(own, bytes(2000), True)
        ids.append(own)
        wire.step()
    heard = wire.heard[wire.client]
    wire.run(lambda: set(ids) <= heard.finished)
    wire.settle(200)
    assert heard.ended is None
    assert kernel.engine.unsent == 0
    assert kernel.account.live == 0
    trace = next(
        trace for trace in logger.to_dict()["traces"] if trace["vantage_point"]["type"] == "server"
    )
    numbers = [
        event["data"]["header"]["packet_number"]
        for event in trace["events"]
        if event["name"] == "transport:packet_sent"
        and event["data"]["header"]["packet_type"] == "1RTT"
    ]
    lent = [number for number in numbers if number >= kernel.numbers[0]]
    assert len(lent) > 60
    assert len(set(lent)) == len(lent)
    assert set(lent) <= set(kernel.numbers)
