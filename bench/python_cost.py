"""What Python does for an upstream packet that the kernel has forwarded, by number of members.

Offline: the relay's core beside the kernel in memory of its unit tests, and the forwarder on maps
in memory beside the programs' stand-in. Of the copies there is a report each, which is entered
into the ledger; that is given apart, as it cannot be independent of their number.
So are acknowledgements, one of each member for each packet, that the kernel has read: what the
engines are told of them once a second is not in it; and the keystreams for as many packets to come,
which OpenSSL makes. The delivery part measures all together.

``python -m bench.python_cost``: what one acknowledgement costs, a table for docs/congestion.md.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.forwarder import Forwarder
from fastrelay.fastpath.ports import LinkTerms, MemberTerms
from fastrelay.quic.ledger import Ledger
from fastrelay.relay.options import Limits, RelayOptions

MEMBERS = (1, 100, 1000)
ACKNOWLEDGING = (1, 10, 50, 100)
ACKNOWLEDGEMENTS = 100
"""Of each of those members."""
PACKETS_AND_MEMBERS = 200
"""The stand-in for the programs needs about a millisecond for a copy."""
LEAST_PACKETS = 12
BATCH = 8
"""Packets that are read one after another."""
_POLLUTION = bytearray(16 << 20)
CHUNK = 100
CHANNEL = 7

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))


def measure() -> dict[str, dict[str, float]]:
    """Microseconds of process time, by number of members; the median of many packets."""
    found = {}
    gc.disable()
    try:
        for members in MEMBERS:
            intent, reports, keystreams = forwarder_us(members)
            core = core_us(members)
            found[str(members)] = {
                "forwarder": intent,
                "core": core,
                "together": intent + core,
                "with reports": intent + core + reports,
                "all keystreams": keystreams,
                "all acknowledgements": acknowledgements_us(members),
            }
            gc.collect()
    finally:
        gc.enable()
    return found


def empty_caches() -> None:
    """Members' stand-ins, which run between batches, drive out of the processor's caches what the
    next batch needs: many do, a single one does not. So that all begin alike, nothing is left."""
    _POLLUTION[:] = bytes(len(_POLLUTION))


def forwarder_us(members: int) -> tuple[float, float, float]:
    """Of reading a packet's intent from the ring, of the reports of its copies, and of making
    keystreams for those to come."""
    from unit.fastpath.kernel import Chunk, Kernel, run
    from unit.fastpath.stand_ins import Engine, Stream

    # The stand-in is slow: by its clock a packet takes a millisecond, however many members.
    now = 1000.0
    kernel = Kernel(clock=lambda: now)
    forwarder = Forwarder(kernel.maps, Ledger())
    publisher = forwarder.register(Engine(0), LinkTerms())
    track = forwarder.open_track(publisher, CHANNEL)
    assert track is not None
    terms = MemberTerms(None, None, 0, (1 << 64) - 1, 128)
    for number in range(members):
        assert track.add(forwarder.register(Engine(1 + number), LinkTerms()), terms, owner=None)
    track.publish()
    intents: list[float] = []
    reports: list[float] = []
    keystreams: list[float] = []

    def spend(spent: list[float], work: Callable[[], None]) -> None:
        empty_caches()
        begin = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - begin) / 1e3 / BATCH)

    def drain() -> None:
        forwarder.drain(now)

    for number in range(max(PACKETS_AND_MEMBERS // members, LEAST_PACKETS) * BATCH):
        now += 0.001
        chunk = Chunk(2, number * CHUNK, (number + 1) * CHUNK, False, CHANNEL, 3)
        run(kernel.receive(publisher.index, 10 + number, [chunk]))
        if number % BATCH != BATCH - 1:
            continue
        spend(intents, drain)
        for clone in kernel.wire:
            run(kernel.send(clone))
        kernel.wire.clear()
        spend(reports, drain)
        spend(keystreams, forwarder.renew_keystreams)
        if number == BATCH - 1:
            loan: Any = forwarder.loan(publisher, 2)
            forwarder.bind(loan, Stream())
        loan.uncovered(0, (number + 1) * CHUNK, False)
    return statistics.median(intents), statistics.median(reports), statistics.median(keystreams)


def acknowledgements_us(
    members: int, packets: int = LEAST_PACKETS, before: Callable[[], None] = empty_caches
) -> float:
    """Of one of each member that is read from the kernel's ring."""
    from unit.fastpath.kernel import Kernel
    from unit.fastpath.stand_ins import Engine

    now = 1000.0
    kernel = Kernel(clock=lambda: now)
    forwarder = Forwarder(kernel.maps, Ledger())
    links = [forwarder.register(Engine(number), LinkTerms()) for number in range(members)]
    spent: list[float] = []
    report, ack = np.zeros((), layout.REPORT.dtype), np.zeros((), layout.ACK.dtype)
    for number in range(packets):
        now += 0.1
        report["packet_number"] = ack["packet_number"] = number
        report["time"], report["size"] = int((now - 0.01) * 1e9), 1200
        ack["time"], ack["first"], ack["largest"] = int(now * 1e9), number, number
        for link in links:
            report["connection"] = link.index
            _submit(kernel.reports, report)
        forwarder.drain(now)
        for link in links:
            ack["connection"], ack["generation"] = link.index, link.generation
            _submit(kernel.acks, ack)
            kernel.maps.connections.rows[link.index]["acks"] += 1
        before()
        begin = time.process_time_ns()
        forwarder.hear()
        spent.append((time.process_time_ns() - begin) / 1e3)
    assert all(link.account.live == 0 for link in links)
    return statistics.median(spent)


def _submit(ring: Any, record: Any) -> None:
    place = ring.reserve()
    assert place is not None
    ring.submit(place, record)


def core_us(members: int) -> float:
    """Of reading an object that begins no stream and ends none."""
    from unit.relay.fake_kernel import FastWorld

    world = FastWorld(RelayOptions(limits=Limits(sessions=members + 10)))
    publisher, viewers = world.live(members)
    world.clients.remove(publisher)
    stream = publisher.open(5)
    spent: list[float] = []
    for number in range(LEAST_PACKETS * BATCH):
        publisher.session.send(stream.stream_id, stream.encode(number), False)
        if number % BATCH != BATCH - 1:
            continue
        link = publisher.relay_end.link
        batch = list(publisher.end.queue)
        publisher.end.queue.clear()
        for method, values in batch:
            world.kernel.packet(link, method, values)
        empty_caches()
        begin = time.process_time_ns()
        world.relay.read_reports(world.clock.now)
        for method, values in batch:
            getattr(publisher.relay_session, method)(*values)
        spent.append((time.process_time_ns() - begin) / 1e3 / BATCH)
        world.clients.append(publisher)
        world.tick()
        world.clients.remove(publisher)
    assert all(viewer.ids == viewers[0].ids for viewer in viewers)
    return statistics.median(spent)


def main() -> None:
    print("| members | empty | warm |\n|---|---:|---:|")
    gc.disable()
    for members in ACKNOWLEDGING:
        spent = [
            acknowledgements_us(members, ACKNOWLEDGEMENTS, before) / members
            for before in (empty_caches, _nothing)
        ]
        print(f"| {members} | {' | '.join(f'{each:.3g}' for each in spent)} |")


def _nothing() -> None: ...


if __name__ == "__main__":
    main()
