"""Stateless resets: a server's successor tells clients that their connections are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.options import QuicOptions
from fastrelay.quic.resets import SMALLEST, TOKEN_SIZE, Resets, is_reset
from unit.quic.peers import Acceptor, session_pair

CID = bytes(range(8))


def packet(size: int) -> bytes:
    return (b"\x40" + CID + bytes(size))[:size]


@pytest.mark.parametrize("size", [SMALLEST + 1, 30, 44, 1200])
def test_an_answer_is_a_short_header_and_smaller_than_what_it_answers(size: int) -> None:
    resets = Resets(b"key")
    answer = resets.answer(packet(size), len(CID), 0.0)
    assert answer is not None
    assert SMALLEST <= len(answer) < size
    assert answer[0] & 0xC0 == 0x40
    assert is_reset(answer, resets.token(CID))
    assert answer[:-TOKEN_SIZE] != resets.answer(packet(size), len(CID), 0.0)


def test_two_that_answer_each_other_come_to_an_end() -> None:
    resets, data = Resets(b"key"), packet(1200)
    for _ in range(1200):
        answer = resets.answer(data, len(CID), 0.0)
        if answer is None:
            return
        data = answer
    pytest.fail("they go on")


@pytest.mark.parametrize("data", [b"", b"\x40", packet(SMALLEST), b"\x00" + bytes(100)])
def test_what_is_no_packet_gets_no_answer(data: bytes) -> None:
    assert Resets(b"key").answer(data, len(CID), 0.0) is None


def test_answers_are_limited_by_the_second() -> None:
    resets = Resets(b"key")
    answers = [resets.answer(packet(100), len(CID), 5.5) for _ in range(5000)]
    assert answers[0] is not None
    assert answers[-1] is None
    assert resets.answer(packet(100), len(CID), 6.0) is not None


def test_only_the_same_key_makes_the_same_token() -> None:
    assert Resets(b"key").token(CID) == Resets(b"key").token(CID)
    assert Resets(b"key").token(CID) != Resets(b"another").token(CID)


@pytest.mark.parametrize("data", [b"", bytes(SMALLEST - 1), bytes(range(100))])
def test_what_has_no_token_is_no_reset(data: bytes) -> None:
    assert not is_reset(data, bytes(TOKEN_SIZE))
    assert not is_reset(data, None)
    assert not is_reset(data, b"")


@pytest.mark.parametrize("scheme", ["moqt", "https"])
@pytest.mark.parametrize("later_id", [False, True])
async def test_a_client_of_a_server_that_died_hears_of_it_from_the_next_one(
    options: QuicOptions, scheme: str, later_id: bool
) -> None:
    """Also with a connection id that came after the first."""
    patient = replace(options, idle_timeout=600.0)
    async with session_pair(patient, scheme) as pair:
        if later_id:
            pair.connection.engine.change_connection_id()
        pair.client.transport.send_datagram(b"x")
        await pair.server.wait(lambda: pair.server.datagrams)
        endpoint, port = pair.endpoint, pair.endpoint.address[1]
        endpoint._release()  # no word to anybody
        successor = Endpoint(patient, Acceptor())
        await successor.listen("127.0.0.1", port)
        pair.client.transport.send_datagram(b"y")
        await pair.client.wait(lambda: pair.client.end)
        assert pair.client.end is not None
        assert "lost the connection" in pair.client.end[1]
        assert successor.counters.resets_sent
        assert successor.counters.datagrams_unroutable == 0
        await successor.close()


async def test_who_has_another_key_cannot_end_a_connection(
    options: QuicOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like another replica."""
    async with session_pair(options) as pair:
        with monkeypatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: "another")
            other = Endpoint(options, Acceptor())
        engine: Any = pair.connection.engine
        cid = engine._peer_cid.cid
        assert other._resets is not None
        answer = other._resets.answer(b"\x40" + cid + bytes(60), len(cid), 0.0)
        assert answer is not None
        assert not pair.connection.end_if_reset(answer)
        pair.client.transport.send_datagram(b"x")
        await pair.server.wait(lambda: pair.server.datagrams)
