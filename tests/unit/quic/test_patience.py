"""Where somebody else forwards, what arrives is read in few batches, and soon enough."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import time

import pytest

from fastrelay.quic.ledger import Ledger
from fastrelay.quic.options import QuicOptions
from fastrelay.quic.udp import Datagram
from unit.quic.peers import Recorder, session_pair

APART = 0.005


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes is much."""
    monkeypatch.setattr("fastrelay.quic.endpoint._CROWD", 0.0)


async def send_stream(sender: Recorder, receiver: Recorder, content: bytes) -> None:
    stream = sender.transport.open_stream(unidirectional=True)
    sender.transport.send(stream, content, fin=True)
    await receiver.wait(lambda: stream in receiver.finished)
    assert receiver.streams[stream] == content


@pytest.mark.usefixtures("crowd")
async def test_few_batches_where_the_kernel_forwards(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        endpoint, loop = pair.endpoint, asyncio.get_running_loop()
        assert not endpoint.is_patient
        endpoint.watch(Ledger())
        await send_stream(pair.client, pair.server, bytes(2000))
        assert endpoint.is_patient
        batches: list[float] = []
        endpoint.before_batch = batches.append
        begin, before = loop.time(), endpoint.counters.datagrams_received
        for number in range(200):
            pair.client.transport.send_datagram(b"%d" % number)
            await asyncio.sleep(0)
        await send_stream(pair.client, pair.server, b"last")
        seconds = loop.time() - begin
        datagrams = endpoint.counters.datagrams_received - before
        assert len({*pair.server.datagrams}) == 200
        # And as many for timers at most, which come between two batches.
        assert len(batches) <= 2 * (seconds / APART + datagrams / 64 + 2)


@pytest.mark.usefixtures("crowd")
async def test_nobody_waits_for_what_user_space_forwards(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        await send_stream(pair.client, pair.server, b"one of many")
        assert pair.endpoint.is_patient
        await send_stream(pair.server, pair.client, bytes(20_000))
        assert not pair.endpoint.is_patient


async def test_few_wake_the_process_alone(
    options: QuicOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastrelay.quic.endpoint._CROWD", math.inf)
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        for _ in range(3):
            await send_stream(pair.client, pair.server, bytes(2000))
            assert not pair.endpoint.is_patient
            assert pair.endpoint._reading is None


async def test_a_crowd_is_counted(options: QuicOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrelay.quic.endpoint._CROWD", 1000.0)
    async with session_pair(options) as pair:
        endpoint = pair.endpoint
        endpoint.watch(Ledger())
        now = endpoint.loop.time() + 10.0
        with monkeypatch.context() as patch:
            patch.setattr(endpoint.loop, "time", lambda: now)
            for arrived, crowded in ((0, False), (101, True), (99, False)):
                endpoint._handle([(b"", ("127.0.0.1", 1), now)] * arrived, now)
                now += 0.1
                endpoint._handle([], now)
                assert endpoint.is_patient is crowded


@pytest.mark.usefixtures("crowd")
async def test_it_goes_on_after_a_pause_of_the_peer(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        for size in (10, 100_000, 10):
            await send_stream(pair.client, pair.server, bytes(size))
            async with asyncio.timeout(60):
                while pair.endpoint._reading is not None:  # noqa: ASYNC110
                    await asyncio.sleep(APART)


@pytest.mark.usefixtures("crowd")
async def test_an_endpoint_closes_while_it_waits(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        await send_stream(pair.client, pair.server, b"so that there is something to be read")
        await pair.endpoint.close()
        assert pair.endpoint._reading is None


async def test_what_waits_in_the_socket_does_not_lengthen_the_path(options: QuicOptions) -> None:
    """Acknowledgements that are read late, whatever the reason, were on their way no longer."""
    late = 0.1
    async with session_pair(options) as pair:
        socket = pair.connection._endpoint._socket
        assert socket is not None
        send = socket.send

        def send_and_be_in_the_way(datagrams: list[Datagram]) -> None:
            send(datagrams)
            until = time.monotonic() + late
            while datagrams and time.monotonic() < until:
                pass

        socket.send = send_and_be_in_the_way  # type: ignore[method-assign]
        engine = pair.endpoint.connections[0].engine
        # Again for a machine that stands still itself.
        async with asyncio.timeout(60):
            while True:
                before = engine.measurements().smoothed_rtt
                await send_stream(pair.server, pair.client, bytes(30_000))
                statistics = engine.measurements()
                while statistics.bytes_in_flight or statistics.smoothed_rtt == before:
                    await asyncio.sleep(APART)
                    statistics = engine.measurements()
                if statistics.latest_rtt < late:
                    break


async def test_what_waits_in_the_socket_is_not_handled(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        endpoint, loop = pair.endpoint, asyncio.get_running_loop()
        sock = endpoint._socket
        assert sock is not None
        loop.remove_reader(sock.fileno())  # the relay stands still
        while sock.waiting:
            endpoint._read()
        before = loop.time()
        assert endpoint.handled(before) == before
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"for nobody", endpoint.address)
        assert select.select([sock], [], [], 60.0)[0]
        during: list[float] = []
        endpoint.before_batch = lambda now: during.append(endpoint.handled(now))
        assert endpoint.handled(before + 60.0) == before
        while sock.waiting:
            endpoint._read()
        assert during[0] == before
        later = loop.time()
        assert endpoint.handled(later) == later
