"""1-RTT packets without protection: agreed upon by both sides, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicFileLogger
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import CipherSuite

from contract.kernel import Kernel
from contract.wire import Wire
from fastrelay.quic.aioquic_private import Engine

WORDS = b"these words can be read on the way "


class Tap:
    """Keeps every datagram that reaches a side."""

    def __init__(self, side: QuicConnection) -> None:
        self.datagrams: list[bytes] = []
        receive = side.receive_datagram

        def receive_datagram(data: bytes, addr: object, now: float) -> None:
            self.datagrams.append(data)
            receive(data, addr, now)

        side.receive_datagram = receive_datagram  # type: ignore[method-assign]

    @property
    def short(self) -> list[bytes]:
        return [data for data in self.datagrams if not data[0] & 0x80]

    def __contains__(self, words: bytes) -> bool:
        return any(words in data for data in self.datagrams)


def connected(client: bool, server: bool, **more: object) -> Wire:
    """Whether each of them would do without."""
    return Wire(
        client_arguments={"encryption": not client},
        server_arguments={"encryption": not server},
        **more,  # type: ignore[arg-type]
    )


def exchange(wire: Wire) -> tuple[Tap, Tap]:
    """Much data both ways; what came to the client and to the server on the way."""
    taps = Tap(wire.client), Tap(wire.server)
    wire.handshake()
    data = WORDS * 3000
    for side in (wire.client, wire.server):
        side.send_stream_data(side.get_next_available_stream_id(True), data, end_stream=True)
        side.send_datagram_frame(WORDS)
    wire.run(lambda: all(heard.finished for heard in wire.heard.values()))
    for heard in wire.heard.values():
        assert list(heard.streams.values()) == [data]
        assert set(heard.datagrams) <= {WORDS}
    return taps


@pytest.mark.parametrize(("client", "server"), list(product([False, True], repeat=2)))
def test_only_if_both_want_it(*, client: bool, server: bool) -> None:
    wire = connected(client, server)
    taps = exchange(wire)
    for side, tap in zip((wire.client, wire.server), taps, strict=True):
        assert isinstance(side, Engine)
        assert side.is_plaintext == (client and server)
        assert (side.cipher_suite == "NONE") == (client and server)
        assert (WORDS in tap) == (client and server)


@pytest.mark.parametrize("asks", [False, True])
def test_others_stay_encrypted(*, asks: bool) -> None:
    """aioquic as it is does not know the parameter."""
    kinds = {"client": QuicConnection} if asks else {"server": QuicConnection}
    wire = Wire(
        **kinds,  # type: ignore[arg-type]
        client_arguments={} if asks else {"encryption": False},
        server_arguments={"encryption": False} if asks else {},
    )
    assert not any(WORDS in tap for tap in exchange(wire))


def test_handshakes_are_encrypted_as_ever() -> None:
    wire = connected(True, True)
    tap, _ = exchange(wire)
    assert b"localhost" not in tap  # of the certificate
    assert any(data[0] & 0x80 for data in tap.datagrams)


def test_nothing_larger_for_it() -> None:
    """The tag's room stays free, for protected copies."""
    for tap in exchange(connected(True, True)):
        assert max(map(len, tap.short)) <= 1200 - 16


def test_on_bad_wires() -> None:
    for seed in range(5):
        exchange(connected(True, True, loss=0.1, reordering=0.3, seed=seed))


def test_with_qlog(tmp_path: Path) -> None:
    """aioquic's own builder."""
    wire = connected(True, True, quic_logger=QuicFileLogger(str(tmp_path)))
    assert all(WORDS in tap for tap in exchange(wire))


def test_keys_are_not_updated() -> None:
    wire = connected(True, True)
    tap = Tap(wire.server)
    wire.handshake()
    for side in (wire.client, wire.server):
        side.request_key_update()
    exchange_again(wire)
    assert not any(data[0] & 0x04 for data in tap.short)


def test_key_update_that_was_asked_for_early() -> None:
    wire = connected(True, True)
    wire.client.request_key_update()
    assert all(WORDS in tap for tap in exchange(wire))


def exchange_again(wire: Wire) -> None:
    stream_id = wire.client.get_next_available_stream_id(True)
    wire.client.send_stream_data(stream_id, WORDS, end_stream=True)
    wire.run(lambda: stream_id in wire.heard[wire.server].finished)


@pytest.mark.parametrize(
    "change",
    [
        lambda packet: bytes([packet[0] | 0x04]) + packet[1:],
        lambda packet: packet[:10],
        lambda packet: packet[:11],
        lambda packet: packet[:9],
    ],
    ids=["another phase", "cut in the number", "no frames", "no number"],
)
def test_what_is_no_packet_is_dropped(change: Callable[[bytes], bytes]) -> None:
    wire = connected(True, True)
    tap = Tap(wire.server)
    wire.handshake()
    exchange_again(wire)
    made = change(tap.short[-1])
    wire.server.receive_datagram(made, ("192.0.2.1", 1), wire.now)
    exchange_again(wire)
    assert wire.heard[wire.server].ended is None


def test_the_parameter_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    serialize = Engine._serialize_transport_parameters

    def with_a_value(engine: Engine) -> bytes:
        parameters = serialize(engine)
        if not engine._is_client:
            return parameters
        assert b"\x80\x00\xba\xad\x00" in parameters
        return parameters.replace(b"\x80\x00\xba\xad\x00", b"\x80\x00\xba\xad\x01x")

    monkeypatch.setattr(Engine, "_serialize_transport_parameters", with_a_value)
    wire = connected(True, True)
    wire.run(lambda: wire.heard[wire.server].ended is not None)
    ended = wire.heard[wire.server].ended
    assert ended is not None
    assert ended.error_code == QuicErrorCode.TRANSPORT_PARAMETER_ERROR


def test_a_kernel_beside_it() -> None:
    """A lease as with any connection; the probes of the path are as large as they say."""
    wire = connected(True, True, cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256])
    wire.handshake()
    tap = Tap(wire.client)
    kernel = Kernel(wire)
    wire.run(lambda: kernel.engine.credit().packet_size == 1452)
    assert {1232, 1280, 1360, 1452} <= set(map(len, tap.short))
    data = WORDS * 1000
    kernel.engine.lend(None)
    wire.helper = None
    stream_id = wire.server.get_next_available_stream_id(True)
    wire.server.send_stream_data(stream_id, data, end_stream=True)
    wire.run(lambda: stream_id in wire.heard[wire.client].finished)
    assert wire.heard[wire.client].streams[stream_id] == data
    assert WORDS in tap
