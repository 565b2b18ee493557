"""What is in the map for a connection, and in which order it changes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastrelay.fastpath import layout
from fastrelay.fastpath.forwarder import HEARTBEAT
from fastrelay.fastpath.layout import ConnectionState
from fastrelay.fastpath.ports import LinkTerms
from fastrelay.quic.lease import PacketKeys
from unit.fastpath.kernel import run
from unit.fastpath.stand_ins import Clock, Engine
from unit.fastpath.test_forwarder import Bench


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench(clock, 1)


def row_of(bench: Bench, link: Any) -> Any:
    return bench.kernel.maps.connections.rows[link.index]


def route_of(bench: Bench, cid: bytes) -> int | None:
    return bench.kernel.maps.routes.find(int.from_bytes(cid, sys.byteorder), 1)


def keys(number: int) -> PacketKeys:
    return PacketKeys(bytes([number]) * 32, bytes([number]) * 12)


def key_in(row: Any, shift: int) -> int | None:
    """The number of the keys that a part of ``rx_keys`` names."""
    word = int(row["rx_keys"])
    assert word >> 9 == 1
    if shift > 1:
        if not word >> (shift - 1) & 1:
            return None
        index = word >> shift & 3
    else:
        index = word >> 1 & 3
    data = row["rx"][index]["key"].tobytes()
    assert data == bytes([data[0]]) * 32
    assert row["rx"][index]["iv"].tobytes() == bytes([data[0]]) * 12
    return data[0]


def test_everything_that_a_packet_needs_is_there(bench: Bench) -> None:
    link = bench.links[0]
    row = row_of(bench, link)
    assert int(row["state"]) == ConnectionState.SEND | ConnectionState.RECEIVE
    send = bench.engines[0].send
    assert send is not None
    assert row["dcid"][: row["dcid_length"]].tobytes() == send.dcid
    assert row["tx"]["key"].tobytes() == send.keys.key
    assert row["tx"]["iv"].tobytes() == send.keys.iv
    assert row["tx_hp"].tobytes() == send.hp
    assert row["local_address"][:4].tolist() == [10, 0, 0, 1]
    assert row["local_port"].tobytes() == (4443).to_bytes(2, "big")
    assert (int(row["family"]), int(row["stream_bits"])) == (4, 3)
    assert (int(row["packet_number"]), int(row["stream_number"])) == (100, 5)
    assert int(row["packet_size_limit"]) == 1200
    assert route_of(bench, bench.engines[0].receive.cids[0]) == link.index


def test_packets_that_user_space_had_count_as_seen(bench: Bench) -> None:
    engine = Engine(5)
    assert engine.receive is not None
    engine.receive = replace(engine.receive, largest=32 * 40 + 6, stream_next=9)
    row = row_of(bench, bench.forwarder.register(engine, LinkTerms()))
    assert int(row["rx_largest"]) == 32 * 40 + 6
    assert int(row["rx_stream_next"]) == 9
    window = row["rx_window"]
    for block in range(40 - layout.REPLAY_WORDS + 1, 41):
        bits = 0x7F if block == 40 else 0xFFFFFFFF
        assert int(window[block % layout.REPLAY_WORDS]) == block << 32 | bits


def test_a_packet_that_user_space_keeps_counts_as_seen(bench: Bench) -> None:
    link = bench.links[0]
    window = row_of(bench, link)["rx_window"]
    assert [link.keep_packet(number) for number in (40, 41, 40)] == [True, True, False]
    assert int(window[1]) == 1 << 32 | 0b11 << 8
    newer = 40 + 32 * layout.REPLAY_WORDS
    assert [link.keep_packet(number) for number in (newer, 41, newer)] == [True, True, False]
    assert int(window[1]) == (newer >> 5) << 32 | 1 << 8
    link.close()
    assert link.keep_packet(newer)


def test_numbers_that_only_user_space_has_seen_are_told_to_the_kernel(bench: Bench) -> None:
    engine, row = bench.engines[0], row_of(bench, bench.links[0])
    window = row["rx_window"].tolist()
    assert engine.receive is not None
    engine.receive = replace(engine.receive, largest=70_000)
    bench.drain(later=HEARTBEAT)
    assert int(row["rx_largest"]) == 70_000
    engine.receive = replace(engine.receive, largest=69_000)
    bench.drain(later=HEARTBEAT)
    assert int(row["rx_largest"]) == 70_000
    assert row["rx_window"].tolist() == window, "what the kernel has not seen it may yet forward"


def test_key_updates_leave_alone_what_is_being_read(bench: Bench) -> None:
    engine, link = bench.engines[0], bench.links[0]
    row = row_of(bench, link)
    assert engine.receive is not None
    generations = [keys(10 + n) for n in range(9)]
    for now in range(8):
        word, before = int(row["rx_keys"]), row["rx"].copy()
        named = {word >> 1 & 3}
        named |= {word >> 4 & 3} if word >> 3 & 1 else set()
        named |= {word >> 7 & 3} if word >> 6 & 1 else set()
        link.suspend()
        engine.receive = replace(
            engine.receive,
            phase=now & 1,
            current=generations[now],
            following=generations[now + 1],
            previous=generations[now - 1] if now else None,
        )
        link.resume()
        assert int(row["rx_keys"]) & 1 == now & 1
        assert key_in(row, 1) == 10 + now
        assert key_in(row, 4) == 11 + now
        assert key_in(row, 7) == (9 + now if now else None)
        if now > 1:
            for index in named:
                assert np.array_equal(row["rx"][index], before[index])


def test_suspend_waits_for_a_program_and_nests(bench: Bench, clock: Clock) -> None:
    link = bench.links[0]
    bench.packet(bench.chunk(0, 50))
    program = bench.kernel.send(bench.kernel.wire.pop())
    for _ in range(3):
        next(program)  # claimed, at work
    row = row_of(bench, link)
    assert int(row["busy"]) == 1
    clock.meanwhile = lambda: run(program)
    link.suspend()
    assert int(row["busy"]) == 0
    assert int(row["state"]) == ConnectionState.RECEIVE
    # It had not looked at the state yet, so it did not send.
    assert not bench.kernel.sent
    link.suspend()
    link.resume()
    assert int(row["state"]) == ConnectionState.RECEIVE
    link.resume()
    assert int(row["state"]) == ConnectionState.RECEIVE | ConnectionState.SEND


def test_a_program_that_does_not_end_costs_the_connection_its_speed_meanwhile(
    bench: Bench,
) -> None:
    link = bench.links[0]
    row = row_of(bench, link)
    row["busy"] = 1
    link.suspend()
    link.resume()
    assert "has not ended its work" in link.reason
    assert not int(row["state"])
    bench.drain(later=1)
    assert not int(row["state"])
    row["busy"] = 0
    bench.drain(later=1)
    assert link.reason == ""
    assert int(row["state"]) == ConnectionState.RECEIVE | ConnectionState.SEND


def test_an_index_is_not_used_again_while_a_program_is_at_work_for_it(bench: Bench) -> None:
    link = bench.links[0]
    row = row_of(bench, link)
    row["busy"] = 1
    room = bench.forwarder._connections.room
    link.close()
    for _ in range(3):
        bench.drain(later=1)
    assert bench.forwarder._connections.room == room
    assert row["tx"]["key"].any()  # the program may be using it
    row["busy"] = 0
    for _ in range(3):
        bench.drain(later=1)
    assert bench.forwarder._connections.room == room + 1
    assert not row["tx"]["key"].any()


def test_a_connection_that_may_not_be_sent_on_says_why(bench: Bench) -> None:
    engine, link = bench.engines[0], bench.links[0]
    link.suspend()
    engine.send, engine.fast_reason = None, "the path is not validated"
    link.resume()
    assert link.reason == "the path is not validated"
    assert int(row_of(bench, link)["state"]) == ConnectionState.RECEIVE


def test_routes_follow_the_connection_ids(bench: Bench) -> None:
    engine, link = bench.engines[0], bench.links[0]
    assert engine.receive is not None
    old = engine.receive.cids[0]
    link.suspend()
    engine.receive = replace(engine.receive, cids=(b"new id 1", b"new id 2"))
    link.resume()
    assert route_of(bench, old) is None
    assert route_of(bench, b"new id 2") == link.index


def test_data_credit_is_taken_once_by_either_side(bench: Bench) -> None:
    engine, link = bench.engines[0], bench.links[0]
    engine.data_limit = 100
    link.credit_changed()
    assert link.take_data(70) == 70
    assert link.take_data(70) == 30
    assert link.take_data(1) == 0
    link.give_data(40)
    assert link.take_data(50) == 40


def test_numbers_come_from_the_map(bench: Bench) -> None:
    link = bench.links[0]
    assert [link.take_packet_number() for _ in range(3)] == [100, 101, 102]
    assert link.next_packet_number() == 103
    assert link.take_stream_number() == 5
    assert link.next_stream_number() == 6


@pytest.mark.parametrize(
    ("address", "family", "raw"),
    [
        ("2001:db8::7", 6, bytes.fromhex("20010db8000000000000000000000007")),
        ("::ffff:10.1.2.3", 4, bytes([10, 1, 2, 3]) + bytes(12)),
        ("fe80::1%eth0", 6, bytes.fromhex("fe800000000000000000000000000001")),
    ],
)
def test_addresses(bench: Bench, address: str, family: int, raw: bytes) -> None:
    engine = Engine(6)
    assert engine.send is not None
    engine.send = replace(engine.send, remote=(address, 5), local=(address, 6))
    row = row_of(bench, bench.forwarder.register(engine, LinkTerms()))
    assert int(row["family"]) == family
    assert row["remote_address"].tobytes() == raw


def test_prefixes_are_there_or_refused(bench: Bench) -> None:
    terms = LinkTerms(prefix=b"\x40\x54\x04", datagram_prefix=b"\x01", variant=1)
    row = row_of(bench, bench.forwarder.register(Engine(7), terms))
    assert row["prefix"][: row["prefix_length"]].tobytes() == b"\x40\x54\x04"
    assert row["datagram_prefix"][: row["datagram_prefix_length"]].tobytes() == b"\x01"
    assert int(row["variant"]) == 1
    with pytest.raises(ValueError, match="16 bytes"):
        bench.forwarder.register(Engine(8), LinkTerms(prefix=bytes(17)))


def test_a_stream_that_is_user_spaces_does_not_begin_when_its_head_comes_again(
    bench: Bench,
) -> None:
    row = row_of(bench, bench.publisher)
    for number in (0, 3):
        # The program is away when the head comes, and is back when it comes again.
        assert bench.forwarder.loan(bench.publisher, number << 2 | 2) is None
        assert int(row["rx_stream_next"]) == number + 1
        bench.packet(bench.chunk(0, 50, stream_id=number << 2 | 2))
        assert not bench.kernel.wire
    bench.packet(bench.chunk(0, 50, stream_id=4 << 2 | 2))
    bench.drain()
    assert bench.forwarder.loan(bench.publisher, 4 << 2 | 2) is not None
    assert int(row["rx_stream_next"]) == 5


def test_a_stream_whose_head_came_again_just_now_is_lent(bench: Bench) -> None:
    bench.packet(bench.chunk(0, 50))
    # The rings were read before that; the datagram in hand had passed the program unseen.
    assert bench.forwarder.loan(bench.publisher, 2) is not None


def test_a_stream_that_is_user_spaces_does_not_begin_behind_its_prefix(bench: Bench) -> None:
    row = row_of(bench, bench.publisher)
    row["rx_stream_next"] = 12
    row["rx_prefixed"][11 % layout.PREFIXED] = 12
    row["rx_prefixed"][10 % layout.PREFIXED] = 11
    assert bench.forwarder.loan(bench.publisher, 11 << 2 | 2) is None
    assert row["rx_prefixed"].tolist().count(0) == layout.PREFIXED - 1
    assert int(row["rx_prefixed"][10 % layout.PREFIXED]) == 11
