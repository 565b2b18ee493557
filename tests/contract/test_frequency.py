"""Fewer acknowledgements: asked for, sent, and never so few that the window runs dry."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import Epoch

from contract.kernel import Kernel, Leg, lent_wire, set_window
from contract.wire import Wire
from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.aioquic_private.frequency import ACK_FREQUENCY, IMMEDIATE_ACK, MIN_ACK_DELAY

PACKET = 1000


def wide_open(packets: int) -> tuple[Wire, Kernel, Leg]:
    """A connection with a window of so many packets, and the client knows of it."""
    wire, kernel = lent_wire()
    kernel.takes = lambda data, now: False  # type: ignore[method-assign]
    wire.settle(100)
    leg = kernel.begin()
    assert leg is not None
    leg.data = bytes(1 << 20)
    resize(wire, kernel, packets)
    return wire, kernel, leg


def resize(wire: Wire, kernel: Kernel, packets: int) -> None:
    set_window(kernel, packets * 1200)
    wire.settle(20)


def acknowledgements(wire: Wire, kernel: Kernel, leg: Leg, packets: int) -> int:
    """Datagrams of the client's for so many packets, one after the other, close together."""
    client: Any = wire.client
    heard = 0
    receive = kernel.engine.receive_datagram

    def count(*arguments: Any) -> None:
        nonlocal heard
        heard += 1
        receive(*arguments)

    kernel.engine.receive_datagram = count  # type: ignore[method-assign]
    for _ in range(packets):
        assert kernel.send(leg, PACKET), kernel.refused
        wire.step(0.0005)
    kernel.engine.receive_datagram = receive  # type: ignore[method-assign]
    wire.run(lambda: kernel.account.live == 0)
    assert client._close_event is None
    return heard


@pytest.mark.parametrize(("window", "every"), [(10, 2), (20, 4), (100, 10)])
def test_a_part_of_the_window_may_wait(window: int, every: int) -> None:
    wire, kernel, leg = wide_open(window)
    assert wire.client._ack_every == every  # type: ignore[attr-defined]
    heard = acknowledgements(wire, kernel, leg, 40)
    assert abs(heard - 40 / every) <= 2


def test_a_window_that_shrinks_is_told_at_once() -> None:
    wire, kernel, _ = wide_open(100)
    for window, every in ((20, 4), (5, 2), (100, 10)):
        resize(wire, kernel, window)
        assert wire.client._ack_every == every  # type: ignore[attr-defined]


def test_who_has_the_connection_back_asks_for_all() -> None:
    wire, kernel, _ = wide_open(100)
    kernel.engine.lend(None)
    wire.helper = None
    wire.settle(20)
    assert wire.client._ack_every == 2  # type: ignore[attr-defined]


def test_what_waits_is_told_in_time() -> None:
    """A single packet, as ever: max_ack_delay, less what our own timers may be late."""
    wire, kernel, leg = wide_open(100)
    assert kernel.send(leg, PACKET)
    kernel.collect()
    begin = wire.now
    while kernel.account.live:
        wire.step(0.001)
    assert 0.02 <= wire.now - begin <= 0.025
    assert kernel.engine._recovery.packets_lost == 0


def test_a_request_that_is_lost_is_repeated() -> None:
    wire, kernel, _ = wide_open(100)
    engine = kernel.engine
    asked = engine._frequencies_sent
    engine._on_frequency_delivery(QuicDeliveryState.LOST, asked - 2)
    wire.settle()
    assert engine._frequencies_sent == asked
    engine._on_frequency_delivery(QuicDeliveryState.LOST, asked - 1)
    wire.settle()
    assert engine._frequencies_sent == asked + 1


def test_no_window_no_request() -> None:
    wire, kernel, leg = wide_open(100)
    asked = kernel.engine._frequencies_sent
    for _ in range(5):
        assert kernel.send(leg, PACKET)
    kernel.collect()
    set_window(kernel, 5000)
    assert kernel.engine.datagrams_to_send(wire.now) == []
    assert kernel.engine._frequencies_sent == asked
    wire.settle(40)
    assert kernel.engine._frequencies_sent == asked + 1


def deliver(engine: Engine, *fields: int, now: float = 0.0) -> None:
    """A frame, as if it had come."""
    kind, *rest = fields
    handler, _ = engine._frame_handlers[kind]
    path = engine._network_paths[0]
    context = QuicReceiveContext(Epoch.ONE_RTT, engine.host_cid, path, None, now, engine._version)
    handler(context, kind, Buffer(data=b"".join(encode_quic(field) for field in rest)))


@pytest.fixture(scope="module")
def connected() -> Wire:
    wire = Wire()
    wire.handshake()
    return wire


def test_an_older_request_changes_nothing(connected: Wire) -> None:
    client: Any = connected.client
    deliver(client, ACK_FREQUENCY, 7, 4, 25_000, 0)
    deliver(client, ACK_FREQUENCY, 6, 9, 50_000, 1)
    deliver(client, ACK_FREQUENCY, 7, 9, 50_000, 1)
    assert (client._ack_every, client._holes_at_once) == (5, False)
    deliver(client, ACK_FREQUENCY, 8, 0, 1000, 3)
    assert (client._ack_every, client._holes_at_once) == (1, True)
    assert client._held_back == pytest.approx(0.0005)


def test_a_delay_that_we_cannot_keep(connected: Wire) -> None:
    client: Any = connected.client
    with pytest.raises(QuicConnectionError) as caught:
        deliver(client, ACK_FREQUENCY, 99, 1, 999, 1)
    assert caught.value.error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_an_acknowledgement_at_once(connected: Wire) -> None:
    client: Any = connected.client
    space = client._spaces[Epoch.ONE_RTT]
    for waiting in (None, 70.0, 40.0):
        space.ack_at = waiting
        deliver(client, IMMEDIATE_ACK, now=50.0)
        assert space.ack_at == min(50.0, waiting or 50.0)


@pytest.mark.parametrize(("smallest", "largest"), [(25_001, None), (30_000, 25)])
def test_a_peer_that_contradicts_itself(smallest: int, largest: int | None) -> None:
    client: Any = Wire().client
    data = b"\x00\x00"  # original_destination_connection_id
    for identifier, value in ((MIN_ACK_DELAY, smallest), (0x0B, largest)):
        if value is not None:
            content = encode_quic(value)
            data += encode_quic(identifier) + encode_quic(len(content)) + content
    client._original_destination_connection_id = client._peer_cid.cid = b""
    data += b"\x0f\x00"  # initial_source_connection_id
    client._remote_initial_source_connection_id = b""
    with pytest.raises(QuicConnectionError) as caught:
        client._parse_transport_parameters(data)
    assert caught.value.error_code == QuicErrorCode.TRANSPORT_PARAMETER_ERROR
    assert "min_ack_delay" in caught.value.reason_phrase
