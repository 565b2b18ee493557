"""Keystreams ahead: for which packets there are some, and of whose keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chacha20 import keystream
from fastrelay.fastpath.forwarder import RENEW_PACKETS, SWEEP
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD
from fastrelay.native import keystreams as native
from fastrelay.quic.lease import PacketKeys
from unit.fastpath.stand_ins import Clock
from unit.fastpath.test_forwarder import Bench

FIRST = 100
"""Packet number of the stand-in's engines."""
OTHERS = PacketKeys(bytes(range(32)), bytes(range(12)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench(clock, 2)


def rows_of(bench: Bench, link: Any) -> Any:
    first = link.index * KEYSTREAMS_AHEAD
    return bench.kernel.maps.keystreams.rows[first : first + KEYSTREAMS_AHEAD]


def numbers(bench: Bench, link: Any) -> set[int]:
    """Those for which there is one: of the connection's keys, and at their places."""
    connection = bench.kernel.maps.connections.rows[link.index]
    key, iv = connection["tx"]["key"].tobytes(), connection["tx"]["iv"].tobytes()
    found = set()
    for place, row in enumerate(rows_of(bench, link)):
        if row["number"]:
            number = int(row["number"]) - 1
            assert number % KEYSTREAMS_AHEAD == place
            assert row["version"] == connection["tx_version"] != 0
            assert (row["mac"].tobytes(), row["text"].tobytes()) == keystream(key, iv, number)
            found.add(number)
    return found


def ahead_of(number: int) -> set[int]:
    return set(range(number, number + KEYSTREAMS_AHEAD))


def send(bench: Bench, packets: int, *, drain: bool = True) -> None:
    """So many to each member, of a stream of their own."""
    stream_id = 4 * bench.number + 2
    for at in range(packets):
        bench.packet(bench.chunk(50 * at, 50 * at + 50, stream_id=stream_id))
    bench.deliver()
    if drain:
        bench.drain(later=SWEEP)


def test_there_are_some_from_the_beginning(bench: Bench) -> None:
    for link in bench.links:
        assert numbers(bench, link) == ahead_of(FIRST)


def test_what_the_kernel_uses_is_made_anew(bench: Bench) -> None:
    send(bench, 1)
    assert numbers(bench, bench.links[0]) == ahead_of(FIRST + 1)
    send(bench, 5)
    for link in bench.links:
        assert numbers(bench, link) == ahead_of(FIRST + 6)


def test_many_are_made_at_once(bench: Bench) -> None:
    bench.drain(later=SWEEP)
    bench.clock.tick = 0.0
    for packet in range(RENEW_PACKETS):
        assert numbers(bench, bench.links[0]) == ahead_of(FIRST)
        bench.packet(bench.chunk(50 * packet, 50 * packet + 50))
        bench.deliver()
        bench.drain()
    assert numbers(bench, bench.links[0]) == ahead_of(FIRST + RENEW_PACKETS)


def test_none_is_made_for_a_packet_that_has_left(bench: Bench) -> None:
    """More left than there were keystreams: the programs have made the others'."""
    send(bench, 3 * KEYSTREAMS_AHEAD + 5)
    found = numbers(bench, bench.links[0])
    left = FIRST + 3 * KEYSTREAMS_AHEAD + 5
    assert {number for number in found if number >= left} == ahead_of(left)


def test_a_number_that_user_space_takes_costs_one(bench: Bench) -> None:
    """The next at its place is made again when the kernel has used that."""
    link = bench.links[0]
    assert link.take_packet_number() == FIRST
    send(bench, KEYSTREAMS_AHEAD - 1)
    after = FIRST + KEYSTREAMS_AHEAD
    assert numbers(bench, link) == (ahead_of(after) | {FIRST}) - {after}
    send(bench, 1)
    assert numbers(bench, link) == ahead_of(after + 1)


def test_other_keys_have_others(bench: Bench) -> None:
    link, engine = bench.links[0], bench.engines[0]
    row = bench.kernel.maps.connections.rows[link.index]
    before = int(row["tx_version"])
    assert engine.send is not None
    link.suspend()
    engine.send = replace(engine.send, keys=OTHERS, phase=1)
    link.resume()
    assert row["tx"]["key"].tobytes() == OTHERS.key
    assert row["tx_version"] != before
    assert numbers(bench, link) == ahead_of(FIRST)


def test_the_same_keys_keep_theirs(bench: Bench) -> None:
    link = bench.links[0]
    before = rows_of(bench, link).tobytes()
    link.suspend()
    link.resume()
    assert rows_of(bench, link).tobytes() == before


def test_none_without_encryption(clock: Clock) -> None:
    bench = Bench(clock, 0)
    engine = type(bench.publisher.engine)(9, is_plaintext=True)
    link = bench.forwarder.register(engine, bench.publisher.terms)
    assert not any(rows_of(bench, link).tobytes())
    assert not bench.kernel.maps.connections.rows[link.index]["tx_version"]


def test_they_go_with_the_connection(bench: Bench) -> None:
    """Reports that are read later make none of it."""
    link = bench.links[0]
    send(bench, 2, drain=False)
    link.close()
    bench.drain()
    for _ in range(10):
        bench.drain(later=1.0)
    assert not any(rows_of(bench, link).tobytes())
    assert numbers(bench, bench.links[1]) == ahead_of(FIRST + 2)


def test_they_go_with_the_relay(bench: Bench) -> None:
    send(bench, 2)
    bench.forwarder.close()
    assert not any(bytes(bench.kernel.maps.keystreams.words))


def test_none_where_openssl_has_no_chacha20(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_able", lambda: False)
    bench = Bench(clock, 1)
    send(bench, 2)
    assert not any(rows_of(bench, bench.links[0]).tobytes())
