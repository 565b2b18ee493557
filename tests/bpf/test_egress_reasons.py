"""Every reason for which program B sends no copy, and every outcome that it reports of one."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from bpf.egress import DATA, HEADER_AND_TAG, Egress, Media, clone_packet, sealed, sent_stream, wire
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC
from bpf.scenario import AMPLE, Peer
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import (
    CLONE_MARK,
    ConnectionState,
    LegState,
    Outcome,
    Reason,
    Stage,
    Switch,
)

pytestmark = pytest.mark.parametrize("family", [pytest.param(4, marks=pytest.mark.kernels), 6])

FRAME = 4
"""Bytes of a STREAM frame before its data, at offset 0."""
SIZE = HEADER_AND_TAG + FRAME + 1000
FIRST = Media(DATA[:1000])
LATER = Media(DATA[:1000], offset=500)
DATAGRAM = Media(DATA[:1000], stream=0)

# A copy that is not sent: everything is given back, and told

Prepare = Callable[[Egress, Peer], None]


def _set(**fields: int) -> Prepare:
    def prepare(egress: Egress, peer: Peer) -> None:
        for name, value in fields.items():
            egress.connection(peer)[name] = value

    return prepare


def _leg(**terms: int) -> Prepare:
    return lambda egress, _: egress.lend(3, **terms)  # type: ignore[arg-type]


def _member_off(egress: Egress, peer: Peer) -> None:
    egress.member(peer)["state"] = Switch.OFF


def _cut_beyond_the_frame(egress: Egress, peer: Peer) -> None:
    egress.member(peer)["rewrite"] = 1
    egress.stream(cut=9)


def _another_stream(egress: Egress, _: Peer) -> None:
    egress.stream(1 + layout.STREAMS)


REFUSALS = [
    (Outcome.CONNECTION_OFF, _set(state=ConnectionState.OFF), FIRST),
    (Outcome.CONNECTION_OFF, _set(state=ConnectionState.RECEIVE), FIRST),
    (Outcome.MEMBER_OFF, _member_off, FIRST),
    (Outcome.NO_LEG, _set(), LATER),
    (Outcome.NO_LEG, _leg(sequence=1 + layout.STREAMS, highest=500), LATER),
    (Outcome.NO_LEG, _another_stream, FIRST),
    (Outcome.NO_STREAM, _set(stream_number=5, stream_number_limit=5), FIRST),
    (Outcome.NO_STREAM, _set(stream_number=6, stream_number_limit=5), FIRST),
    (Outcome.NO_STREAM_DATA, _set(stream_data_limit=999), FIRST),
    (Outcome.NO_STREAM_DATA, _leg(highest=500, limit=1499), LATER),
    (Outcome.NO_DATA, _set(data_used=100, data_limit=1099), FIRST),
    (Outcome.NO_DATA, _set(data_used=100, data_limit=50), FIRST),
    (Outcome.NO_WINDOW, _set(bytes_sent=10, bytes_limit=10 + SIZE - 1), FIRST),
    (Outcome.NO_WINDOW, _set(bytes_sent=10, bytes_limit=0), FIRST),
    (Outcome.TOO_LARGE, _set(packet_size_limit=SIZE - 1), FIRST),
    (Outcome.TOO_LARGE, _set(datagram_limit=1002), DATAGRAM),
    (Outcome.TOO_LARGE, _set(datagram_limit=0), DATAGRAM),
    (Outcome.TOO_LARGE, _set(packet_size_limit=9999), Media(DATA[:1430], stream=0)),
    (Outcome.NO_NUMBER, _set(packet_number=7, packet_number_limit=7), FIRST),
    (Outcome.NO_NUMBER, _set(packet_number=8, packet_number_limit=7), DATAGRAM),
    (Outcome.FAILED, _cut_beyond_the_frame, Media(DATA[:8])),
    (Outcome.FAILED, _cut_beyond_the_frame, Media(DATA[:8], offset=8)),
]


@pytest.mark.parametrize(("outcome", "prepare", "media"), REFUSALS)
def test_outcomes(
    egress: Egress, peer: Peer, outcome: Outcome, prepare: Prepare, media: Media
) -> None:
    prepare(egress, peer)
    before, highest = egress.spent(peer), int(egress.leg()["highest"])
    sequence = egress.slot(media)
    assert egress.clone(sequence).action == TC_ACT_SHOT
    told = egress.report()
    assert told[:5] == (sequence, outcome, 0, 1, 0)
    assert egress.datapath.counters() == {Reason.B_OUTCOME + outcome: 1}
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
    begun = int(egress.member(peer)["streams"])
    assert egress.spent(peer) == before | {"stream_number": before["stream_number"] + begun}
    assert int(egress.leg()["highest"]) == (0 if begun else highest)
    assert (egress.member(peer)["packets"], egress.member(peer)["bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("prepare", "media"),
    [
        (_set(stream_number=4, stream_number_limit=5), FIRST),
        (_set(stream_data_limit=1000), FIRST),
        (_set(data_used=100, data_limit=1100), FIRST),
        (_set(bytes_sent=10, bytes_limit=10 + SIZE), FIRST),
        (_set(packet_size_limit=SIZE), FIRST),
        (_set(datagram_limit=1003), DATAGRAM),
        (_set(packet_number=6, packet_number_limit=7), FIRST),
        (_set(packet_size_limit=9999), Media(DATA[: 1452 - HEADER_AND_TAG - 3], stream=0)),
    ],
)
def test_limits_may_be_reached(egress: Egress, peer: Peer, prepare: Prepare, media: Media) -> None:
    prepare(egress, peer)
    assert egress.clone(egress.slot(media)).action == TC_ACT_UNSPEC
    assert egress.report()[1] is Outcome.SENT


def test_a_leg_that_has_begun_stays(egress: Egress, peer: Peer) -> None:
    _set(bytes_limit=0)(egress, peer)
    egress.clone(egress.slot(FIRST))
    leg = egress.leg()
    assert (leg["word"], leg["stream_id"], leg["highest"]) == (1 << 8 | 1, 3, 0)
    _set(bytes_limit=AMPLE)(egress, peer)
    result = egress.clone(egress.slot(Media(DATA[1000:1100], offset=1000)))
    frame = sent_stream(3, DATA[1000:1100], 1000)
    assert result.data == wire(peer.path, sealed(peer, 0, [frame]))
    assert egress.spent(peer)["data_used"] == leg["highest"] == 1100


def test_all_frames_go_or_none(egress: Egress, peer: Peer) -> None:
    """The first two frames' credit is given back when the third finds none."""
    egress.stream(2)
    egress.stream(3)
    egress.lend(3, highest=10)
    egress.lend(7, sequence=2, highest=20)
    _set(data_used=30, data_limit=330)(egress, peer)
    sequence = egress.slot(
        Media(DATA[:100], offset=10),
        Media(DATA[:100], offset=110),
        Media(DATA[:50], offset=20, stream=2),
        Media(DATA[:51], offset=70, stream=2),
    )
    assert egress.clone(sequence).action == TC_ACT_SHOT
    assert egress.report()[1] is Outcome.NO_DATA
    assert egress.spent(peer)["data_used"] == 30
    assert (egress.leg(1)["highest"], egress.leg(2)["highest"]) == (10, 20)


@pytest.mark.parametrize("stage", [Stage.B_BUILD, Stage.B_SEAL, Stage.B_OUTPUT])
def test_a_stage_that_is_missing(egress: Egress, peer: Peer, stage: Stage) -> None:
    before = egress.spent(peer)
    key = struct.pack("<I", stage)
    egress.datapath.delete("programs", key)
    sequence = egress.slot(DATAGRAM)
    try:
        assert egress.clone(sequence).action == TC_ACT_SHOT
    finally:
        fd = egress.datapath.programs[stage.name.lower()]
        egress.datapath.update("programs", key, struct.pack("<I", fd))
    assert egress.report()[1] is Outcome.FAILED
    assert egress.done(sequence) == 1
    after = egress.spent(peer)
    after["packet_number"] = before["packet_number"]
    assert after == before
    assert egress.clone(egress.slot(DATAGRAM)).action == TC_ACT_UNSPEC


# Who is nobody's, or somebody else's

Provoke = Callable[[Egress, Peer], None]
PROVOCATIONS: list[tuple[Reason, Provoke]] = []


def provokes(reason: Reason) -> Callable[[Provoke], Provoke]:
    """The function gives clones to a scenario with one member: what is counted so is all that
    comes of them, but for what the function says itself."""

    def register(function: Provoke) -> Provoke:
        PROVOCATIONS.append((reason, function))
        return function

    return register


def forge(egress: Egress, *clones: tuple[int, int, int]) -> None:
    """Clones of sequence, position and magic, which pass as they are."""
    assert egress.slot(FIRST) == 1
    for sequence, position, magic in clones:
        result = egress.clone(sequence, position, magic=magic)
        assert (result.action, result.data) == (TC_ACT_UNSPEC, clone_packet(egress.scenario.family))
        assert (result.mark, result.cb[:3]) == (CLONE_MARK, (magic, sequence, position))
    assert (egress.claims(1), egress.done(1)) == (set(), 0)


def dropped(egress: Egress, sequence: int, position: int = 0) -> None:
    assert egress.clone(sequence, position).action == TC_ACT_SHOT


@provokes(Reason.B_FORGED)
def magic_of_another(egress: Egress, peer: Peer) -> None:
    forge(egress, (1, 0, 0), (1, 0, layout.CLONE_MAGIC ^ 1))


@provokes(Reason.B_FORGED)
def sequence_that_is_nobodys(egress: Egress, peer: Peer) -> None:
    forge(egress, *((each, 0, layout.CLONE_MAGIC) for each in (2, 3, 1 << 31)))


@provokes(Reason.B_FORGED)
def position_beyond_any_array(egress: Egress, peer: Peer) -> None:
    forge(
        egress,
        *((1, each, layout.CLONE_MAGIC) for each in (layout.ARRAY_MEMBERS, 0xFFFFFFFF)),
    )


@provokes(Reason.B_STALE)
def slot_in_use_again(egress: Egress, peer: Peer) -> None:
    later = 1 + layout.SLOTS
    egress.slot(FIRST, sequence=1)
    egress.slot(FIRST, sequence=later)
    dropped(egress, 1)
    assert (egress.claims(later), egress.done(later)) == (set(), 0)


@provokes(Reason.B_STALE)
def claim_of_another_generation(egress: Egress, peer: Peer) -> None:
    """The slot is taken for another packet between two looks at it."""
    sequence = egress.slot(FIRST)
    slot = egress.datapath.view("slots")[sequence]
    slot["claims"][0] = (sequence + layout.SLOTS) << 32
    dropped(egress, sequence)
    assert (slot["claims"][0], egress.done(sequence)) == ((sequence + layout.SLOTS) << 32, 0)


@provokes(Reason.B_STALE)
def position_that_the_slot_has_not(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    dropped(egress, sequence, 1)
    assert egress.claims(sequence) == set()


@provokes(Reason.B_STALE)
def array_beyond_the_last(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    egress.datapath.view("slots")[sequence]["array"] = layout.ARRAYS
    dropped(egress, sequence)
    assert egress.claims(sequence) == set()


@provokes(Reason.B_STALE)
def member_beyond_the_last(egress: Egress, peer: Peer) -> None:
    egress.scenario.array(0, 0, [layout.MEMBERS])
    sequence = egress.slot(FIRST)
    dropped(egress, sequence)
    assert egress.claims(sequence) == set()


@provokes(Reason.B_STALE)
def connection_beyond_the_last(egress: Egress, peer: Peer) -> None:
    egress.member(peer)["connection"] = layout.CONNECTIONS
    sequence = egress.slot(FIRST)
    dropped(egress, sequence)
    assert egress.claims(sequence) == set()


@provokes(Reason.B_CLAIMED)
def clone_that_comes_twice(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    assert egress.clone(sequence).action == TC_ACT_UNSPEC
    before = egress.spent(peer)
    dropped(egress, sequence)
    assert egress.spent(peer) == before
    assert (egress.done(sequence), len(egress.datapath.reports())) == (1, 1)


@provokes(Reason.B_CLAIMED)
def relay_has_claimed_it(egress: Egress, peer: Peer) -> None:
    sequence = egress.slot(FIRST)
    egress.datapath.view("slots")[sequence]["claims"] |= np.uint64(0xFFFFFFFF)
    dropped(egress, sequence)
    assert egress.done(sequence) == 0


@provokes(Reason.B_RING_FULL)
def no_room_for_a_report(egress: Egress, peer: Peer) -> None:
    """Then nothing is claimed: who finds the claim free sends."""
    sequence = egress.slot(FIRST)
    before = egress.spent(peer)
    with egress.datapath.full("reports"):
        dropped(egress, sequence)
    assert (egress.claims(sequence), egress.done(sequence)) == (set(), 0)
    assert egress.spent(peer) == before
    assert len(egress.datapath.reports()) == 0
    assert egress.clone(sequence).action == TC_ACT_UNSPEC
    assert egress.report()[1] is Outcome.SENT


@provokes(Reason.B_SKIPPED)
def ordinals_that_it_did_not_ask_for(egress: Egress, peer: Peer) -> None:
    egress.scenario.member(1, peer, 0, ordinals=(5, 9))
    for ordinal in (4, 10):
        sequence = egress.slot(Media(DATA[:100], ordinal=ordinal))
        dropped(egress, sequence)
        assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)


@provokes(Reason.B_SKIPPED)
def leg_of_user_space(egress: Egress, peer: Peer) -> None:
    egress.lend(7, highest=500, state=LegState.USER)
    sequence = egress.slot(LATER)
    dropped(egress, sequence)
    assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)


@pytest.mark.parametrize(
    ("reason", "provoke"),
    [pytest.param(reason, run, id=f"{reason.name}-{run.__name__}") for reason, run in PROVOCATIONS],
)
def test_reason(egress: Egress, peer: Peer, reason: Reason, provoke: Provoke) -> None:
    before = egress.spent(peer)
    provoke(egress, peer)
    counted = egress.datapath.counters()
    sent = counted.pop(Reason.B_OUTCOME + Outcome.SENT, 0)
    assert set(counted) == {reason}
    if not sent:
        assert egress.spent(peer) == before
        assert len(egress.datapath.reports()) == 0
    assert egress.spent(peer)["busy"] == 0


@pytest.mark.parametrize("mark", [0, 1, 0x0F570000, CLONE_MARK ^ 0x10000])
def test_packets_without_our_mark_pass(egress: Egress, peer: Peer, mark: int, family: int) -> None:
    result = egress.clone(egress.slot(FIRST), mark=mark)
    assert (result.action, result.data) == (TC_ACT_UNSPEC, clone_packet(family))
    assert result.mark == mark
    assert egress.datapath.counters() == {}


def test_every_reason_has_a_test(family: int) -> None:
    ours = {reason for reason in Reason if reason.name.startswith("B_")}
    elsewhere = {Reason.B_DROPPED_LEVEL, Reason.B_DROPPED_SHARE}  # see test_bands
    elsewhere |= {Reason.B_AHEAD, Reason.B_OUTCOME}  # no reasons to drop; see test_keystream
    assert {reason for reason, _ in PROVOCATIONS} == ours - elsewhere


def test_every_outcome_has_a_test(family: int) -> None:
    """BUSY: see the tests of races that are lost. DROPPED: see those of bands."""
    assert {outcome for outcome, _, _ in REFUSALS} == set(Outcome) - {
        Outcome.SENT,
        Outcome.BUSY,
        Outcome.DROPPED,
    }
