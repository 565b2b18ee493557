"""An engine that lends itself, and a clock that lets programs run while somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastrelay.fastpath import connections, forwarder, loans, rings, tables, tracks
from fastrelay.quic.lease import Credit, Heard, Lease, PacketKeys, ReceiveState, Row, SendState

if TYPE_CHECKING:
    import pytest  # benchmarks use these, too, and have no pytest


@dataclass
class Engine:
    """What a link asks of an engine. All limits are as good as none, at first."""

    number: int
    lease: Lease | None = None
    fast_reason: str = ""
    window: int = 1 << 40
    data_limit: int = 1 << 40
    stream_number_limit: int = 1 << 40
    packet_size: int = 1200
    is_plaintext: bool = False
    send: SendState | None = None
    receive: ReceiveState | None = None
    given_back: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = bytes([self.number % 256, self.number // 256])
        self.send = SendState(
            dcid=name * 4,
            keys=PacketKeys(name * 16, name * 6),
            hp=name * 16,
            phase=0,
            local=("10.0.0.1", 4443),
            remote=("10.0.1.1", 1024 + self.number),
            packet_size=1200,
            datagram_limit=65536,
            stream_bits=3,
            stream_data_limit=1 << 40,
        )
        self.receive = ReceiveState(
            cids=(name * 4,),
            cid=name * 4,
            hp=name * 16,
            phase=0,
            current=PacketKeys(name * 16, name * 6),
            following=None,
            previous=None,
            phase_start=0,
            largest=7,
            stream_next=0,
        )

    def lend(self, lease: Lease | None) -> None:
        if lease is None:
            assert self.lease is not None
            self.given_back.append(
                (self.lease.next_packet_number(), self.lease.next_stream_number())
            )
        self.lease = lease

    def send_state(self) -> SendState | None:
        return self.send

    def receive_state(self) -> ReceiveState | None:
        return self.receive

    @property
    def largest_received(self) -> int:
        assert self.receive is not None
        return self.receive.largest

    def on_acknowledgements(self, heard: Heard) -> None:
        self.acknowledged.append(heard)

    def credit(self) -> Credit:
        return Credit(
            next_packet_number=100,
            next_stream_number=5,
            data_used=0,
            data_limit=self.data_limit,
            stream_number_limit=self.stream_number_limit,
            congestion_window=self.window,
            own_in_flight=0,
            packet_size=self.packet_size,
        )


class Clock:
    """In the place of :mod:`time`: who asks what time it is gives others a chance to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.now = 1000.0
        self.tick = 1e-6
        self.meanwhile: Callable[[], None] = lambda: None
        if monkeypatch is not None:
            for module in (connections, forwarder, loans, rings, tables, tracks):
                monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        self.now += self.tick
        self.meanwhile()
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SharedWords:
    """A map's words: whoever looks at them gives others a chance to run before and after."""

    def __init__(self, words: memoryview[int], meanwhile: Callable[[], None]) -> None:
        self._words = words
        self._meanwhile = meanwhile

    def __getitem__(self, at: Any) -> Any:
        self._meanwhile()
        found = self._words[at]
        self._meanwhile()
        return found

    def __setitem__(self, at: int, value: int) -> None:
        self._meanwhile()
        self._words[at] = value
        self._meanwhile()


class Stream:
    """A borrower that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def missed(self, position: int, start: int, stop: int, fin: bool) -> None:
        self.told.append(("missed", position, start, stop, fin))

    def refused(self, position: int, outcome: int) -> None:
        self.told.append(("refused", position, outcome))

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        self.told.append(("lost", position, start, stop, fin))

    def stopped(self, position: int, code: int) -> None:
        self.told.append(("stopped", position, code))

    def settled(self) -> None:
        self.told.append(("settled",))


class Datagram:
    def __init__(self) -> None:
        self.told: list[int] = []

    def missed(self, position: int) -> None:
        self.told.append(position)


__all__ = ["Clock", "Datagram", "Engine", "Row", "SharedWords", "Stream"]
