"""Where somebody else forwards, what arrives is read in few batches, and soon enough."""

from __future__ import annotations

import asyncio

from fastrelay.quic.ledger import Ledger
from fastrelay.quic.options import QuicOptions
from unit.quic.peers import Recorder, session_pair

APART = 0.005


async def send(sender: Recorder, receiver: Recorder, content: bytes) -> None:
    stream = sender.transport.open_stream(unidirectional=True)
    sender.transport.send(stream, content, fin=True)
    await receiver.wait(lambda: stream in receiver.finished)
    assert receiver.streams[stream] == content


async def test_few_batches_where_the_kernel_forwards(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        endpoint, loop = pair.endpoint, asyncio.get_running_loop()
        assert not endpoint.is_patient
        endpoint.watch(Ledger())
        await send(pair.client, pair.server, bytes(2000))
        assert endpoint.is_patient
        batches: list[float] = []
        endpoint.before_batch = batches.append
        begin, before = loop.time(), endpoint.counters.datagrams_received
        for number in range(200):
            pair.client.transport.send_datagram(b"%d" % number)
            await asyncio.sleep(0)
        await send(pair.client, pair.server, b"last")
        seconds = loop.time() - begin
        datagrams = endpoint.counters.datagrams_received - before
        assert len({*pair.server.datagrams}) == 200
        # And as many for timers at most, which come between two batches.
        assert len(batches) <= 2 * (seconds / APART + datagrams / 64 + 2)


async def test_nobody_waits_for_what_user_space_forwards(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        assert pair.endpoint.is_patient
        await send(pair.server, pair.client, bytes(20_000))
        assert not pair.endpoint.is_patient


async def test_it_goes_on_after_a_pause_of_the_peer(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        for size in (10, 100_000, 10):
            await send(pair.client, pair.server, bytes(size))
            async with asyncio.timeout(5):
                while pair.endpoint._reading is not None:  # noqa: ASYNC110
                    await asyncio.sleep(APART)


async def test_an_endpoint_closes_while_it_waits(options: QuicOptions) -> None:
    async with session_pair(options) as pair:
        pair.endpoint.watch(Ledger())
        await send(pair.client, pair.server, b"so that there is something to be read")
        await pair.endpoint.close()
        assert pair.endpoint._reading is None
