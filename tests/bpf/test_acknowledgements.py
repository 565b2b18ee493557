"""Program A takes acknowledgements that are alone in a packet, and leaves all others alone."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from bpf import packets
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Datapath
from bpf.ingress import Ingress
from bpf.packets import ack_frame, datagram_frame, object_datagram, stream_frame, subgroup_header
from bpf.scenario import Peer, Scenario, route_key
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import ConnectionState, Reason

pytestmark = pytest.mark.parametrize("family", [4, 6])
NEXT = 2000
"""Our packet number that comes next."""
FLOOR = 1000
CHANNEL = 7
DATAGRAM = datagram_frame(object_datagram(CHANNEL, 1))


class Acks:
    """A member's connection, and what becomes of its packets."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.datapath: Datapath = scenario.datapath
        self.peer = scenario.connect(3, packet_number=NEXT)
        row = self.row
        row["ack_cid"] = route_key(self.peer.cid)
        row["ack_floor"] = FLOOR
        row["ack_bytes"] = 1 << 40
        self._counted: Counter[Reason | int] = Counter()

    @property
    def row(self) -> Any:
        return self.datapath.view("connections")[3]

    def send(self, *frames: bytes, peer: Peer | None = None, **how: Any) -> dict[Any, int]:
        """What was counted."""
        packet = (peer or self.peer).packet(b"".join(frames), **how)
        result = self.datapath.run("server_ingress", packet)
        counted = Counter(self.datapath.counters())
        grown = {
            reason: number
            for reason, number in (counted - self._counted).items()
            if reason < Reason.C_LONG_INITIAL
        }
        self._counted = counted
        taken = grown.get(Reason.A_ACK, 0)
        assert result.action == (TC_ACT_SHOT if taken else TC_ACT_UNSPEC)
        assert result.data == packet
        return grown

    def told(self) -> list[tuple[int, int, int, int, int, int]]:
        """Records: the peer's number, first, largest, delay, connection, generation."""
        fields = ("packet_number", "first", "largest", "delay", "connection", "generation")
        return [tuple(int(each[name]) for name in fields) for each in self.datapath.acks()]  # type: ignore[misc]


@pytest.fixture
def acks(scenario: Scenario, server_ingress: Datapath) -> Acks:
    return Acks(scenario)


def test_an_acknowledgement_ends_here(acks: Acks) -> None:
    before = time.monotonic_ns()
    assert acks.send(ack_frame(1500, 77, first=600), packet_number=40) == {Reason.A_ACK: 1}
    assert acks.row["acks"] == 1
    (record,) = acks.datapath.acks()
    assert before <= record["time"] <= time.monotonic_ns()
    assert acks.send(ack_frame(1999, first=1500), packet_number=41) == {Reason.A_ACK: 1}
    assert acks.told() == [(41, 499, 1999, 0, 3, 1)]


@pytest.mark.parametrize("number_length", [1, 2, 3, 4])
def test_numbers_of_every_size(acks: Acks, number_length: int) -> None:
    acks.row["rx_largest"] = 70_000
    sent = acks.send(ack_frame(1500, first=900), packet_number=70_001, number_length=number_length)
    assert sent == {Reason.A_ACK: 1}
    assert acks.told()[0][0] == 70_001


def test_what_nobody_waits_for_any_more(acks: Acks) -> None:
    """All of it is below the floor; it still counts as something that the peer sent."""
    assert acks.send(ack_frame(30, first=2)) == {Reason.A_ACK: 1}
    assert acks.told()[0][1:3] == (28, 30)


@pytest.mark.parametrize("count", [1, 5, 32])
def test_ranges_below_the_floor(acks: Acks, count: int) -> None:
    assert acks.send(ack_frame(1500, ranges=((3, 4),) * count, first=501)) == {Reason.A_ACK: 1}
    assert acks.told()[0][1:3] == (999, 1500)


def test_more_ranges_than_are_looked_at(acks: Acks) -> None:
    assert acks.send(ack_frame(1500, ranges=((3, 4),) * 33, first=501)) == {Reason.A_NO_MEDIA: 1}


@pytest.mark.parametrize("padding", [0, 1, 16])
def test_padding(acks: Acks, padding: int) -> None:
    assert acks.send(ack_frame(1500, first=600), bytes(padding)) == {Reason.A_ACK: 1}
    assert acks.send(ack_frame(1501, first=600), bytes(17)) == {Reason.A_NO_MEDIA: 1}


UNUSUAL = {
    "a hole above the floor": ack_frame(1500, first=499),
    "never sent": ack_frame(NEXT, first=NEXT),
}


@pytest.mark.parametrize("frame", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_user_space_looks_at_what_is_unusual(acks: Acks, frame: bytes) -> None:
    assert acks.send(frame) == {Reason.A_ACK_UNUSUAL: 1}
    assert not acks.told()
    assert acks.row["acks"] == 0


OTHERS = {
    "with ECN counts": ack_frame(1500, first=600, ecn=(1, 2, 3)),
    "two of them": ack_frame(1500, first=600) * 2,
    "with PING": ack_frame(1500, first=600) + b"\x01",
    "PADDING before it": b"\0" + ack_frame(1500, first=600),
    "PING": b"\x01",
    "PADDING": bytes(8),
    "with a stream of ours": ack_frame(1500, first=600) + stream_frame(3, b"x"),
}


@pytest.mark.parametrize("payload", OTHERS.values(), ids=OTHERS.keys())
def test_others_are_not_touched(acks: Acks, payload: bytes) -> None:
    assert acks.send(payload) == {Reason.A_NO_MEDIA: 1}
    assert not acks.told()


MALFORMED = {
    "cut short": ack_frame(1500, first=600)[:-1],
    "a range below 0": ack_frame(1500, ranges=((900, 0),), first=600),
    "the first range below 0": ack_frame(10, first=11),
    "fewer ranges than said": ack_frame(1500, ranges=((1, 1), (1, 1)), first=600)[:-1],
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_user_spaces(acks: Acks, payload: bytes) -> None:
    counted = acks.send(payload)
    assert Reason.A_ACK not in counted
    assert not acks.told()


def test_media_behind_an_acknowledgement(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(2)
    row = ingress.datapath.view("connections")[publisher.index]
    row["ack_cid"], row["ack_floor"], row["ack_bytes"] = route_key(publisher.cid), 0, 1 << 40
    row["packet_number"] = 10
    head = subgroup_header(CHANNEL, 5)
    seen = ingress.frames(publisher, ack_frame(5, first=5), stream_frame(2, head))
    assert seen.positions() == [0, 1]
    assert seen.counted[Reason.A_FORWARDED] == 1
    assert not len(ingress.datapath.acks())


def test_only_to_the_id_in_use(acks: Acks) -> None:
    acks.row["ack_cid"] = 0
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_NO_MEDIA: 1}
    acks.row["ack_cid"] = route_key(b"another!")
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_NO_MEDIA: 1}


def test_only_on_the_path(acks: Acks) -> None:
    acks.row["remote_port"] += 256
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_WRONG_PATH: 1}


def test_only_while_the_connection_is_read(acks: Acks) -> None:
    acks.row["state"] = ConnectionState.SEND
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_NOT_RECEIVING: 1}


def test_only_in_the_phase_that_user_space_is_in(acks: Acks) -> None:
    acks.scenario.receive_keys(acks.peer, 1, phase_start=50)
    for generation, number in ((0, 49), (2, 51)):
        counted = acks.send(ack_frame(1500, first=600), packet_number=number, generation=generation)
        assert counted == {Reason.A_ACK_UNUSUAL: 1}
    assert acks.send(ack_frame(1500, first=600), packet_number=52, generation=1) == {
        Reason.A_ACK: 1
    }
    acks.scenario.receive_keys(acks.peer, 1, phase_start=(1 << 62) - 1)
    assert acks.send(ack_frame(1500, first=600), packet_number=53, generation=1) == {
        Reason.A_ACK_UNUSUAL: 1
    }


def test_once(acks: Acks) -> None:
    frame = ack_frame(1500, first=600)
    assert acks.send(frame, packet_number=9) == {Reason.A_ACK: 1}
    assert acks.send(frame, packet_number=9) == {Reason.A_REPLAY: 1}
    assert len(acks.told()) == 1


def test_when_credit_runs_short(acks: Acks) -> None:
    acks.row["bytes_sent"] = 10_000
    acks.row["ack_bytes"] = 9_999
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK_CREDIT: 1}
    acks.row["ack_bytes"] = 10_000
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK: 1}
    acks.row["packet_number_limit"] = NEXT + layout.ACK_NUMBERS - 1
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK_CREDIT: 1}
    acks.row["packet_number_limit"] = NEXT + layout.ACK_NUMBERS
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK: 1}


def test_a_ring_that_nobody_reads(acks: Acks) -> None:
    """From half of it on packets go to user space, and none is lost."""
    stride = layout.ACK.dtype.itemsize + 8
    room = layout.ACKS_BYTES // 2 // stride + 1
    acks.datapath.acks()
    counted: Counter[Any] = Counter()
    for _ in range(room):
        counted.update(acks.send(ack_frame(1500, first=600)))
    assert counted == {Reason.A_ACK: room}
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK_RING_FULL: 1}
    assert len(acks.told()) == room
    assert acks.send(ack_frame(1500, first=600)) == {Reason.A_ACK: 1}


def test_not_of_several_packets(acks: Acks) -> None:
    """A GSO packet ends here only as a whole, so it does not."""
    one = acks.peer.datagram(ack_frame(1500, first=600))
    two = acks.peer.datagram(ack_frame(1501, first=600))
    packet = packets.packet(acks.peer.path, one + two)
    result = acks.datapath.run("server_ingress", packet, gso_size=len(one))
    assert result.action == TC_ACT_UNSPEC
    assert acks.datapath.counters()[Reason.A_NO_MEDIA] == 2
    assert not acks.told()


@pytest.mark.parametrize("payload", [ack_frame(1500, first=600)])
def test_without_protection(scenario: Scenario, server_ingress: Datapath, payload: bytes) -> None:
    made = Acks(scenario)
    made.peer = scenario.connect(3, packet_number=NEXT, plaintext=True)
    made.row["ack_cid"] = route_key(made.peer.cid)
    made.row["ack_floor"], made.row["ack_bytes"] = FLOOR, 1 << 40
    assert made.send(payload) == {Reason.A_ACK: 1}
