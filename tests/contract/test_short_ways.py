"""A stream that is one frame, and an answer that is one acknowledgement: less is done, not else."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from contract.kernel import lent_wire
from contract.wire import Wire
from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private import Engine

LIMIT = 5000
FIRST = {True: 3, False: 2}
"""The peer's first unidirectional stream, by "is the engine the client's"."""


class Reader:
    """One end of a connection, fed with frames by hand."""

    def __init__(self, *, is_client: bool = False) -> None:
        self.wire = Wire(max_stream_data=LIMIT, max_data=4 * LIMIT)
        self.wire.handshake()
        engine = self.wire.client if is_client else self.wire.server
        assert isinstance(engine, Engine)
        self.engine = engine
        self.first = FIRST[is_client]

    def stream(self, stream_id: int, data: bytes, offset: int = 0) -> None:
        """A frame with the stream's end."""
        fields = b"".join(encode_quic(each) for each in (0x0F, stream_id, offset, len(data)))
        path = self.engine._network_paths[0]
        self.engine._read_frames(fields + data, path, self.wire.now)
        self.wire._listen(self.engine)


@pytest.mark.parametrize("is_client", [False, True])
def test_of_a_whole_stream_nothing_is_made(
    is_client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(is_client=is_client)
    engine, heard = reader.engine, reader.wire.heard[reader.engine]
    limit, data = engine._local_max_streams_uni, engine._local_max_data
    at_first, used = limit.value, data.used
    monkeypatch.setattr(engine, "_get_or_create_stream", None)
    for number in range(3):
        reader.stream(reader.first + 4 * number, b"%d" % number * number)
    assert heard.streams == {reader.first: b"", reader.first + 4: b"1", reader.first + 8: b"22"}
    assert heard.finished == heard.streams.keys()
    assert (limit.used, limit.value, data.used) == (3, at_first + 3, used + 3)
    assert not engine._streams


def test_what_comes_again_is_nothing_new() -> None:
    reader = Reader()
    reader.stream(2, b"abc")
    used = reader.engine._local_max_data.used
    reader.stream(2, b"abc")
    reader.stream(2, b"c", offset=2)
    assert reader.wire.heard[reader.engine].streams == {2: b"abc"}
    assert reader.engine._local_max_data.used == used
    assert reader.engine._local_max_streams_uni.used == 1


def test_an_earlier_stream_is_waited_for() -> None:
    """Whoever opens a stream opens all before it (RFC 9000 section 2.1)."""
    reader = Reader()
    reader.stream(6, b"second")
    assert reader.engine._streams.keys() == {2}
    reader.stream(2, b"first")
    reader.stream(10, b"third")
    assert reader.wire.heard[reader.engine].streams == {2: b"first", 6: b"second", 10: b"third"}
    assert not reader.engine._streams


@pytest.mark.parametrize(
    ("stream_id", "size", "code"),
    [
        (2, LIMIT, None),
        (2, LIMIT + 1, QuicErrorCode.FLOW_CONTROL_ERROR),
        (3, 1, QuicErrorCode.STREAM_STATE_ERROR),
        (2 + 4 * 256, 1, QuicErrorCode.STREAM_LIMIT_ERROR),
    ],
)
def test_limits_of_a_stream(stream_id: int, size: int, code: int | None) -> None:
    reader = Reader()
    if code is None:
        reader.stream(stream_id, bytes(size))
        return
    with pytest.raises(QuicConnectionError) as raised:
        reader.stream(stream_id, bytes(size))
    assert raised.value.error_code == code


def test_the_limit_of_all_streams() -> None:
    reader = Reader()
    data = reader.engine._local_max_data
    number = 0
    while data.used + LIMIT <= data.value:
        reader.stream(2 + 4 * number, bytes(LIMIT))
        number += 1
    reader.stream(2 + 4 * number, bytes(data.value - data.used))
    with pytest.raises(QuicConnectionError) as raised:
        reader.stream(6 + 4 * number, b"!")
    assert raised.value.error_code == QuicErrorCode.FLOW_CONTROL_ERROR


def test_the_limit_of_streams() -> None:
    reader = Reader()
    limit = reader.engine._local_max_streams_uni
    limit.used = limit.value
    with pytest.raises(QuicConnectionError) as raised:
        reader.stream(2 + 4 * limit.used, b"!")
    assert raised.value.error_code == QuicErrorCode.STREAM_LIMIT_ERROR


def objects(wire: Wire, sender: QuicConnection, count: int) -> None:
    for _ in range(count):
        stream_id = sender.get_next_available_stream_id(is_unidirectional=True)
        sender.send_stream_data(stream_id, bytes(1100), end_stream=True)
        wire.step(0.002)


@pytest.mark.parametrize("publisher", [Engine, QuicConnection])
def test_who_only_receives_writes_nothing_but_acknowledgements(
    publisher: type[QuicConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(client=publisher)
    wire.handshake()
    wire.settle()
    server: Any = wire.server
    written = server._packet_number
    monkeypatch.setattr(server, "_write_packets", None)
    monkeypatch.setattr(server._loss, "on_packet_sent", None)
    objects(wire, wire.client, 50)
    wire.settle(20)
    assert len(wire.heard[wire.server].finished) == 50
    assert not wire.client._spaces[Epoch.ONE_RTT].sent_packets
    assert wire.client._loss.bytes_in_flight == 0
    assert 25 <= server._packet_number - written <= 35
    assert server.get_timer() > wire.now + 1.0


def test_an_acknowledgement_with_a_hole_takes_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Wire(loss=0.2, seed=3)
    wire.handshake()
    server: Any = wire.server
    ranges = []
    acknowledge = server._acknowledge

    def note(now: float) -> Any:
        ranges.append(len(server._application.ack_queue))
        return acknowledge(now)

    monkeypatch.setattr(server, "_acknowledge", note)
    objects(wire, wire.client, 200)
    wire.settle(100)
    assert set(ranges) == {1}
    assert len(wire.heard[wire.server].finished) == 200
    assert not wire.client._spaces[Epoch.ONE_RTT].sent_packets


def test_numbers_of_acknowledgements_are_the_leases() -> None:
    wire, kernel = lent_wire()
    wire.settle(100)
    first = kernel.next_packet_number()
    objects(wire, wire.client, 20)
    wire.settle(20)
    assert 10 <= kernel.next_packet_number() - first <= 14
    assert kernel.account.own_number == kernel.next_packet_number() - 1
    assert wire.client._close_event is None
