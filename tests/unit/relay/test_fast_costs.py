"""What Python does for an upstream packet does not grow with the number of members."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import fastrelay
from fastrelay.relay.options import Limits, RelayOptions
from unit.relay.fake_kernel import FastEnd, FastWorld
from unit.relay.harness import Client

pytestmark = pytest.mark.no_cover
PACKAGE = fastrelay.__path__[0]


def instructions(act: Callable[[], Any]) -> int:
    """Bytecode instructions that the project's own functions execute."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


class Costs:
    """Of a stream's beginning, of one more packet of it, of its end, and of a datagram."""

    def __init__(self, members: int) -> None:
        self.world = FastWorld(RelayOptions(limits=Limits(sessions=members + 10)))
        self.publisher, self.viewers = self.world.live(members)
        self.world.clients.remove(self.publisher)
        for group in range(2):
            self.publisher.group(group, 2)
            self.settle()
        stream = self.publisher.open(5)
        raw = [stream.encode(number) for number in range(2)]
        self.send(stream.stream_id, raw[0])
        self.begin = self.measure()
        self.settle()
        self.send(stream.stream_id, raw[1])
        self.packet = self.measure()
        self.settle()
        self.send(stream.stream_id, b"", True)
        self.end = self.measure()
        self.settle()
        self.publisher.datagram(7, 0)
        self.datagram = self.measure()
        self.settle()

    def send(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        self.publisher.session.send(stream_id, data, fin)

    def settle(self) -> None:
        self.world.clients.append(self.publisher)
        self.world.tick()
        self.world.clients.remove(self.publisher)

    def measure(self) -> int:
        """Deliver what the publisher has sent to the relay."""
        end = self.publisher.relay_end
        assert isinstance(end, FastEnd)
        assert self.publisher.end.queue
        kernel, link = self.world.kernel, end.link
        assert link is not None
        batch = list(self.publisher.end.queue)
        self.publisher.end.queue.clear()
        for method, values in batch:
            kernel.packet(link, method, values)

        def deliver() -> None:
            self.world.relay.read_reports(self.world.clock.now)
            for method, values in batch:
                if method == "datagram":
                    end.datagram_place = link.packet_number, 0
                getattr(self.publisher.relay_session, method)(*values)
                end.datagram_place = None

        return instructions(deliver)

    @property
    def all(self) -> tuple[int, ...]:
        return self.begin, self.packet, self.end, self.datagram


def check(viewers: list[Client]) -> None:
    assert all(c.ids == viewers[0].ids and len(c.ids) == 7 for c in viewers)


def test_flat() -> None:
    one, hundred, thousand = (Costs(members) for members in (1, 100, 1000))
    for costs in (one, hundred, thousand):
        check(costs.viewers)
    assert one.all == hundred.all == thousand.all
    assert 0 < thousand.packet < 2000
