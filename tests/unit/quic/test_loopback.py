"""Server and client in one process, over real sockets: raw QUIC and WebTransport alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastrelay.moqt.drafts import DRAFTS, Draft
from fastrelay.quic.options import QuicOptions
from unit.quic.peers import session_pair

SCHEMES = pytest.mark.parametrize("scheme", ["moqt", "https"])


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
async def test_streams_both_ways(options: QuicOptions, scheme: str) -> None:
    async with session_pair(options, scheme) as pair:
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
            big = bytes(range(256)) * 2000
            one = here.transport.open_stream(unidirectional=True)
            both = here.transport.open_stream(unidirectional=False)
            empty = here.transport.open_stream(unidirectional=True)
            assert len({one, both, empty}) == 3
            here.transport.send(one, big)
            here.transport.send(one, b"end", fin=True)
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
async def test_datagrams(options: QuicOptions, scheme: str) -> None:
    async with session_pair(options, scheme) as pair:
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
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
@pytest.mark.parametrize("code", [0, 0x12, 0xFFFF])
async def test_resets_and_stops_keep_their_code(
    options: QuicOptions, scheme: str, code: int
) -> None:
    async with session_pair(options, scheme) as pair:
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
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


@SCHEMES
@pytest.mark.parametrize("side", ["client", "server"])
async def test_close_codes(options: QuicOptions, scheme: str, side: str) -> None:
    async with session_pair(options, scheme) as pair:
        here, there = (pair.client, pair.server) if side == "client" else (pair.server, pair.client)
        here.transport.close(0x10, "enough")
        await there.wait(lambda: there.end)
        await here.wait(lambda: here.end)
        assert there.end == (0x10, "enough")
        assert here.end == (0x10, "enough")


@SCHEMES
async def test_ipv6_and_dual_stack(options: QuicOptions, scheme: str) -> None:
    async with session_pair(options, scheme, host="::1", bind="::") as pair:
        assert pair.server.negotiated.peer[0] == "::1"
    async with session_pair(options, scheme, host="127.0.0.1", bind="::") as pair:
        assert pair.server.negotiated.peer[0] == "127.0.0.1"
    async with session_pair(options, scheme, host="::1", bind="::1") as pair:
        assert pair.server.negotiated.peer[0] == "::1"


async def test_backlog_and_writable(options: QuicOptions) -> None:
    async with session_pair(replace(options, low_water=10_000)) as pair:
        stream = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(stream, bytes(500_000))
        assert pair.client.transport.backlog >= 500_000
        await pair.client.wait(lambda: pair.client.writable_calls)
        assert pair.client.transport.backlog < 10_000
        other = pair.client.transport.open_stream(unidirectional=True)
        pair.client.transport.send(other, bytes(500_000))
        pair.client.transport.reset(other, 1)
        assert pair.client.transport.backlog < 10_000
