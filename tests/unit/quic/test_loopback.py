"""Server and client in one process, over real sockets: raw QUIC and WebTransport alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastrelay.moqt.drafts import DRAFTS, Draft
from fastrelay.quic.options import QuicOptions
from unit.quic.peers import Pair, Recorder, session_pair

SCHEMES = pytest.mark.parametrize("scheme", ["moqt", "https"])
SENDERS = pytest.mark.parametrize("sender", ["client", "server"])


def ends(pair: Pair, sender: str) -> tuple[Recorder, Recorder]:
    if sender == "client":
        return pair.client, pair.server
    return pair.server, pair.client


@SCHEMES
@pytest.mark.parametrize("draft", DRAFTS.values(), ids=str)
async def test_each_draft_is_negotiated(options: QuicOptions, scheme: str, draft: Draft) -> None:
    async with session_pair(options, scheme, client={"drafts": (draft,)}) as pair:
        webtransport = scheme == "https"
        for end in (pair.server, pair.client):
            assert end.negotiated.draft is draft
            assert end.negotiated.webtransport is webtransport
            assert end.transport.is_webtransport is webtransport
        assert pair.client.transport.is_client
        assert not pair.server.transport.is_client
        assert pair.client.negotiated.path == "/live?x=1"
        assert pair.server.negotiated.path == ("/live?x=1" if webtransport else "")


@SCHEMES
async def test_the_server_prefers_its_own_order(options: QuicOptions, scheme: str) -> None:
    theirs = tuple(reversed(options.drafts))
    async with session_pair(options, scheme, client={"drafts": theirs}) as pair:
        assert pair.server.negotiated.draft is options.drafts[0]
        assert pair.client.negotiated.draft is options.drafts[0]


@SCHEMES
@SENDERS
async def test_streams_both_ways(options: QuicOptions, scheme: str, sender: str) -> None:
    async with session_pair(options, scheme) as pair:
        here, there = ends(pair, sender)
        big = bytes(range(256)) * 2000
        one = here.transport.open_stream(unidirectional=True)
        both = here.transport.open_stream(unidirectional=False)
        empty = here.transport.open_stream(unidirectional=True)
        assert len({one, both, empty}) == 3
        here.transport.send(one, big)
        here.transport.send(one, memoryview(b"the end")[4:], fin=True)
        here.transport.send(both, b"question")
        here.transport.send(empty, b"", fin=True)
        await there.wait(lambda: {one, empty} <= there.finished and both in there.streams)
        assert there.streams[one] == big + b"end"
        assert there.streams[empty] == b""
        there.transport.send(both, b"answer", fin=True)
        await here.wait(lambda: both in here.finished)
        assert here.streams[both] == b"answer"
        assert there.streams[both] == b"question"


@SCHEMES
@SENDERS
async def test_datagrams(options: QuicOptions, scheme: str, sender: str) -> None:
    async with session_pair(options, scheme) as pair:
        here, there = ends(pair, sender)
        size = here.transport.max_datagram_size
        assert 1100 < size < 1200
        assert not here.transport.send_datagram(bytes(size + 1))
        assert here.transport.send_datagram(bytes(size))
        assert here.transport.send_datagram(b"small")
        await there.wait(lambda: len(there.datagrams) == 2)
        assert there.datagrams == [bytes(size), b"small"]


async def test_no_datagrams_where_the_peer_takes_none(options: QuicOptions) -> None:
    async with session_pair(options, client={"max_datagram_frame_size": 0}) as pair:
        assert pair.server.transport.max_datagram_size == 0
        assert not pair.server.transport.send_datagram(b"")


@SCHEMES
@SENDERS
@pytest.mark.parametrize("code", [0, 0x12, 0xFFFF])
async def test_resets_and_stops_keep_their_code(
    options: QuicOptions, scheme: str, sender: str, code: int
) -> None:
    async with session_pair(options, scheme) as pair:
        here, there = ends(pair, sender)
        one = here.transport.open_stream(unidirectional=True)
        two = here.transport.open_stream(unidirectional=True)
        here.transport.send(one, b"begin")
        here.transport.send(two, b"begin")
        await there.wait(lambda: {one, two} <= there.streams.keys())
        here.transport.reset(one, code)
        there.transport.stop(two, code)
        await there.wait(lambda: one in there.resets)
        await here.wait(lambda: two in here.stops)
        assert there.resets == {one: code}
        assert here.stops == {two: code}
        here.transport.send(one, b"nothing happens")
        here.transport.send(two, b"nothing happens", fin=True)
        here.transport.reset(two, code)
        there.transport.stop(one, code)
        assert here.transport.backlog == 0


@SCHEMES
async def test_nothing_is_heard_of_a_stopped_stream(options: QuicOptions, scheme: str) -> None:
    async with session_pair(options, scheme) as pair:
        stopped = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stopped, b"begin")
        await pair.server.wait(lambda: stopped in pair.server.streams)
        pair.server.transport.stop(stopped, 1)
        pair.client.transport.send(stopped, b"more", fin=True)
        after = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(after, b"", fin=True)
        await pair.server.wait(lambda: after in pair.server.finished)
        assert pair.server.streams[stopped] == b"begin"
        assert stopped not in pair.server.finished
        assert stopped not in pair.server.resets


@SCHEMES
@SENDERS
async def test_close_codes(options: QuicOptions, scheme: str, sender: str) -> None:
    async with session_pair(options, scheme) as pair:
        here, there = ends(pair, sender)
        here.transport.close(0x10, "enough")
        here.transport.close(0x11, "the first one counts")
        await there.wait(lambda: there.end)
        await here.wait(lambda: here.end)
        assert there.end == (0x10, "enough")
        assert here.end == (0x10, "enough")
        stream = here.transport.open_stream(unidirectional=True)
        here.transport.send(stream, b"into the void", fin=True)


@SCHEMES
async def test_ipv6_and_dual_stack(options: QuicOptions, scheme: str) -> None:
    for host, bind in (("::1", "::"), ("127.0.0.1", "::"), ("::1", "::1"), ("localhost", "")):
        async with session_pair(options, scheme, host=host, bind=bind) as pair:
            assert pair.server.negotiated.peer[0] in (host, "127.0.0.1", "::1")
            assert not pair.server.negotiated.peer[0].startswith("::ffff")


@SENDERS
async def test_backlog_and_writable(options: QuicOptions, sender: str) -> None:
    async with session_pair(replace(options, low_water=10_000)) as pair:
        here, _ = ends(pair, sender)
        stream = here.transport.open_stream(unidirectional=True)
        here.transport.send(stream, bytes(500_000))
        assert here.transport.backlog >= 500_000
        await here.wait(lambda: here.writable_calls)
        assert here.transport.backlog < 10_000
        other = here.transport.open_stream(unidirectional=True)
        here.transport.send(other, bytes(500_000))
        here.transport.reset(other, 1)
        assert here.transport.backlog < 10_000


async def test_a_reset_that_empties_the_backlog_is_worth_a_call(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, bytes(500_000))
        pair.client.transport.reset(stream, 1)  # in the same turn: nothing was sent
        await pair.client.wait(lambda: pair.client.writable_calls)
        assert pair.client.transport.backlog == 0


async def test_little_data_is_never_worth_a_call_of_writable(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        for _ in range(20):
            stream = pair.client.transport.open_stream(unidirectional=True)
            pair.client.transport.send(stream, bytes(1100), fin=True)
        await pair.server.wait(lambda: len(pair.server.finished) == 20)
        assert pair.client.writable_calls == 0


@SCHEMES
async def test_more_streams_than_the_peer_allows_wait(options: QuicOptions, scheme: str) -> None:
    few = replace(options, max_streams_unidirectional=8)
    async with session_pair(few, scheme) as pair:
        for number in range(100):
            stream = pair.client.transport.open_stream(unidirectional=True)
            pair.client.transport.send(stream, bytes([number]) * 10, fin=True)
        await pair.server.wait(lambda: len(pair.server.finished) == 100)


async def test_statistics_and_cipher_suite(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        assert pair.server.transport.cipher_suite == "CHACHA20_POLY1305_SHA256"
        assert pair.client.transport.measurements().smoothed_rtt > 0
        assert pair.connection.engine.measurements().congestion_window >= 12_000
    async with session_pair(replace(options, prefer_chacha20=False)) as pair:
        assert pair.server.transport.cipher_suite == "AES_128_GCM_SHA256"
