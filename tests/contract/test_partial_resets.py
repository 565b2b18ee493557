"""RESET_STREAM_AT: the reliable part first, then the reset; every misuse its error."""

from __future__ import annotations

import pytest
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from contract.wire import Wire
from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private import Engine

STREAM = 2  # the client's first unidirectional one


class Server:
    """The server's end of a connection, fed with frames by hand."""

    def __init__(self) -> None:
        self.wire = Wire(max_stream_data=5000)
        self.wire.handshake()
        engine = self.wire.server
        assert isinstance(engine, Engine)
        self.engine = engine

    def frame(self, kind: int, *fields: int, data: bytes = b"") -> None:
        body = encode_quic(kind) + b"".join(encode_quic(field) for field in fields) + data
        path = self.engine._network_paths[0]
        self.engine._read_frames(body, path, self.wire.now)
        self.wire._listen(self.engine)

    def data(self, offset: int, data: bytes, *, fin: bool = False) -> None:
        self.frame(0x0E | fin, STREAM, offset, len(data), data=data)

    def reset_at(self, final: int, reliable: int, code: int = 7) -> None:
        self.frame(0x24, STREAM, code, final, reliable)

    @property
    def heard(self) -> tuple[bytes | None, int | None, bool]:
        """Data, the reset's code, and whether the stream ended well."""
        heard = self.wire.heard[self.engine]
        data = heard.streams.get(STREAM)
        return (
            bytes(data) if data is not None else None,
            heard.resets.get(STREAM),
            STREAM in heard.finished,
        )

    @property
    def is_gone(self) -> bool:
        return STREAM not in self.engine._streams and not self.engine._partial_resets


def test_the_parameter_is_announced() -> None:
    server = Server()
    parameters = server.engine._serialize_transport_parameters()
    assert encode_quic(0x1D) + b"\x00" in parameters
    assert encode_quic(0x17F7586D2CB571) + b"\x00" in parameters


@pytest.mark.parametrize("reliable", [0, 4])
def test_what_is_there_already_is_followed_by_the_reset(reliable: int) -> None:
    server = Server()
    server.data(0, b"head")
    server.reset_at(100, reliable)
    assert server.heard == (b"head", 7, False)
    assert server.is_gone


def test_the_reset_waits_for_the_reliable_part() -> None:
    server = Server()
    server.reset_at(100, 6)
    assert server.heard == (None, None, False)
    server.data(4, b"er, and more")
    assert server.heard == (None, None, False)
    server.data(0, b"head")
    assert server.heard == (b"header, and more", 7, False)
    assert server.is_gone
    server.data(20, b"late")  # of a stream that is gone: ignored
    server.reset_at(100, 6)
    assert server.heard[1] == 7


def test_the_reliable_size_only_becomes_less() -> None:
    server = Server()
    server.reset_at(100, 50)
    server.data(0, b"head")
    server.reset_at(100, 90)
    assert server.heard == (b"head", None, False)
    server.reset_at(100, 4)
    assert server.heard == (b"head", 7, False)
    assert server.is_gone


def test_an_ordinary_reset_ends_the_waiting() -> None:
    server = Server()
    server.reset_at(100, 50)
    server.frame(0x04, STREAM, 7, 100)
    assert server.heard == (None, 7, False)
    assert server.is_gone


def test_a_stream_that_is_complete_ended_well() -> None:
    server = Server()
    server.data(0, b"all", fin=True)
    server.reset_at(3, 1)
    assert server.heard == (b"all", None, True)
    other = Server()
    other.reset_at(3, 3)
    other.data(0, b"all", fin=True)
    assert other.heard[0] == b"all"
    assert other.is_gone


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([(100, 101, 7)], QuicErrorCode.FRAME_ENCODING_ERROR),
        ([(5001, 1, 7)], QuicErrorCode.FLOW_CONTROL_ERROR),
        ([(100, 50, 7), (101, 50, 7)], QuicErrorCode.FINAL_SIZE_ERROR),
        ([(100, 50, 7), (99, 50, 7)], QuicErrorCode.FINAL_SIZE_ERROR),
        ([(3, 1, 7)], QuicErrorCode.FINAL_SIZE_ERROR),
        ([(100, 50, 7), (100, 50, 8)], QuicErrorCode.STREAM_STATE_ERROR),
    ],
)
def test_misuse(frames: list[tuple[int, int, int]], error: QuicErrorCode) -> None:
    server = Server()
    server.data(0, b"head")
    for final, reliable, code in frames[:-1]:
        server.reset_at(final, reliable, code)
    with pytest.raises(QuicConnectionError) as raised:
        server.reset_at(*frames[-1])
    assert raised.value.error_code == error


@pytest.mark.parametrize(("offset", "fin"), [(98, False), (90, True)])
def test_data_beyond_the_final_size(offset: int, fin: bool) -> None:
    server = Server()
    server.reset_at(100, 100)
    with pytest.raises(QuicConnectionError) as raised:
        server.data(offset, b"1234", fin=fin)
    assert raised.value.error_code == QuicErrorCode.FINAL_SIZE_ERROR


def test_a_stream_of_ours_cannot_be_reset_by_the_peer() -> None:
    server = Server()
    ours = server.engine.open_stream(unidirectional=True)
    with pytest.raises(QuicConnectionError) as raised:
        server.frame(0x24, ours, 7, 0, 0)
    assert raised.value.error_code == QuicErrorCode.STREAM_STATE_ERROR


def test_the_flow_control_of_the_connection_counts_the_final_size() -> None:
    server = Server()
    used = server.engine._local_max_data.used
    server.data(0, b"head")
    server.reset_at(1000, 500)
    server.data(4, bytes(500))
    assert server.engine._local_max_data.used == used + 1000


def test_aioquics_own_way_knows_the_frame_too() -> None:
    """Packets after a migration or a key update are read by aioquic."""
    server = Server()
    context = QuicReceiveContext(
        Epoch.ONE_RTT,
        server.engine.host_cid,
        server.engine._network_paths[0],
        None,
        server.wire.now,
        1,
    )
    fields = b"".join(encode_quic(field) for field in (0x24, STREAM, 7, 100, 0))
    assert server.engine._payload_received(context, fields) == (True, False)
    server.wire._listen(server.engine)
    assert server.heard == (None, 7, False)
