"""The index of streams under way: rows are claimed by several CPUs at once, each by one stream,
while the relay gives others back and programs look for theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import numpy as np
import pytest

from bpf.harness import Datapath
from bpf.packets import stream_frame, subgroup_header
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import STREAMS, Reason
from streams import StreamIndex, stream_key

PROBE = np.dtype(
    [
        ("next", "<u8"),
        ("claimed", "<u8"),
        ("refused", "<u8"),
        ("looked", "<u8"),
        ("mistakes", "<u8"),
        ("owners", "<u4", STREAMS),
    ]
)
CONNECTION = 3
PACKET = bytes(64)
CLAIMS = 20_000
LOOKS = 1000
HEAD = subgroup_header(7, 0)


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load(Path(__file__).with_name("streams.c"))


@pytest.fixture
def probe(datapath: Datapath) -> np.void:
    datapath.clear()
    found: np.void = np.frombuffer(datapath.probe, PROBE, 1)[0]
    return found


def keys_of(datapath: Datapath) -> Any:
    """By row."""
    return datapath.view("stream_index")["keys"].reshape(-1)


def on_all_cpus(*calls: Callable[[], None]) -> None:
    """Each in a thread of its own, on a CPU of its own as far as there are so many."""
    start = Barrier(len(calls))

    def run(cpu: int, call: Callable[[], None]) -> None:
        os.sched_setaffinity(0, {cpu % (os.cpu_count() or 1)})
        start.wait()
        call()

    threads = [Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.kernels
def test_one_after_the_other_as_the_tests_reckon(datapath: Datapath, probe: np.void) -> None:
    index = StreamIndex([0] * STREAMS)
    had = [index.claim(CONNECTION, 4 * n + 2) is not None for n in range(2 * STREAMS)]
    datapath.run("claimer", PACKET, repeat=2 * STREAMS)
    assert keys_of(datapath).tolist() == index.words
    assert (int(probe["claimed"]), int(probe["refused"])) == (sum(had), len(had) - sum(had))


@pytest.mark.kernels
def test_a_row_is_claimed_once(datapath: Datapath, probe: np.void) -> None:
    claims = 2 * STREAMS

    def claim() -> None:
        datapath.run("claimer", PACKET, repeat=claims // 2)

    for _ in range(20):
        probe["owners"], probe["claimed"], probe["refused"], probe["next"] = 0, 0, 0, 0
        keys_of(datapath)[:] = 0
        on_all_cpus(claim, claim)
        keys = keys_of(datapath)[keys_of(datapath) != 0].tolist()
        assert len(set(keys)) == len(keys) == probe["claimed"]
        assert probe["claimed"] + probe["refused"] == claims
        assert (probe["owners"] == (keys_of(datapath) != 0)).all()
        index = StreamIndex(keys_of(datapath).tolist())
        for row, key in enumerate(index.words):
            assert not key or any(row in bucket for bucket in index.buckets(key))


def test_rows_are_given_back_while_others_claim_and_look(
    datapath: Datapath, probe: np.void
) -> None:
    given_back: list[int] = []
    ended = Event()

    def claim() -> None:
        # The looker's CPU may have other work meanwhile.
        while probe["next"] < CLAIMS or probe["looked"] < LOOKS:
            datapath.run("claimer", PACKET, repeat=50)
        ended.set()

    def look() -> None:
        while not ended.is_set():
            datapath.run("looker", PACKET, repeat=1000)

    def give_back() -> None:
        words = memoryview(keys_of(datapath))
        while not ended.is_set():
            for row in range(STREAMS):
                if words[row]:
                    given_back.append(words[row])
                    words[row] = 0

    on_all_cpus(claim, look, give_back)
    left = [key for key in keys_of(datapath).tolist() if key]
    everything = {stream_key(CONNECTION, 4 * n + 2) for n in range(int(probe["next"]))}
    # Nothing of a row was ever overwritten: who had one is there, or was given back.
    assert len(given_back) + len(left) == len({*given_back, *left}) == probe["claimed"]
    assert {*given_back, *left} <= everything
    assert not probe["mistakes"]


def test_streams_begin_on_two_cpus(datapath: Datapath) -> None:
    """Program A, whole: all that began is in an intent, and has a row of its own."""
    datapath.load("server_ingress.c")
    scenario = Scenario(datapath)
    subscriber = scenario.connect(9)
    scenario.member(1, subscriber, 0)
    scenario.array(0, 0, [1])
    publishers = [scenario.connect(at) for at in range(2)]
    for at, publisher in enumerate(publishers):
        scenario.track(at, 0, publisher, 7)
    count = layout.STREAMS // 4

    def publish(peer: Peer) -> None:
        for number in range(count):
            datapath.run("server_ingress", peer.packet(stream_frame(4 * number + 2, HEAD)))

    on_all_cpus(*(lambda peer=peer: publish(peer) for peer in publishers))
    intents = datapath.intents()
    begun = [int(each["frames"][0]["stream"]) for each in intents if each["frame_count"]]
    rows = datapath.view("streams")
    assert len({sequence % STREAMS for sequence in begun}) == len(begun)
    assert len(begun) == np.count_nonzero(keys_of(datapath)) == np.count_nonzero(rows["state"])
    assert len(begun) + datapath.counters().get(Reason.A_BUSY, 0) == 2 * count
    for sequence in begun:
        row = rows[sequence % STREAMS]
        key = stream_key(int(row["connection"]), int(row["stream_id"]))
        assert (row["sequence"], row["busy"]) == (sequence, 0)
        assert keys_of(datapath)[sequence % STREAMS] == key
