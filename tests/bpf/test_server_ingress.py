"""Program A: what it takes of a packet, what it tells, whom it copies it for."""

from __future__ import annotations

import pytest

from bpf import packets
from bpf.ingress import Ingress, stream_told, told
from bpf.packets import datagram_frame, object_datagram, stream_frame, subgroup_header
from bpf.scenario import TRACK_PRIORITY, Peer, Scenario
from bpf.wire import Wire
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import FrameKind, Reason, StreamState, Switch

pytestmark = pytest.mark.parametrize("family", [4, 6])
CHANNEL = 7
STREAM = 2
"""A client's first unidirectional stream."""
HEAD = subgroup_header(CHANNEL, 5)


def test_a_stream_goes_to_every_member(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(3)
    data = HEAD + b"object"
    seen = ingress.frames(publisher, stream_frame(STREAM, data), packet_number=41)
    (intent,) = seen.intents
    assert told(intent) == [stream_told(STREAM, 0, len(data))]
    assert intent["packet_number"] == 41
    assert intent["connection"] == publisher.index
    assert intent["frames"][0]["ordinal"] == 5
    assert ingress.data(intent, 0) == data
    assert seen.positions() == [0, 1, 2]
    assert seen.counted == {Reason.A_FORWARDED: 1, Reason.A_FRAMES: 1, Reason.A_CLONES: 3}
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    assert stream["state"] == StreamState.LENT
    assert (stream["ordinal"], stream["next"], stream["final"]) == (5, len(data), 0)
    assert (stream["stream_id"], stream["connection"], stream["track"]) == (STREAM, 0, 0)
    assert intent["frames"][0]["stream"] == stream["sequence"]
    track = ingress.datapath.view("tracks")[0]
    assert (track["packets"], track["bytes"]) == (1, len(data))


def test_a_stream_goes_on_with_the_members_it_began_with(ingress: Ingress) -> None:
    scenario = ingress.scenario
    publisher, sinks = scenario.simple(2)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    scenario.array(1, 0, [sinks[0].index])
    ingress.datapath.view("tracks")[0]["array"] = 1
    older = ingress.frames(publisher, stream_frame(STREAM, b"more", len(HEAD)))
    assert older.positions() == [0, 1]
    newer = ingress.frames(publisher, stream_frame(STREAM + 4, HEAD))
    assert newer.positions() == [0]
    assert newer.intents[0]["array"] == 1


def test_the_end_of_a_stream(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    seen = ingress.frames(publisher, stream_frame(STREAM, b"last", len(HEAD), fin=True))
    assert told(seen.intents[0]) == [stream_told(STREAM, len(HEAD), 4, fin=True)]
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    assert stream["final"] == len(HEAD) + 4 + 1


def test_an_end_without_data(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    seen = ingress.frames(publisher, stream_frame(STREAM, b"", len(HEAD), fin=True))
    assert told(seen.intents[0]) == [stream_told(STREAM, len(HEAD), 0, fin=True)]


def test_a_stream_frame_without_length_ends_with_the_packet(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    data = HEAD + bytes(range(200))
    seen = ingress.frames(publisher, b"\x01", stream_frame(STREAM, data, with_length=False))
    assert ingress.data(seen.intents[0], 0) == data


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_varints_of_every_size_in_frames(ingress: Ingress, size: int) -> None:
    publisher, _ = ingress.scenario.simple(1)
    first = stream_frame(STREAM, HEAD, with_offset=True, sizes=(size, size, size))
    assert told(ingress.frames(publisher, first).intents[0]) == [stream_told(STREAM, 0, len(HEAD))]
    second = stream_frame(STREAM, b"x", len(HEAD), sizes=(size, size, size))
    assert told(ingress.frames(publisher, second).intents[0]) == [stream_told(STREAM, len(HEAD), 1)]


@pytest.mark.parametrize("variant", [0, 1])
def test_heads_with_varints_of_every_size(ingress: Ingress, variant: int) -> None:
    """Both of MoQT's families of varints, each field in every size, also not the shortest."""
    publisher, _ = ingress.scenario.simple(1, variant=variant)
    sizes = (1, 2, 4, 8) if variant == 0 else range(1, 10)
    stream_id = STREAM
    for at in range(3):
        for size in sizes:
            chosen = tuple(size if each == at else None for each in range(3))
            head = subgroup_header(CHANNEL, 9, 1, variant=variant, sizes=chosen)  # type: ignore[arg-type]
            seen = ingress.frames(publisher, stream_frame(stream_id, head))
            assert told(seen.intents[0]) == [stream_told(stream_id, 0, len(head))]
            assert seen.intents[0]["frames"][0]["ordinal"] == 9
            stream = ingress.stream(publisher, stream_id)
            assert stream is not None
            type_and_alias = (
                len(head)
                - len(subgroup_header(0, 9, 1, variant=variant, sizes=(1, *chosen[1:])))
                + 2
            )  # type: ignore[arg-type]
            assert stream["cut"] == type_and_alias
            stream_id += 4


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("group", [0, 63, 64, 127, 128, 16383, 16384, 1 << 21, (1 << 62) - 1])
def test_large_numbers_in_heads(ingress: Ingress, variant: int, group: int) -> None:
    alias = (1 << 62) - 1 - group
    publisher, _ = ingress.scenario.simple(1, alias, variant=variant)
    head = subgroup_header(alias, group, variant=variant)
    seen = ingress.frames(publisher, stream_frame(STREAM, head))
    assert seen.intents[0]["frames"][0]["ordinal"] == group


@pytest.mark.parametrize("priority", [None, 0, 200])
@pytest.mark.parametrize("type_bits", [0, 0x01, 0x02, 0x08, 0x40, 0x4B])
@pytest.mark.parametrize("subgroup", [None, 3])
def test_every_form_of_a_subgroup_header(
    ingress: Ingress, subgroup: int | None, type_bits: int, priority: int | None
) -> None:
    publisher, _ = ingress.scenario.simple(1)
    if subgroup is not None:
        type_bits &= ~0x02
    head = subgroup_header(CHANNEL, 6, subgroup, priority, type_bits=type_bits)
    seen = ingress.frames(publisher, stream_frame(STREAM, head))
    assert seen.intents[0]["frames"][0]["ordinal"] == 6
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    wanted = TRACK_PRIORITY if priority is None else priority
    assert stream["priority"] == ingress.slot(seen.intents[0])["frames"][0]["priority"] == wanted


def test_the_first_object_bit_is_not_of_draft_16(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1, variant=0)
    head = subgroup_header(CHANNEL, 6, variant=0, type_bits=0x40)
    seen = ingress.frames(publisher, stream_frame(STREAM, head))
    assert seen.counted == {Reason.A_BAD_HEAD: 1}


def test_what_a_template_replaces(ingress: Ingress) -> None:
    """Prefix, type and alias are cut; the type is kept."""
    prefix = packets.webtransport_stream_prefix(400)
    publisher, _ = ingress.scenario.simple(1, prefix=prefix)
    head = subgroup_header(CHANNEL, 6, sizes=(3, None, None))
    seen = ingress.frames(publisher, stream_frame(STREAM, prefix + head + b"object"))
    assert told(seen.intents[0]) == [stream_told(STREAM, 0, len(prefix + head) + 6)]
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    assert (stream["cut"], stream["keep_at"], stream["keep_length"]) == (
        len(prefix) + 1 + 3,
        len(prefix),
        1,
    )


class TestPrefixAlone:
    """A publisher that sends the prefix in a frame of its own, the head in the next one."""

    PREFIX = packets.webtransport_stream_prefix(4)

    @pytest.fixture
    def publisher(self, ingress: Ingress) -> Peer:
        return ingress.scenario.simple(1, prefix=self.PREFIX)[0]

    def begin(self, ingress: Ingress, publisher: Peer, stream: int) -> None:
        seen = ingress.frames(publisher, stream_frame(stream, self.PREFIX))
        assert not len(seen.intents)
        assert seen.counted == {Reason.A_UNKNOWN_STREAM: 1}

    def test_the_intent_covers_it(self, ingress: Ingress, publisher: Peer) -> None:
        self.begin(ingress, publisher, STREAM)
        at = len(self.PREFIX)
        seen = ingress.frames(publisher, b"\x01", stream_frame(STREAM, HEAD + b"object", at))
        (intent,) = seen.intents
        data = self.PREFIX + HEAD + b"object"
        assert told(intent) == [stream_told(STREAM, 0, len(data))]
        assert ingress.data(intent, 0) == data
        stream = ingress.stream(publisher, STREAM)
        assert stream is not None
        assert (stream["next"], stream["keep_at"]) == (len(data), at)
        more = ingress.frames(publisher, stream_frame(STREAM, b"more", len(data), fin=True))
        assert told(more.intents[0]) == [stream_told(STREAM, len(data), 4, fin=True)]

    def test_in_one_packet(self, ingress: Ingress, publisher: Peer) -> None:
        """And behind the end of another stream."""
        at = len(self.PREFIX)
        first = self.PREFIX + HEAD
        ingress.frames(publisher, stream_frame(STREAM, first))
        seen = ingress.frames(
            publisher,
            stream_frame(STREAM, b"end", len(first), fin=True),
            stream_frame(STREAM + 4, self.PREFIX),
            stream_frame(STREAM + 4, HEAD + b"one", at),
            stream_frame(STREAM + 4, b"two", len(first) + 3),
        )
        (intent,) = seen.intents
        assert told(intent) == [
            stream_told(STREAM, len(first), 3, fin=True),
            stream_told(STREAM + 4, 0, len(first) + 3),
            stream_told(STREAM + 4, len(first) + 3, 3),
        ]
        assert ingress.data(intent, 1) == first + b"one"
        assert ingress.data(intent, 2) == b"two"
        assert seen.counted[Reason.A_UNKNOWN_STREAM] == 1

    def test_several_streams_at_a_time(self, ingress: Ingress, publisher: Peer) -> None:
        streams = [STREAM + 4 * number for number in range(layout.PREFIXED)]
        for stream in streams:
            self.begin(ingress, publisher, stream)
        for stream in reversed(streams):
            seen = ingress.frames(publisher, stream_frame(stream, HEAD, len(self.PREFIX)))
            assert told(seen.intents[0])[0][1] == stream

    def test_there_is_one_chance(self, ingress: Ingress, publisher: Peer) -> None:
        self.begin(ingress, publisher, STREAM)
        at = len(self.PREFIX)
        assert ingress.frames(publisher, stream_frame(STREAM, HEAD[:2], at)).counted == {
            Reason.A_BAD_HEAD: 1
        }
        assert ingress.frames(publisher, stream_frame(STREAM, HEAD, at)).counted == {
            Reason.A_UNKNOWN_STREAM: 1
        }

    def test_it_has_to_come(self, ingress: Ingress, publisher: Peer) -> None:
        seen = ingress.frames(publisher, stream_frame(STREAM, HEAD, len(self.PREFIX)))
        assert seen.counted == {Reason.A_UNKNOWN_STREAM: 1}
        self.begin(ingress, publisher, STREAM + 4)
        seen = ingress.frames(publisher, stream_frame(STREAM, HEAD, len(self.PREFIX)))
        assert seen.counted == {Reason.A_UNKNOWN_STREAM: 1}


def test_streams_of_other_webtransport_sessions_are_left_alone(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1, prefix=packets.webtransport_stream_prefix(4))
    other = packets.webtransport_stream_prefix(8) + HEAD
    assert ingress.frames(publisher, stream_frame(STREAM, other)).counted == {Reason.A_BAD_HEAD: 1}


def test_a_datagram(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(2)
    data = object_datagram(CHANNEL, 11)
    seen = ingress.frames(publisher, datagram_frame(data))
    (intent,) = seen.intents
    assert told(intent) == [(FrameKind.DATAGRAM, 0, 0, len(data), False)]
    assert intent["frames"][0]["ordinal"] == 11
    assert ingress.data(intent, 0) == data
    frame = ingress.slot(intent)["frames"][0]
    assert (frame["cut"], frame["keep"]) == (2, 0 << 4 | 1)
    assert seen.positions() == [0, 1]


def test_a_datagram_without_length_and_with_a_session(ingress: Ingress) -> None:
    prefix = packets.webtransport_datagram_prefix(400)
    publisher, _ = ingress.scenario.simple(1, datagram_prefix=prefix)
    data = prefix + object_datagram(CHANNEL, 11)
    seen = ingress.frames(publisher, datagram_frame(data, with_length=False))
    assert ingress.data(seen.intents[0], 0) == data
    frame = ingress.slot(seen.intents[0])["frames"][0]
    assert (frame["cut"], frame["keep"]) == (len(prefix) + 2, len(prefix) << 4 | 1)


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("type_bits", [0, 0x01, 0x02, 0x03])
@pytest.mark.parametrize("number", [None, 9])
@pytest.mark.parametrize("priority", [None, 7])
def test_every_form_of_a_datagram(
    ingress: Ingress, variant: int, type_bits: int, number: int | None, priority: int | None
) -> None:
    publisher, _ = ingress.scenario.simple(1, variant=variant)
    properties_and_payload = b"\x02\x3c\x05payload"
    data = object_datagram(
        CHANNEL,
        300,
        number,
        properties_and_payload,
        priority,
        variant=variant,
        type_bits=type_bits,
    )
    seen = ingress.frames(publisher, datagram_frame(data))
    assert seen.intents[0]["frames"][0]["ordinal"] == 300
    wanted = TRACK_PRIORITY if priority is None else priority
    assert ingress.slot(seen.intents[0])["frames"][0]["priority"] == wanted


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(object_datagram(CHANNEL, 1, type_bits=0x20, payload=b"\x03"), id="a status"),
        pytest.param(object_datagram(CHANNEL, 1, type_bits=0x10), id="no datagram's type"),
        pytest.param(object_datagram(CHANNEL, 1, type_bits=1, payload=b"\0x"), id="no properties"),
        pytest.param(object_datagram(CHANNEL, 1, type_bits=1, payload=b"\5x"), id="properties cut"),
        pytest.param(object_datagram(CHANNEL, 1 << 60)[:4], id="cut short"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_datagrams_that_are_left_to_user_space(ingress: Ingress, data: bytes) -> None:
    publisher, _ = ingress.scenario.simple(1)
    seen = ingress.frames(publisher, datagram_frame(data), bytes(8))
    assert seen.counted == {Reason.A_BAD_HEAD: 1}


def test_datagrams_are_numbered_by_their_place_in_the_packet(ingress: Ingress) -> None:
    """User space counts all of a packet's DATAGRAM frames, those too that nobody gets."""
    scenario = ingress.scenario
    publisher, sinks = scenario.simple(1)
    scenario.member(9, sinks[0], 1)
    scenario.array(1, 1, [9])
    scenario.track(1, 1, publisher, 8)
    seen = ingress.frames(
        publisher,
        datagram_frame(object_datagram(7, 1)),
        datagram_frame(object_datagram(1000, 1)),
        datagram_frame(object_datagram(8, 1)),
        datagram_frame(object_datagram(8, 2)),
        datagram_frame(object_datagram(7, 3)),
    )
    found = [
        (
            int(intent["array"]),
            [int(frame["index"]) for frame in intent["frames"][: intent["frame_count"]]],
        )
        for intent in seen.intents
    ]
    assert found == [(0, [0]), (1, [2, 3]), (0, [4])]
    assert seen.counted[Reason.A_UNKNOWN_TRACK] == 1


@pytest.mark.parametrize("name", packets.OTHER_FRAMES)
def test_other_frames_are_stepped_over(ingress: Ingress, name: str) -> None:
    publisher, _ = ingress.scenario.simple(1)
    other = packets.OTHER_FRAMES[name]
    alone = ingress.frames(publisher, other, bytes(4))
    assert alone.counted == {Reason.A_NO_MEDIA: 1}
    first = ingress.frames(publisher, other, stream_frame(STREAM, HEAD), other)
    assert told(first.intents[0]) == [stream_told(STREAM, 0, len(HEAD))]


@pytest.mark.parametrize(
    "name",
    [name for name, frame in packets.OTHER_FRAMES.items() if name != "PADDING" and len(frame) > 1],
)
def test_a_frame_cut_short_spoils_the_packet(ingress: Ingress, name: str) -> None:
    publisher, _ = ingress.scenario.simple(1)
    other = packets.OTHER_FRAMES[name]
    for length in range(1, len(other)):
        seen = ingress.frames(publisher, stream_frame(STREAM, HEAD), other[:length])
        if name.startswith("STREAM of") and length >= 2:
            continue
        assert seen.counted == {Reason.A_BAD_FRAME: 1}, length
        assert len(seen.intents) == 0


@pytest.mark.parametrize("unknown", [b"\x21", b"\x40\x41", b"\xac", b"\xaf"])
def test_an_unknown_frame_ends_the_walk(ingress: Ingress, unknown: bytes) -> None:
    publisher, _ = ingress.scenario.simple(1)
    seen = ingress.frames(
        publisher, stream_frame(STREAM, HEAD), unknown, stream_frame(STREAM + 4, HEAD)
    )
    assert told(seen.intents[0]) == [stream_told(STREAM, 0, len(HEAD))]
    assert len(seen.intents) == 1


def test_several_frames_to_one_array_are_one_slot(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(2)
    end = stream_frame(STREAM, HEAD + b"the end", fin=True)
    begin = stream_frame(STREAM + 4, HEAD + b"the next")
    seen = ingress.frames(publisher, packets.OTHER_FRAMES["ACK"], end, b"\x01", begin)
    (intent,) = seen.intents
    assert told(intent) == [
        stream_told(STREAM, 0, len(HEAD) + 7, fin=True),
        stream_told(STREAM + 4, 0, len(HEAD) + 8),
    ]
    assert ingress.data(intent, 0) == HEAD + b"the end"
    assert ingress.data(intent, 1) == HEAD + b"the next"
    assert seen.positions() == [0, 1]


def test_frames_to_several_arrays_are_several_slots(ingress: Ingress) -> None:
    scenario = ingress.scenario
    publisher, sinks = scenario.simple(2)
    scenario.member(9, sinks[1], 1)
    scenario.array(1, 1, [9])
    scenario.track(1, 1, publisher, 8)
    other = subgroup_header(8, 1)
    seen = ingress.frames(
        publisher,
        stream_frame(STREAM, HEAD),
        stream_frame(STREAM + 4, other),
        stream_frame(STREAM + 8, HEAD),
    )
    assert [int(intent["array"]) for intent in seen.intents] == [0, 1, 0]
    assert [seen.positions(at) for at in range(3)] == [[0, 1], [0], [0, 1]]
    assert [ingress.data(intent, 0) for intent in seen.intents] == [HEAD, other, HEAD]
    assert seen.counted == {Reason.A_FORWARDED: 1, Reason.A_FRAMES: 3, Reason.A_CLONES: 5}


def test_a_hole_and_what_fills_it(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    start = len(HEAD)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    ahead = ingress.frames(publisher, stream_frame(STREAM, bytes(10), start + 20))
    assert told(ahead.intents[0]) == [stream_told(STREAM, start + 20, 10)]
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    assert (stream["gap_start"], stream["gap_end"]) == (start, start + 20)
    late = ingress.frames(publisher, stream_frame(STREAM, bytes(20), start))
    assert told(late.intents[0]) == [stream_told(STREAM, start, 20)]
    again = ingress.frames(publisher, stream_frame(STREAM, bytes(20), start))
    assert again.counted == {Reason.A_OUT_OF_ORDER: 1}


def test_more_than_the_hole_is_left_to_user_space(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    start = len(HEAD)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    ingress.frames(publisher, stream_frame(STREAM, bytes(10), start + 20))
    for offset, length in ((start - 1, 5), (start, 21), (start + 19, 2), (start + 20, 10)):
        seen = ingress.frames(publisher, stream_frame(STREAM, bytes(length), offset))
        assert seen.counted == {Reason.A_OUT_OF_ORDER: 1}, (offset, length)


def test_connections_of_either_role(ingress: Ingress) -> None:
    """A relay that is the client of its upstream: the peer's streams are a server's."""
    publisher, _ = ingress.scenario.simple(1, stream_bits=2)
    ours = ingress.frames(publisher, stream_frame(2, HEAD))
    assert ours.counted == {Reason.A_NO_MEDIA: 1}
    theirs = ingress.frames(publisher, stream_frame(3, HEAD))
    assert told(theirs.intents[0]) == [stream_told(3, 0, len(HEAD))]


def test_the_other_family_of_addresses(ingress: Ingress, family: int) -> None:
    """The publisher's; its subscribers have the first one."""
    publisher, _ = ingress.scenario.simple(2, family=10 - family)
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD))
    assert seen.positions() == [0, 1]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_packet_numbers_of_every_length(ingress: Ingress, length: int) -> None:
    publisher, _ = ingress.scenario.simple(1, largest=0x123456)
    number = 0x123456 + 100
    seen = ingress.frames(
        publisher, stream_frame(STREAM, HEAD), packet_number=number, number_length=length
    )
    assert seen.intents[0]["packet_number"] == number
    assert ingress.datapath.view("connections")[0]["rx_largest"] == number


@pytest.mark.parametrize(("length", "largest"), [(1, 1000), (2, 100_000)])
def test_packet_numbers_after_a_long_while_without_packets(
    ingress: Ingress, length: int, largest: int
) -> None:
    """A is a window behind what user space has acknowledged, and finds back when it is told (as the
    relay does about once a second)."""
    publisher, _ = ingress.scenario.simple(1, largest=largest)

    def take(number: int) -> int:
        datagram = datagram_frame(object_datagram(CHANNEL, number))
        seen = ingress.frames(publisher, datagram, packet_number=number, number_length=length)
        assert seen.counted.get(Reason.A_BAD_TAG, 0) == 1 - len(seen.intents)
        return len(seen.intents)

    half = 1 << 8 * length - 1
    assert take(largest + half) == 1
    far = largest + 3 * half
    assert take(far) == 0
    ingress.datapath.view("connections")[0]["rx_largest"] = far
    assert take(far + 1) == 1


@pytest.mark.parametrize("first_bits", [0x40, 0x60, 0x00, 0x20])
def test_fixed_and_spin_bit_do_not_matter(ingress: Ingress, first_bits: int) -> None:
    publisher, _ = ingress.scenario.simple(1)
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD), first_bits=first_bits)
    assert len(seen.intents) == 1


class TestKeyPhases:
    """RFC 9001 section 6.3. The relay rotates the keys; until then A reads with what it has."""

    def take(self, ingress: Ingress, publisher: Peer, generation: int, number: int) -> bool:
        datagram = datagram_frame(object_datagram(CHANNEL, number))
        seen = ingress.frames(publisher, datagram, generation=generation, packet_number=number)
        assert bool(len(seen.intents)) ^ bool(
            seen.counted.get(Reason.A_BAD_TAG, 0) + seen.counted.get(Reason.A_NO_KEY, 0)
        )
        return len(seen.intents) == 1

    def test_current(self, ingress: Ingress) -> None:
        publisher, _ = ingress.scenario.simple(1)
        assert self.take(ingress, publisher, 0, 1)

    def test_next(self, ingress: Ingress) -> None:
        publisher, _ = ingress.scenario.simple(1)
        assert self.take(ingress, publisher, 0, 1)
        assert self.take(ingress, publisher, 1, 2)

    def test_previous(self, ingress: Ingress) -> None:
        publisher, _ = ingress.scenario.simple(1, largest=100)
        ingress.scenario.receive_keys(publisher, 1, phase_start=100)
        assert self.take(ingress, publisher, 1, 103)
        assert self.take(ingress, publisher, 0, 99)

    def test_one_after_the_next(self, ingress: Ingress) -> None:
        """The phase bit of generation 2 is that of the current: it fails the tag."""
        publisher, _ = ingress.scenario.simple(1)
        assert not self.take(ingress, publisher, 2, 1)

    def test_both_phases_after_an_update(self, ingress: Ingress) -> None:
        publisher, _ = ingress.scenario.simple(1, largest=100)
        ingress.scenario.receive_keys(publisher, 2, phase_start=90)
        assert self.take(ingress, publisher, 2, 103)
        assert self.take(ingress, publisher, 1, 80)
        assert self.take(ingress, publisher, 3, 104)


def _replay(ingress: Ingress, publisher: Peer) -> tuple[bytes, Scenario]:
    packet = publisher.packet(datagram_frame(object_datagram(CHANNEL, 1)))
    return packet, ingress.scenario


def test_a_repeated_packet_is_not_forwarded(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    packet, _ = _replay(ingress, publisher)
    assert len(ingress.packet(packet).intents) == 1
    assert ingress.packet(packet).counted == {Reason.A_REPLAY: 1}


def test_late_packets_within_the_window(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    numbers = [2000, 1999, 1990, 1500, 1000, 2001, 1501]
    for number in numbers:
        frame = datagram_frame(object_datagram(CHANNEL, 1))
        seen = ingress.frames(publisher, frame, packet_number=number, number_length=4)
        assert len(seen.intents) == 1, number
    for number in numbers:
        frame = datagram_frame(object_datagram(CHANNEL, 1))
        seen = ingress.frames(publisher, frame, packet_number=number, number_length=4)
        assert seen.counted == {Reason.A_REPLAY: 1}, number


def test_more_than_a_packet_can_hold(ingress: Ingress) -> None:
    """As many media frames as a packet is taken of, and one more."""
    publisher, _ = ingress.scenario.simple(1)
    frames = [datagram_frame(object_datagram(CHANNEL, at)) for at in range(layout.FRAMES + 1)]
    seen = ingress.frames(publisher, *frames)
    (intent,) = seen.intents
    assert [int(frame["ordinal"]) for frame in intent["frames"]] == list(range(layout.FRAMES))
    assert seen.counted[Reason.A_TOO_MANY_FRAMES] == 1


def test_the_largest_packet(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    room = layout.MAX_DATAGRAM - 1 - 8 - 2 - 16
    frame = stream_frame(STREAM, b"", with_length=False)
    data = HEAD + bytes(room - len(frame) - len(HEAD))
    datagram = publisher.datagram(frame + data)
    assert len(datagram) == layout.MAX_DATAGRAM
    seen = ingress.packet(packets.packet(publisher.path, datagram))
    assert ingress.data(seen.intents[0], 0) == data


class TestSuperPackets:
    """GSO: several datagrams under one header, as a publisher on the same node sends them."""

    def test_each_segment_is_taken(self, scenario: Scenario, wire: Wire) -> None:
        publisher, _ = scenario.simple(2)
        payloads = [stream_frame(STREAM + 4 * at, HEAD + bytes(500)) for at in range(3)]
        payloads.append(stream_frame(STREAM + 12, HEAD + b"short"))
        datagrams = [publisher.datagram(payload) for payload in payloads]
        captured = wire.send(wire.socket(publisher.path), datagrams)
        intents = scenario.datapath.intents()
        assert [told(intent)[0][1] for intent in intents] == [2, 6, 10, 14]
        clones = [each.cb[1:3] for each in captured if each.ifindex == scenario.datapath.ifindex]
        assert clones == [(at, position) for at in range(1, 5) for position in range(2)]
        slot = scenario.datapath.view("slots")[4]
        frame = slot["frames"][0]
        data = bytes(slot["data"][frame["at"] : frame["at"] + frame["length"]])
        assert data == HEAD + b"short"

    def test_a_bad_segment_spoils_no_other(self, scenario: Scenario, wire: Wire) -> None:
        publisher, _ = scenario.simple(1)
        payloads = [stream_frame(STREAM + 4 * at, HEAD + bytes(500)) for at in range(3)]
        datagrams = [publisher.datagram(payload) for payload in payloads]
        datagrams[1] = datagrams[1][:-1] + bytes([datagrams[1][-1] ^ 1])
        wire.send(wire.socket(publisher.path), datagrams)
        intents = scenario.datapath.intents()
        assert [told(intent)[0][1] for intent in intents] == [2, 10]
        assert scenario.datapath.counters()[Reason.A_BAD_TAG] == 1


@pytest.mark.parametrize("segments", [1, 3])
def test_the_packet_itself_goes_on_as_it_came(
    scenario: Scenario, wire: Wire, segments: int
) -> None:
    publisher, _ = scenario.simple(2)
    sender = wire.socket(publisher.path)
    shared = scenario.datapath.view("shared")[0]
    arrived = []
    for enabled in (Switch.OFF, Switch.ON):
        shared["enabled"] = enabled
        datagrams = [
            publisher.datagram(datagram_frame(object_datagram(CHANNEL, 1)), packet_number=at)
            for at in range(segments)
        ]
        captured = wire.send(sender, datagrams)
        (packet,) = [each for each in captured if each.ifindex != scenario.datapath.ifindex]
        arrived.append(packet)
    assert len(captured) == 1 + 2 * segments
    off, on = arrived
    assert (on.mark, on.hash, on.gso_size) == (0, off.hash, off.gso_size)
    # Between Ethernet and addresses there is IPv4's id, which the kernel counts up.
    assert on.data[:14] == off.data[:14]
    assert on.data[26:] == off.data[26:]


def test_a_thousand_members(ingress: Ingress) -> None:
    scenario = ingress.scenario
    publisher, (sink,) = scenario.simple(1)
    for member in range(2, 2 + layout.ARRAY_MEMBERS):
        scenario.member(member, sink, 0)
    scenario.array(1, 0, list(range(2, 2 + layout.ARRAY_MEMBERS)))
    ingress.datapath.view("tracks")[0]["array"] = 1
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD))
    assert seen.intents[0]["members"] == layout.ARRAY_MEMBERS
    assert seen.counted[Reason.A_CLONES] + seen.counted.get(Reason.A_CLONE_FAILED, 0) == 1024


def test_slots_go_round(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    shared = ingress.datapath.view("shared")[0]
    shared["slot_next"] = first = layout.SLOTS - 3
    shared["slot_limit"] = 2 * layout.SLOTS
    for at in range(8):
        frame = datagram_frame(object_datagram(CHANNEL, at))
        (intent,) = ingress.frames(publisher, frame).intents
        assert intent["sequence"] == first + at
        assert ingress.data(intent, 0) == object_datagram(CHANNEL, at)


def test_a_stream_in_user_space_stays_there(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    ingress.frames(publisher, stream_frame(STREAM, HEAD))
    stream = ingress.stream(publisher, STREAM)
    assert stream is not None
    stream["state"] = StreamState.USER
    for frame in (stream_frame(STREAM, b"x", len(HEAD)), stream_frame(STREAM, HEAD)):
        assert ingress.frames(publisher, frame).counted == {Reason.A_STREAM_USER: 1}
    assert stream["busy"] == 0


def test_a_stream_begins_once(ingress: Ingress) -> None:
    """What the kernel saw of a stream and did not take leaves the stream to user space."""
    publisher, _ = ingress.scenario.simple(1)
    ingress.frames(publisher, stream_frame(STREAM + 4, b"tail", 100))
    assert ingress.frames(publisher, stream_frame(STREAM + 4, HEAD)).counted == {
        Reason.A_UNKNOWN_STREAM: 1
    }
    assert ingress.frames(publisher, stream_frame(STREAM, HEAD)).counted == {
        Reason.A_UNKNOWN_STREAM: 1
    }


def test_a_switched_off_track(ingress: Ingress) -> None:
    publisher, _ = ingress.scenario.simple(1)
    ingress.datapath.view("tracks")[0]["state"] = Switch.OFF
    seen = ingress.frames(publisher, stream_frame(STREAM, HEAD))
    assert len(seen.intents) == 0
    assert not seen.clones
