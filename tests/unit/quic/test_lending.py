"""Connections lent to a kernel, on real sockets: hooks, addresses, adopted streams, counters."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from fastrelay.fastpath.layout import REPORT
from fastrelay.moqt.codes import SessionError
from fastrelay.quic import udp
from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.lease import Row
from fastrelay.quic.ledger import Ledger
from fastrelay.quic.options import QuicOptions
from fastrelay.quic.raw import QuicTransport
from ring_records import in_ring
from unit.quic.peers import Pair, session_pair

SCHEMES = pytest.mark.parametrize("scheme", ["moqt", "https"])


class Counters:
    """A lease whose other side is idle, but for what a test says it did."""

    def __init__(self, transport: QuicTransport, ledger: Ledger, index: int = 0) -> None:
        self.engine = engine = transport.engine
        self.account = ledger.open(index)
        credit = engine.credit()
        self.number, self.stream = credit.next_packet_number, credit.next_stream_number
        self.used = credit.data_used
        self.lost: list[Row] = []
        self.told = asyncio.Event()
        self.stopped: list[tuple[int, int]] = []
        engine.lend(self)

    def take_packet_number(self) -> int:
        self.number += 1
        return self.number - 1

    def next_packet_number(self) -> int:
        return self.number

    def take_stream_number(self) -> int:
        self.stream += 1
        return self.stream - 1

    def next_stream_number(self) -> int:
        return self.stream

    def take_data(self, size: int) -> int:
        taken = min(size, self.engine.credit().data_limit - self.used)
        self.used += taken
        return taken

    def give_data(self, size: int) -> None:
        self.used -= size

    def stream_limit(self, stream_id: int) -> int:
        return 1 << 20

    def drain(self) -> None: ...

    def suspend(self) -> None: ...

    def resume(self) -> None: ...

    def credit_changed(self) -> None: ...

    def window_changed(self, room: int) -> None: ...

    def let_acknowledgements(self, taken: bool) -> None: ...

    def catch_up(self) -> None: ...

    def stream_limit_raised(self, stream_id: int, limit: int) -> None: ...

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self.stopped.append((stream_id, code))

    def packets_lost(self, rows: Sequence[Row]) -> None:
        self.lost += rows
        self.told.set()


@dataclass
class Bytes:
    """Where a stream's bytes are."""

    data: bytes
    asked: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, stop: int) -> bytes | None:
        self.asked.append((start, stop))
        return self.data[start:stop] if stop <= len(self.data) else None


@dataclass
class Lent:
    pair: Pair
    transport: QuicTransport
    lease: Counters
    ledger: Ledger


@contextlib.asynccontextmanager
async def lent(options: QuicOptions, scheme: str = "moqt", **more: str) -> AsyncIterator[Lent]:
    async with session_pair(replace(options, fast_path=True), scheme, **more) as pair:
        transport = pair.server.transport
        assert isinstance(transport, QuicTransport)
        assert transport.engine.fast_reason == ""
        ledger = Ledger(2)
        pair.endpoint.watch(ledger)
        yield Lent(pair, transport, Counters(transport, ledger), ledger)


@SCHEMES
async def test_a_stream_of_the_kernels_is_sent_from_its_source(
    options: QuicOptions, scheme: str
) -> None:
    async with lent(options, scheme) as each:
        stream_id = each.lease.take_stream_number() * 4 + 3
        content = bytes(range(256)) * 40
        source = Bytes(each.transport.stream_prefix + content)
        each.transport.adopt_stream(stream_id, source, 0, continued=True)
        middle = len(source.data) // 2
        each.transport.send_range(stream_id, 0, middle, False)
        backlog = each.transport.backlog
        each.transport.send(stream_id, source.data[middle:], True)
        client = each.pair.client
        await client.wait(lambda: stream_id in client.finished)
        assert client.streams[stream_id] == content
        assert backlog == middle
        assert each.transport.backlog == 0
        assert source.asked[0][0] == 0
        assert source.asked[-1][1] == middle
        assert each.pair.endpoint.counters.media_packets >= len(content) // 1200


@SCHEMES
async def test_bytes_that_are_gone_reset_the_stream(options: QuicOptions, scheme: str) -> None:
    async with lent(options, scheme) as each:
        stream_id = each.lease.take_stream_number() * 4 + 3
        source = Bytes(each.transport.stream_prefix + b"content")
        each.transport.adopt_stream(stream_id, source, 0, continued=True)
        each.transport.send_range(stream_id, 0, len(source.data), False)
        client = each.pair.client
        await client.wait(lambda: stream_id in client.streams)
        each.transport.send_range(stream_id, 0, 5000, False)
        await client.wait(lambda: stream_id in client.resets)
        assert client.resets[stream_id] == SessionError.INTERNAL_ERROR


@SCHEMES
async def test_streams_of_both_sides_have_different_numbers(
    options: QuicOptions, scheme: str
) -> None:
    async with lent(options, scheme) as each:
        kernels = each.lease.take_stream_number() * 4 + 3
        ours = each.transport.open_stream(unidirectional=True)
        assert ours == kernels + 4
        each.transport.send(ours, b"ours", True)
        with pytest.raises(ValueError, match="not begun by the kernel"):
            each.transport.adopt_stream(ours, Bytes(b""), 0, continued=True)
        with pytest.raises(ValueError, match="not begun by the kernel"):
            each.transport.adopt_stream(ours + 4, Bytes(b""), 0, continued=True)
        client = each.pair.client
        await client.wait(lambda: ours in client.finished)
        client.transport.stop(kernels, 5)  # unknown to the client: nothing happens
        assert each.lease.stopped == []


@SCHEMES
async def test_datagrams_say_where_they_came(options: QuicOptions, scheme: str) -> None:
    async with lent(options, scheme) as each:
        places = []
        record = each.pair.server.datagram

        def look(data: bytes) -> None:
            places.append(each.transport.datagram_place)
            record(data)

        each.pair.server.datagram = look  # type: ignore[method-assign]
        for number in range(4):
            assert each.pair.client.transport.send_datagram(bytes([number]))
        server = each.pair.server
        await server.wait(lambda: len(server.datagrams) == 4)
        assert [place[1] for place in places if place] == [0, 1, 2, 3]
        assert each.transport.datagram_place is None


@pytest.mark.parametrize(
    ("host", "bind"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::"), ("::1", "::")]
)
async def test_both_ends_of_the_path(options: QuicOptions, host: str, bind: str) -> None:
    async with lent(options, host=host, bind=bind) as each:
        state = each.transport.engine.send_state()
        assert state is not None
        assert state.local == (host, each.pair.endpoint.address[1])
        assert state.remote[0] == host
        assert state.remote == each.pair.server.negotiated.peer
        assert state.packet_size == 1200


async def test_somebody_hears_of_each_batch_before_it_is_handled(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        heard: list[int] = []
        server = pair.server
        pair.endpoint.before_batch = lambda _now: heard.append(len(server.datagrams))
        pair.client.transport.send_datagram(b"one")
        await server.wait(lambda: server.datagrams)
        assert heard[0] == 0
        before = len(heard)
        pair.client.transport.send_datagram(b"two")
        await server.wait(lambda: len(server.datagrams) == 2)
        assert 1 in heard[before:]


async def test_what_fails_before_a_batch_does_not_stop_it(
    options: QuicOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with session_pair(options) as pair:

        def fail(_now: float) -> None:
            raise OSError("the maps are gone")

        pair.endpoint.before_batch = fail
        pair.client.transport.send_datagram(b"one")
        await pair.server.wait(lambda: pair.server.datagrams)
        assert "the maps are gone" in caplog.text


async def test_packets_of_the_kernels_that_nobody_acknowledges_are_probed(
    options: QuicOptions,
) -> None:
    async with lent(options) as each:
        loop = asyncio.get_running_loop()
        reports = np.zeros(1, REPORT.dtype)
        reports["packet_number"] = each.lease.take_packet_number()
        reports["time"], reports["size"] = round(loop.time() * 1e9), 900
        reports["sequence"], reports["position"] = 77, 4
        assert each.lease.account.live == 0
        each.ledger.record(in_ring(reports))
        assert each.lease.account.live == 1
        await asyncio.wait_for(each.lease.told.wait(), 60)
        assert each.lease.lost == [(77, 4)]
        assert each.lease.account.bytes_in_flight == 0


async def test_options_of_the_fast_path(options: QuicOptions) -> None:
    changed = replace(options, fast_path=True, prefer_chacha20=False)
    async with session_pair(changed) as pair:
        assert isinstance(pair.server.transport, QuicTransport)
        assert pair.server.transport.cipher_suite == "CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_datagrams_are_not_cut_into_fragments(host: str) -> None:
    sock = udp.bind(host, 0, receive_buffer=65536, send_buffer=65536)
    try:
        udp.forbid_fragments(sock)
        if ":" in host:
            assert sock.getsockopt(socket.IPPROTO_IPV6, 23) == 3
        if host != "::1":
            assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3
    finally:
        sock.close()


async def test_an_endpoint_without_a_socket_has_no_address(options: QuicOptions) -> None:
    endpoint = Endpoint(options, lambda *_: None)  # type: ignore[arg-type,return-value]
    assert endpoint.local_address(("192.0.2.1", 1)) == ("", 0)
