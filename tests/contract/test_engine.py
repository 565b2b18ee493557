"""The engine against itself and against plain aioquic, over a wire that loses and reorders."""

from __future__ import annotations

import gc
import random
import sys
from types import FunctionType
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import CipherSuite, Epoch

from contract.wire import Wire
from fastrelay.quic.aioquic_private import Engine

PAIRS = pytest.mark.parametrize(
    ("client", "server"),
    [(Engine, Engine), (Engine, QuicConnection), (QuicConnection, Engine)],
    ids=["both", "client", "server"],
)
LOSSES = pytest.mark.parametrize("loss", [0.0, 0.1])


def send(wire: Wire, side: QuicConnection, data: bytes, *, unidirectional: bool = True) -> int:
    stream_id = side.get_next_available_stream_id(is_unidirectional=unidirectional)
    side.send_stream_data(stream_id, data, end_stream=True)
    return stream_id


def assert_clean(wire: Wire) -> None:
    """Nothing is left of what went before: no stream, no queue, nothing in flight."""
    wire.settle(200)
    for side in (wire.client, wire.server):
        if isinstance(side, Engine):
            assert side._streams == {}
            assert side.unsent == 0
            lists = (side._urgent, side._ready, side._parked, side._control, side._stopping)
            assert not any(lists)
            for limit, at_first in (
                (side._local_max_streams_uni, 256),
                (side._local_max_streams_bidi, 128),
            ):
                assert limit.value == at_first + limit.used, "one for each that closed"
        assert side._loss.bytes_in_flight == 0


@PAIRS
@LOSSES
def test_streams_arrive_whole(
    client: type[QuicConnection], server: type[QuicConnection], loss: float
) -> None:
    wire = Wire(client, server, loss=loss, reordering=loss, seed=1)
    wire.handshake()
    rng = random.Random(1)
    sent: dict[QuicConnection, dict[int, bytes]] = {wire.client: {}, wire.server: {}}
    for side in (wire.client, wire.server):
        for number in range(40):
            data = rng.randbytes(rng.choice([0, 1, 60, 1100, 1180, 5000, 40_000]))
            stream_id = send(wire, side, data, unidirectional=bool(number % 4))
            sent[side][stream_id] = data
            if number % 3 == 0:
                wire.step()
    for side in (wire.client, wire.server):
        heard = wire.heard[wire.other(side)]
        wire.run(lambda s=side, h=heard: sent[s].keys() <= h.finished)
        for stream_id, data in sent[side].items():
            assert heard.streams[stream_id] == data
            if not stream_id & 2:
                wire.other(side).send_stream_data(stream_id, b"answer", end_stream=True)
    wire.run(lambda: not wire.client._streams and not wire.server._streams)
    assert_clean(wire)


@PAIRS
@LOSSES
def test_one_stream_written_piece_by_piece(
    client: type[QuicConnection], server: type[QuicConnection], loss: float
) -> None:
    wire = Wire(client, server, loss=loss, reordering=loss, seed=3)
    wire.handshake()
    stream_id = wire.server.get_next_available_stream_id(is_unidirectional=True)
    written = b""
    for number in range(200):
        piece = bytes([number]) * (number * 13 % 1700)
        wire.server.send_stream_data(stream_id, piece)
        written += piece
        wire.step()
    wire.server.send_stream_data(stream_id, b"", end_stream=True)
    wire.run(lambda: stream_id in wire.heard[wire.client].finished)
    assert wire.heard[wire.client].streams[stream_id] == written
    assert_clean(wire)


@PAIRS
@LOSSES
def test_resets_and_stops(
    client: type[QuicConnection], server: type[QuicConnection], loss: float
) -> None:
    wire = Wire(client, server, loss=loss, seed=4)
    wire.handshake()
    ids = [wire.server.get_next_available_stream_id(is_unidirectional=True)]
    wire.server.send_stream_data(ids[0], bytes(200_000))
    ids.append(wire.server.get_next_available_stream_id(is_unidirectional=True))
    wire.server.send_stream_data(ids[1], bytes(200_000))
    wire.run(lambda: set(ids) <= wire.client._streams.keys())
    wire.server.reset_stream(ids[0], 7)
    wire.client.stop_stream(ids[1], 9)
    heard = wire.heard[wire.client]
    wire.run(lambda: set(ids) <= heard.resets.keys())
    assert heard.resets == {ids[0]: 7, ids[1]: 9}
    assert wire.heard[wire.server].stops == {ids[1]: 9}
    wire.run(lambda: not wire.client._streams and not wire.server._streams)
    assert_clean(wire)


@PAIRS
@LOSSES
@pytest.mark.parametrize("seed", [7, 8])
def test_everything_at_random(
    client: type[QuicConnection], server: type[QuicConnection], loss: float, seed: int
) -> None:
    """Opens, writes, ends, resets and stops on both sides: nothing is left in the end."""
    wire = Wire(client, server, loss=loss, reordering=loss, seed=seed, max_stream_data=9000)
    wire.handshake()
    rng = random.Random(seed)
    open_ids: dict[QuicConnection, set[int]] = {wire.client: set(), wire.server: set()}
    for _ in range(400):
        side = rng.choice([wire.client, wire.server])
        ours = sorted(open_ids[side])
        action = rng.choice(["open", "write", "write", "end", "reset", "stop", "step", "step"])
        if action == "open" and len(ours) < 30:
            unidirectional = rng.random() < 0.6
            stream_id = side.get_next_available_stream_id(is_unidirectional=unidirectional)
            side.send_stream_data(stream_id, rng.randbytes(rng.randrange(3000)))
            open_ids[side].add(stream_id)
        elif action in ("write", "end", "reset") and ours:
            stream_id = rng.choice(ours)
            gone = stream_id in wire.heard[side].stops
            if action == "reset" or gone:
                side.reset_stream(stream_id, 5)
            else:
                data = rng.randbytes(rng.randrange(3000))
                side.send_stream_data(stream_id, data, end_stream=action == "end")
            if action != "write" or gone:
                open_ids[side].discard(stream_id)
        elif action == "stop":
            theirs = [i for i in side._streams if i & 1 != (side is wire.server)]
            if theirs:
                side.stop_stream(rng.choice(theirs), 6)
        else:
            wire.step()

    def over() -> bool:
        for side in (wire.client, wire.server):
            for stream_id in list(side._streams):  # some only come into being now
                if side._stream_can_send(stream_id):
                    side.reset_stream(stream_id, 7)
        return not wire.client._streams and not wire.server._streams

    wire.run(over)
    assert_clean(wire)


@PAIRS
def test_more_streams_than_the_limit_and_more_data_than_the_windows(
    client: type[QuicConnection], server: type[QuicConnection]
) -> None:
    wire = Wire(client, server, loss=0.02, seed=5, max_data=60_000, max_stream_data=20_000)
    wire.handshake()
    for side in (wire.client, wire.server):
        ids = {send(wire, side, bytes([n % 251]) * 2000) for n in range(300)}
        ids.add(send(wire, side, bytes(100_000)))
        heard = wire.heard[wire.other(side)]
        wire.run(lambda i=ids, h=heard: i <= h.finished)
        assert sum(len(heard.streams[i]) for i in ids) == 300 * 2000 + 100_000
    assert_clean(wire)


def test_streams_beyond_the_limit_are_reset_when_they_may_begin() -> None:
    wire = Wire()
    wire.handshake()
    limit = wire.server._remote_max_streams_uni
    ids = [wire.server.open_stream(unidirectional=True) for _ in range(limit + 20)]
    for stream_id in ids:
        wire.server.write(stream_id, b"x", fin=False)
    for stream_id in ids[limit:]:
        wire.server.reset_stream(stream_id, 7)
    heard = wire.heard[wire.client]
    wire.run(lambda: set(ids[:limit]) <= heard.streams.keys())
    wire.settle()
    assert not heard.resets
    for stream_id in ids[:limit]:
        wire.server.write(stream_id, b"", fin=True)
    wire.run(lambda: len(heard.resets) == 20)
    assert heard.resets == dict.fromkeys(ids[limit:], 7)
    assert not heard.streams.keys() & set(ids[limit:])
    assert_clean(wire)


@PAIRS
@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303], ids=hex)
def test_key_updates_in_the_middle(
    client: type[QuicConnection], server: type[QuicConnection], suite: int
) -> None:
    wire = Wire(client, server, loss=0.05, seed=6, cipher_suites=[CipherSuite(suite)])
    wire.handshake()
    ids = []
    for number in range(60):
        if number % 10 == 5:
            (wire.client if number % 20 == 5 else wire.server).request_key_update()
        ids.append(send(wire, wire.server, bytes(3000)))
        wire.step()
    wire.run(lambda: set(ids) <= wire.heard[wire.client].finished)
    assert wire.server._cryptos[Epoch.ONE_RTT].recv.key_phase == 0  # six updates
    assert_clean(wire)


@PAIRS
def test_datagrams_up_to_the_size_that_fits(
    client: type[QuicConnection], server: type[QuicConnection]
) -> None:
    wire = Wire(client, server)
    wire.handshake()
    side = wire.server if server is Engine else wire.client
    assert isinstance(side, Engine)
    size = side.max_datagram_payload
    assert size == 1200 - (1 + 8 + 2) - 16 - 3
    for data in (bytes(size), b"", b"small", bytes(size), bytes(size // 2)):
        side.send_datagram_frame(data)
    assert side.unsent == 2 * size + 5 + size // 2
    stream_id = send(wire, side, bytes(5000))
    wire.run(lambda: stream_id in wire.heard[wire.other(side)].finished)
    assert [len(d) for d in wire.heard[wire.other(side)].datagrams] == [
        size,
        0,
        5,
        size,
        size // 2,
    ]
    assert_clean(wire)


def test_an_oversize_datagram_would_block_for_ever() -> None:
    """The reason why every caller asks ``max_datagram_payload`` first."""
    wire = Wire()
    wire.handshake()
    assert isinstance(wire.server, Engine)
    wire.server.send_datagram_frame(bytes(wire.server.max_datagram_payload + 1))
    wire.server.send_datagram_frame(b"behind it")
    wire.settle(100)
    assert wire.heard[wire.client].datagrams == []


def test_unsent_counts_what_never_left() -> None:
    wire = Wire()
    wire.handshake()
    side = wire.server
    assert isinstance(side, Engine)
    stream_id = side.open_stream(unidirectional=True)
    assert side.write(stream_id, bytes(500_000), False)
    assert side.unsent == 500_000
    wire.step()
    assert 0 < side.unsent < 500_000
    side.reset_stream(stream_id, 1)
    assert side.unsent == 0
    assert not side.write(stream_id, b"too late", False)
    stopped = side.open_stream(unidirectional=True)
    side.write(stopped, bytes(500_000), False)
    wire.run(lambda: stopped in wire.client._streams)
    wire.client.stop_stream(stopped, 1)
    wire.run(lambda: stopped in wire.heard[side].stops)
    assert side.unsent == 0
    side.reset_stream(stopped, 2)
    assert side.unsent == 0
    assert_clean(wire)


def test_no_timer_stays_behind_when_the_data_is_gone() -> None:
    """A timer in the past would wake the loop without end."""
    wire = Wire()
    wire.handshake()
    stream_id = wire.server.get_next_available_stream_id(is_unidirectional=True)
    wire.server.send_stream_data(stream_id, bytes(5_000_000))
    wire.run(lambda: wire.server._pacing_at is not None)
    wire.server.reset_stream(stream_id, 1)
    for _ in range(20):
        wire.step()
        timer = wire.server.get_timer()
        assert timer is not None
        assert timer > wire.now
    assert_clean(wire)


def calls_for_one_object(idle_streams: int) -> int:
    """Python calls that one object costs its sender, the acknowledgement included."""
    wire = Wire()
    wire.handshake()
    for _ in range(idle_streams):
        stream_id = wire.server.get_next_available_stream_id(is_unidirectional=True)
        wire.server.send_stream_data(stream_id, b"begin")
    wire.settle(40)
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        send(wire, wire.server, bytes(1100))
        wire.settle(6)
    finally:
        sys.setprofile(None)
    return calls


def test_idle_streams_cost_nothing() -> None:
    few, many = calls_for_one_object(1), calls_for_one_object(120)
    assert many <= few + 20


def test_acknowledgements_alone_leave_nothing_behind() -> None:
    """A side that only receives keeps no record of its own packets."""
    wire = Wire()
    wire.handshake()
    for _ in range(300):
        send(wire, wire.server, bytes(1100))
        wire.step()
    assert_clean(wire)
    assert len(wire.client._spaces[Epoch.ONE_RTT].sent_packets) < 10
    assert len(wire.client._spaces[Epoch.ONE_RTT].ack_queue) == 1


@PAIRS
def test_close_tells_the_peer(client: type[QuicConnection], server: type[QuicConnection]) -> None:
    wire = Wire(client, server)
    wire.handshake()
    wire.server.close(error_code=5, reason_phrase="enough")
    wire.run(lambda: wire.heard[wire.client].ended)
    ended = wire.heard[wire.client].ended
    assert ended is not None
    assert (ended.error_code, ended.reason_phrase, ended.frame_type) == (5, "enough", None)


def test_the_peer_may_move_to_another_address() -> None:
    wire = Wire()
    wire.handshake()
    from contract import wire as module

    stream_id = wire.server.get_next_available_stream_id(is_unidirectional=True)
    wire.server.send_stream_data(stream_id, bytes(50_000))
    old = module._ADDRESS[True]
    try:
        module._ADDRESS[True] = ("198.51.100.7", 4)
        send(wire, wire.client, b"hello from elsewhere")
        wire.run(lambda: wire.server.get_peer_address() == ("198.51.100.7", 4))
        wire.server.send_stream_data(stream_id, bytes(50_000), end_stream=True)
        wire.run(lambda: stream_id in wire.heard[wire.client].finished)
        assert wire.server._network_paths[0].is_validated
    finally:
        module._ADDRESS[True] = old
    assert len(wire.heard[wire.client].streams[stream_id]) == 100_000


@pytest.mark.parametrize("seed", range(20))
def test_undelivered_is_nothing_only_when_all_has_arrived(seed: int) -> None:
    """What was lost and waits for the pacer is neither in flight nor unsent."""
    wire = Wire(loss=0.3, seed=seed)
    wire.handshake()
    client, heard = wire.client, wire.heard[wire.server]
    assert isinstance(client, Engine)
    streams = []
    for number in range(10):
        streams.append(send(wire, client, bytes(1100 * (number % 3))))
        wire.step()
    assert client.undelivered
    wire.run(lambda: not client.undelivered)
    assert heard.finished == set(streams)


def reached(engine: Engine) -> set[int]:
    """What the garbage collector finds of a connection, but for what all of them share."""
    shared = {id(module) for module in sys.modules.values()}
    found: set[int] = set()
    left: list[Any] = [vars(engine)]
    while left:
        each = left.pop()
        if id(each) in found or id(each) in shared or not gc.is_tracked(each):
            continue
        if isinstance(each, (type, FunctionType, QuicConfiguration)):
            continue
        found.add(id(each))
        left += gc.get_referents(each)
    return found


def test_little_is_left_of_a_handshake() -> None:
    """No connection has keys, streams or handlers of its own for what is over."""
    wires = [Wire(Engine, Engine, seed=seed) for seed in range(2)]
    engines: list[Any] = []
    for wire in wires:
        wire.handshake()
        assert_clean(wire)
        engines += [wire.client, wire.server]
    first = engines[0]
    for engine in engines:
        for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ZERO_RTT):
            assert engine._cryptos[epoch] is first._cryptos[Epoch.INITIAL]
            assert not engine._cryptos[epoch].recv.is_valid()
        assert engine._crypto_streams[Epoch.INITIAL] is first._crypto_streams[Epoch.HANDSHAKE]
        assert set(engine._cryptos_initial.values()) == {first._cryptos[Epoch.INITIAL]}
    with pytest.raises(AssertionError, match="discarded"):
        first._cryptos[Epoch.INITIAL].send.setup(cipher_suite=None, secret=b"", version=1)
    assert len(reached(engines[1])) < 300


def test_a_ping_in_flight_is_nothing_undelivered() -> None:
    wire = Wire()
    wire.handshake()
    client = wire.client
    assert isinstance(client, Engine)
    client.send_ping(0)
    client.datagrams_to_send(wire.now)
    assert client._loss.bytes_in_flight
    assert not client.undelivered
