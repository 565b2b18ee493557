"""Program B on several CPUs at once, for one connection: every number and every byte once."""

from __future__ import annotations

import os
import struct
from collections import Counter
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from bpf.egress import Egress, Media, clone_packet
from bpf.harness import Datapath
from bpf.scenario import AMPLE, Peer, Scenario
from fastrelay.fastpath.layout import ARRAY_MEMBERS, Outcome, Reason

SLOTS, POSITIONS = 64, 512
COPIES = SLOTS * POSITIONS
LENGTH = 20
STAGE_UNDER_TEST = 15


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load("client_egress.c")
    datapath.load(Path(__file__).with_name("racer.c"))
    entry = struct.pack("<I", datapath.programs["client_egress"])
    datapath.update("programs", struct.pack("<I", STAGE_UNDER_TEST), entry)


def race(datapath: Datapath) -> np.ndarray[Any, Any]:
    """All copies, by a thread on each CPU; their reports."""
    datapath.probe[:16] = struct.pack("<QQ", 0, SLOTS)
    cpus = range(os.cpu_count() or 1)
    start = Barrier(len(cpus))

    def run(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        start.wait()
        datapath.run("racer", clone_packet(4, 60), repeat=COPIES // len(cpus))

    threads = [Thread(target=run, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports = datapath.reports()
    assert len(reports) == COPIES // len(cpus) * len(cpus)
    return reports


def set_up(scenario: Scenario, **limits: int) -> tuple[Egress, Peer]:
    """One stream, a frame of it in each slot, and a member that is in every position."""
    egress = Egress(scenario)
    peer = scenario.connect(1)
    scenario.member(1, peer, 0)
    scenario.array(0, 0, [1] * POSITIONS)
    egress.stream()
    for at in range(SLOTS):
        egress.slot(Media(bytes(LENGTH), offset=at * LENGTH))
    for position in range(POSITIONS):
        egress.lend(position << 2 | 3, position=position)
    for name, value in limits.items():
        egress.connection(peer)[name] = value
    return egress, peer


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({}, set()),
        ({"data_limit": POSITIONS * SLOTS * LENGTH // 2}, {Outcome.NO_DATA}),
        ({"bytes_limit": 500_000}, {Outcome.NO_WINDOW}),
        ({"packet_number_limit": COPIES // 3}, {Outcome.NO_NUMBER}),
        ({"packet_size_limit": 51}, {Outcome.TOO_LARGE}),
    ],
)
def test_two_cpus_share_a_connection(
    scenario: Scenario, limits: dict[str, int], refused: set[Outcome]
) -> None:
    egress, peer = set_up(scenario, **limits)
    reports = race(egress.datapath)
    outcomes = Counter(Outcome(each) for each in reports["outcome"])
    assert set(outcomes) - {Outcome.BUSY} == refused | {Outcome.SENT}
    sent = reports[reports["outcome"] == Outcome.SENT]
    entry = egress.connection(peer)
    assert sorted(sent["packet_number"]) == list(range(len(sent)))
    assert entry["packet_number"] == len(sent) <= limits.get("packet_number_limit", AMPLE)
    assert entry["bytes_sent"] == sent["size"].sum() <= limits.get("bytes_limit", AMPLE)
    legs = egress.datapath.view("legs")[ARRAY_MEMBERS : ARRAY_MEMBERS + POSITIONS]
    assert entry["data_used"] == legs["highest"].sum() <= limits.get("data_limit", AMPLE)
    assert entry["busy"] == 0
    for at in range(SLOTS):
        of_slot = reports[reports["sequence"] == 1 + at]
        assert egress.done(1 + at) == len(of_slot) == len(egress.claims(1 + at))
        assert len(set(of_slot["position"])) == len(of_slot)
    assert egress.member(peer)["packets"] == len(sent)


def test_streams_begin_once(scenario: Scenario) -> None:
    """Every copy begins its leg: no stream number is taken twice, and none is lost."""
    egress, peer = set_up(scenario)
    slots = egress.datapath.view("slots")[1 : 1 + SLOTS]
    for at in range(SLOTS):
        egress.stream(1 + at)
        slots[at]["frames"][0]["stream"] = 1 + at
        slots[at]["frames"][0]["offset"] = 0
    egress.datapath.view("legs")["word"] = 0
    race(egress.datapath)
    counted = egress.datapath.counters()
    legs = egress.datapath.view("legs")
    begun = legs[legs["word"] != 0]
    assert len(begun) == COPIES - counted.get(Reason.B_OUTCOME + Outcome.BUSY, 0)
    assert sorted(begun["stream_id"]) == [number << 2 | 3 for number in range(len(begun))]
    assert egress.connection(peer)["stream_number"] == len(begun)
