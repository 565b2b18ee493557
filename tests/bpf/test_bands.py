"""Bands in program B: what is dropped, that it is dropped whole, and that user space is told."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bpf.egress import DATA, KERNEL, Egress, Media, sealed, sent_datagram, sent_stream, wire
from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Datapath
from bpf.model_bands import Steps
from bpf.scenario import Peer
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import SECOND, Verdict, group_hash, price
from fastrelay.fastpath.layout import BAND_LEVELS, LegState, Outcome, Reason

LAST = 255
"""A priority of the last band."""


@pytest.mark.kernels
def test_the_rule_is_that_of_user_space(datapath: Datapath) -> None:
    steps = Steps(datapath, 1)
    steps.run(20_000)
    assert all(steps.verdicts[verdict] > 500 for verdict in Verdict)


def bands(egress: Egress, peer: Peer) -> np.void:
    found: np.void = egress.connection(peer)["bands"]
    return found


def counted(egress: Egress, peer: Peer) -> list[tuple[int, int]]:
    """By band: bytes, dropped."""
    return [(int(each["bytes"]), int(each["dropped"])) for each in bands(egress, peer)["each"]]


@pytest.mark.parametrize(
    ("publisher", "subscriber", "band"),
    [
        (0, 128, 0),
        (31, 128, 0),
        (32, 128, 1),
        (127, 128, 1),
        (128, 128, 2),
        (192, 128, 3),
        (255, 128, 3),
        (255, 0, 1),
        (128, 0, 0),
        (0, 255, 1),
        (200, 255, 3),
    ],
)
def test_the_band_of_a_frame(
    egress: Egress, peer: Peer, publisher: int, subscriber: int, band: int
) -> None:
    egress.member(peer)["priority"] = subscriber
    result = egress.clone(egress.slot(Media(DATA[:900], priority=publisher)))
    assert result.action == TC_ACT_UNSPEC
    size = len(sealed(peer, 0, [sent_stream(3, DATA[:900])]))
    assert counted(egress, peer) == [(size * (each == band), 0) for each in range(layout.BANDS)]


def test_a_stream_is_dropped_whole(egress: Egress, peer: Peer) -> None:
    bands(egress, peer)["level"] = BAND_LEVELS
    before = egress.spent(peer)
    first = egress.slot(Media(DATA[:500], priority=LAST))
    assert egress.clone(first).action == TC_ACT_SHOT
    (report,) = egress.datapath.reports()
    assert (report["outcome"], report["dropped"]) == (Outcome.DROPPED, 1)
    assert (report["sequence"], report["position"]) == (first, 0)
    assert egress.leg()["word"] == 1 << 8 | LegState.DROPPED
    # The level falls: what was dropped stays so.
    bands(egress, peer)["level"] = 0
    for media in (
        Media(DATA[500:900], offset=500, priority=LAST),
        Media(DATA[:500], priority=LAST),
        Media(DATA[900:950], offset=900, priority=LAST, fin=True),
    ):
        sequence = egress.slot(media)
        assert egress.clone(sequence).action == TC_ACT_SHOT
        assert egress.done(sequence) == 1
    assert egress.spent(peer) == before
    assert len(egress.datapath.reports()) == 0
    assert counted(egress, peer) == [(0, 0), (0, 0), (0, 0), (0, 1)]
    assert egress.datapath.counters() == {
        Reason.B_DROPPED_LEVEL: 1,
        Reason.B_OUTCOME + Outcome.DROPPED: 1,
        Reason.B_SKIPPED: 3,
    }


def test_what_is_under_way_is_sent(egress: Egress, peer: Peer) -> None:
    assert egress.clone(egress.slot(Media(DATA[:500], priority=LAST))).action == TC_ACT_UNSPEC
    bands(egress, peer)["level"] = layout.BANDS * BAND_LEVELS
    for media in (
        Media(DATA[500:900], offset=500, priority=LAST),
        Media(DATA[:500], priority=LAST),
        Media(DATA[900:950], offset=900, priority=LAST, fin=True),
    ):
        assert egress.clone(egress.slot(media)).action == TC_ACT_UNSPEC
    assert egress.leg()["word"] == 1 << 8 | KERNEL


def test_half_of_a_band_by_group(egress: Egress, peer: Peer) -> None:
    """All of the last band and half of the one before it: whole groups, the same each time."""
    bands(egress, peer)["level"] = BAND_LEVELS * 3 // 2
    for priority, expected in ((100, {40}), (150, {19, 20, 21}), (LAST, {0})):
        sent = 0
        for group in range(40):
            slots = [
                egress.slot(Media(DATA[:20], stream=0, ordinal=group, priority=priority))
                for _ in range(2)
            ]
            actions = {egress.clone(slot).action for slot in slots}
            assert len(actions) == 1
            sent += actions == {TC_ACT_UNSPEC}
            if priority == 150:
                assert (actions == {TC_ACT_UNSPEC}) == (group_hash(group) < BAND_LEVELS // 2)
        assert sent in expected


def test_a_group_of_datagrams_goes_on_as_it_began(egress: Egress, peer: Peer) -> None:
    """While that is remembered, whatever the level is."""
    bands(egress, peer)["remembers"] = (1 << 64) - 1

    def action(group: int) -> int:
        return egress.clone(egress.slot(Media(DATA[:20], stream=0, ordinal=group))).action

    assert action(0) == TC_ACT_UNSPEC
    bands(egress, peer)["level"] = layout.BANDS * BAND_LEVELS
    assert [action(0), action(1)] == [TC_ACT_UNSPEC, TC_ACT_SHOT]
    bands(egress, peer)["level"] = 0
    assert [action(1), action(2)] == [TC_ACT_SHOT, TC_ACT_UNSPEC]
    bands(egress, peer)["remembers"] = 0
    assert action(1) == TC_ACT_UNSPEC


def test_a_dropped_frame_does_not_hold_up_the_others(egress: Egress, peer: Peer) -> None:
    """The end of one stream, the beginning of one that is dropped, one that is not, datagrams."""
    bands(egress, peer)["level"] = BAND_LEVELS
    egress.stream(2)
    egress.stream(3)
    egress.lend(7, highest=50)
    sequence = egress.slot(
        Media(DATA[50:90], offset=50, fin=True, priority=LAST),
        Media(DATA[:33], stream=2, priority=LAST),
        Media(DATA[:44], stream=3, priority=0),
        Media(DATA[:10], stream=0, priority=LAST),
        Media(DATA[:11], stream=0, priority=100),
    )
    frames = [
        sent_stream(7, DATA[50:90], 50, fin=True),
        sent_stream(3, DATA[:44]),
        sent_datagram(DATA[:11]),
    ]
    assert egress.clone(sequence).data == wire(peer.path, sealed(peer, 0, frames))
    (report,) = egress.datapath.reports()
    assert (report["outcome"], report["dropped"]) == (Outcome.SENT, 0b01010)
    assert egress.leg(2)["word"] == 2 << 8 | LegState.DROPPED
    assert egress.leg(3)["word"] == 3 << 8 | KERNEL
    size = len(sealed(peer, 0, frames))
    assert counted(egress, peer) == [(0, 0), (0, 0), (0, 0), (size, 2)]


def test_a_copy_that_cannot_be_sent_tells_what_was_dropped(egress: Egress, peer: Peer) -> None:
    bands(egress, peer)["level"] = BAND_LEVELS
    egress.connection(peer)["bytes_limit"] = 0
    sequence = egress.slot(
        Media(DATA[:10], stream=0, priority=LAST), Media(DATA[:11], stream=0, priority=100)
    )
    assert egress.clone(sequence).action == TC_ACT_SHOT
    (report,) = egress.datapath.reports()
    assert (report["outcome"], report["dropped"]) == (Outcome.NO_WINDOW, 0b01)
    assert [each for each, _ in counted(egress, peer)] == [0] * layout.BANDS


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("others", [False, True])
def test_shares_of_a_rate(egress: Egress, peer: Peer, own: bool, others: bool) -> None:
    """``own``, ``others``: whether they leave anything. Hours of debt, so that no time passes."""
    debt = time.monotonic_ns() + 10_000 * SECOND
    numbers = bands(egress, peer)
    numbers["price"], numbers["burst"] = price(250_000), SECOND
    each = numbers["each"][3]
    each["price"], each["patience"] = price(25_000), SECOND
    each["due"], numbers["due"] = (0 if own else debt), (0 if others else debt)
    result = egress.clone(egress.slot(Media(DATA[:500], priority=LAST)))
    assert result.action == (TC_ACT_UNSPEC if own or others else TC_ACT_SHOT)
    found = egress.datapath.counters()
    assert found.get(Reason.B_DROPPED_SHARE, 0) == (not own and not others)


def test_what_is_sent_is_charged(egress: Egress, peer: Peer) -> None:
    numbers = bands(egress, peer)
    numbers["price"], numbers["burst"] = price(1_000_000), 100 * SECOND
    each = numbers["each"][0]
    each["price"] = price(100_000)
    begin = time.monotonic_ns()
    result = egress.clone(egress.slot(Media(DATA[:1000], priority=0)))
    end = time.monotonic_ns()
    assert result.action == TC_ACT_UNSPEC
    size = int(each["bytes"])
    assert begin + 1_000 * size <= numbers["due"] <= end + 1_000 * size
    assert begin + 10_000 * size <= each["due"] <= end + 10_000 * size


@pytest.mark.parametrize(("priority", "sent"), [(0, True), (LAST, False)])
def test_the_last_band_leaves_room_in_the_window(
    egress: Egress, peer: Peer, priority: int, sent: bool
) -> None:
    """User space has it then, in the order of priorities: it is not dropped."""
    row = egress.connection(peer)
    row["bytes_limit"] = row["bytes_sent"] + 2_000
    bands(egress, peer)["each"][3]["reserve"] = 1_200
    result = egress.clone(egress.slot(Media(DATA[:900], priority=priority)))
    assert result.action == (TC_ACT_UNSPEC if sent else TC_ACT_SHOT)
    (report,) = egress.datapath.reports()
    assert report["outcome"] == (Outcome.SENT if sent else Outcome.NO_WINDOW)
    assert not report["dropped"]
