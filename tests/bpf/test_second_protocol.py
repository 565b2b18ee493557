"""Both programs with another protocol: nothing outside of one header file knows MoQT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.bytecode import BPF
from bpf.egress import sealed, sent_datagram, sent_stream, wire
from bpf.harness import TC_ACT_UNSPEC, Datapath
from bpf.packets import datagram_frame, stream_frame
from bpf.scenario import Scenario
from fastrelay.fastpath.layout import Reason

HERE = Path(__file__).parent
pytestmark = [pytest.mark.kernels, pytest.mark.parametrize("family", [4, 6])]
CHANNEL, RENAMED = 0xC7, 0x09
"""By the publisher; by the relay, towards the second of two members."""
STREAM, SENT_STREAM = 2, 3
PREFIXES = (b"", b"\x40\x54\x04")
MOQT = re.compile("(?<!read_)moqt|subgroup|object_datagram|alias", re.IGNORECASE)
"""Its integers are in varint.h, beside QUIC's."""
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


@pytest.fixture(scope="module")
def programs(datapath: Datapath) -> Iterator[Datapath]:
    """A's clones go through B."""
    for program in ("server_ingress.c", "client_egress.c"):
        datapath.load(program, protocol="protocol_tiny.h", include=[HERE])
    with datapath.attached("client_egress"):
        yield datapath


class World:
    """A publisher and two members: one takes everything as it is, one has templates."""

    def __init__(self, scenario: Scenario, prefix: bytes = b"") -> None:
        self.datapath = scenario.datapath
        self.publisher, self.sinks = scenario.simple(
            2, CHANNEL, prefix=prefix, datagram_prefix=prefix
        )
        template = (bytes([RENAMED]), b"")
        scenario.member(2, self.sinks[1], 0, stream=template, datagram=template)

    def forwards(self, frame: bytes, *expected: bytes) -> None:
        """A frame of the publisher's; what each of the members has to get for it."""
        number = self.publisher.next_number  # no other packets than these, either way
        assert self.give(frame) == [
            wire(sink.path, sealed(sink, number, [each]))
            for sink, each in zip(self.sinks, expected, strict=True)
        ]

    def give(self, frame: bytes) -> list[bytes]:
        packet = self.publisher.packet(frame)
        result = self.datapath.run("server_ingress", packet)
        assert (result.action, result.data) == (TC_ACT_UNSPEC, packet)
        return [each.data for each in self.datapath.captured()]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_streams(scenario: Scenario, programs: Datapath, prefix: bytes) -> None:
    """The first frame is rewritten; those that follow are where the shorter head leaves them."""
    world = World(scenario, prefix)
    first, renamed = prefix + bytes([CHANNEL]) + b"first", bytes([RENAMED]) + b"first"
    at, sent_at = len(first), len(renamed)
    world.forwards(
        stream_frame(STREAM, first),
        sent_stream(SENT_STREAM, first),
        sent_stream(SENT_STREAM, renamed),
    )
    world.forwards(
        stream_frame(STREAM, b"last", at, fin=True),
        sent_stream(SENT_STREAM, b"last", at, fin=True),
        sent_stream(SENT_STREAM, b"last", sent_at, fin=True),
    )
    assert [int(each["frames"][0]["ordinal"]) for each in programs.intents()] == [0, 0]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_datagrams(scenario: Scenario, programs: Datapath, prefix: bytes) -> None:
    data, renamed = prefix + bytes([CHANNEL]) + b"media", bytes([RENAMED]) + b"media"
    world = World(scenario, prefix)
    world.forwards(datagram_frame(data), sent_datagram(data), sent_datagram(renamed))


@pytest.mark.parametrize(
    ("data", "reason"),
    [(bytes([CHANNEL + 1]) + b"media", Reason.A_UNKNOWN_TRACK), (b"", Reason.A_BAD_HEAD)],
)
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_slow_path(
    scenario: Scenario, programs: Datapath, kind: str, data: bytes, reason: Reason
) -> None:
    """The packet goes on to the relay as it came, and nothing else happens."""
    frame = stream_frame(STREAM, data, fin=True) if kind == "stream" else datagram_frame(data)
    assert World(scenario).give(frame) == []
    assert not programs.intents().size
    assert programs.counters() == {reason: 1, Reason.C_SHORT_KNOWN: 1}


def test_one_header_knows_moqt(family: int) -> None:
    """Comments aside."""
    knows = {path.name for path in BPF.iterdir() if MOQT.search(COMMENT.sub("", path.read_text()))}
    assert knows == {"protocol_moqt.h"}
