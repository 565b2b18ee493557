"""An operation that loses to other CPUs too often: programs that are given no try at all.
What is changed while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpf import keystreams
from bpf.egress import DATA, Egress, Media
from bpf.harness import TC_ACT_SHOT, Datapath
from bpf.ingress import Ingress
from bpf.packets import datagram_frame, object_datagram
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath.layout import Outcome, Reason


@contextmanager
def built(datapath: Datapath, source: str, *flags: str) -> Iterator[None]:
    """A program that is compiled in another way, for as long as it lasts."""
    datapath.load(source, flags)
    try:
        yield
    finally:
        datapath.load(source)


@pytest.mark.parametrize(
    "media",
    [
        pytest.param(Media(DATA[:500]), id="stream number"),
        pytest.param(Media(DATA[:500], offset=10), id="data"),
        pytest.param(Media(DATA[:500], stream=0), id="window"),
    ],
)
def test_credit(egress: Egress, peer: Peer, media: Media) -> None:
    """It is told, and everything is given back."""
    with built(egress.datapath, "client_egress.c", "-DCREDIT_TRIES=0"):
        if media.offset:
            egress.lend(3, highest=10)
        before = egress.spent(peer)
        sequence = egress.slot(media)
        assert egress.clone(sequence).action == TC_ACT_SHOT
        assert egress.report()[:5] == (sequence, Outcome.BUSY, 0, 1, 0)
        assert (egress.claims(sequence), egress.done(sequence)) == ({0}, 1)
        assert egress.spent(peer) == before


def test_claim(egress: Egress, peer: Peer) -> None:
    """Nothing is claimed: user space finds the bit free, and sends."""
    with built(egress.datapath, "client_egress.c", "-DCLAIM_TRIES=0"):
        sequence = egress.slot(Media(DATA[:500]))
        assert egress.clone(sequence).action == TC_ACT_SHOT
        assert egress.datapath.counters() == {Reason.B_OUTCOME + Outcome.BUSY: 1}
        assert (egress.claims(sequence), egress.done(sequence)) == (set(), 0)
        assert len(egress.datapath.reports()) == 0


def test_keystream(egress: Egress, peer: Peer) -> None:
    """It is changed while the packet is encrypted with it: that packet is not sent."""
    changes = "-DKEYSTREAM_MEANWHILE(stream)=((struct keystream *)(stream))->number = 0"
    with built(egress.datapath, "client_egress.c", changes):
        keystreams.write(egress.datapath, peer.index, 0, peer.from_relay.ring[0], 1)
        sequence = egress.slot(Media(DATA[:500]))
        assert egress.clone(sequence).action == TC_ACT_SHOT
        assert egress.report()[:4] == (sequence, Outcome.FAILED, 0, 1)
        assert egress.datapath.counters() == {
            Reason.B_AHEAD: 1,
            Reason.B_OUTCOME + Outcome.FAILED: 1,
        }


@pytest.mark.parametrize("flag", ["-DSLOT_TRIES=0", "-DREPLAY_TRIES=0"])
def test_slot_and_replay_window(scenario: Scenario, datapath: Datapath, flag: str) -> None:
    with built(datapath, "server_ingress.c", flag), datapath.attached():
        ingress = Ingress(scenario)
        publisher, _ = scenario.simple(1)
        seen = ingress.frames(publisher, datagram_frame(object_datagram(7, 1)))
        assert seen.counted == {Reason.A_BUSY: 1}
        assert not seen.intents.size
        assert datapath.view("shared")[0]["slot_next"] == 1
