"""The relay's tables as programs read them: all that is there is found, and nothing else."""

from __future__ import annotations

import os
import random
from collections import deque
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from bpf.harness import Datapath
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import TABLE_ERASED, TABLE_NONE

PROBE = np.dtype(
    [
        ("key", "<u8"),
        ("owner", "<u4"),
        ("found", "<u4"),
        ("keys", "<u8"),
        ("lookups", "<u8"),
        ("hits", "<u8"),
        ("mistakes", "<u8"),
    ]
)
PACKET = bytes(64)
KEYS = 1 << 14
LOOKUPS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load(Path(__file__).with_name("tables.c"))


@pytest.fixture
def probe(datapath: Datapath) -> np.void:
    datapath.clear()
    found: np.void = np.frombuffer(datapath.probe, PROBE, 1)[0]
    return found


def look(datapath: Datapath, probe: np.void, key: int, owner: int) -> int | None:
    probe["key"], probe["owner"] = key, owner
    datapath.run("lookup", PACKET)
    return None if probe["found"] == TABLE_NONE else int(probe["found"])


@pytest.mark.kernels
def test_programs_find_what_the_relay_has_put(datapath: Datapath, probe: np.void) -> None:
    table = datapath.table("routes")
    numbers = random.Random(5)
    # So many that hardly a place is asked for while it rests.
    keys = [0, 1, 7, 1 << 63, *(numbers.getrandbits(64) for _ in range(120))]
    model: dict[tuple[int, int], int] = {}
    removed: set[tuple[int, int]] = set()
    for _ in range(1000):
        pair = numbers.choice(keys), numbers.randrange(1, 4)
        if pair in model:
            assert table.remove(*pair)
            removed.add(pair)
            del model[pair]
        else:
            model[pair] = numbers.randrange(TABLE_NONE)
            assert table.put(*pair, model[pair])
        asked = (*removed, *model) if numbers.random() < 0.02 else (pair,)
        for each in asked:
            assert look(datapath, probe, *each) == model.get(each) == table.find(*each)
    assert {(key, owner): value for key, owner, value in table.pairs()} == model


@pytest.mark.kernels
def test_two_buckets_full(datapath: Datapath, probe: np.void) -> None:
    """Without a seed to speak of, everything goes to the same two."""
    datapath.view("shared")[0]["seed"] = 0
    table = datapath.table("routes")
    put = [key for key in range(3 * layout.BUCKET_PAIRS) if table.put(key, 1, 100 + key)]
    assert len(put) == layout.BUCKET_PAIRS * 2
    for key in range(3 * layout.BUCKET_PAIRS):
        assert look(datapath, probe, key, 1) == (100 + key if key in put else None)


@pytest.mark.kernels
def test_the_key_of_erased_pairs_is_nobodys(datapath: Datapath, probe: np.void) -> None:
    table = datapath.table("routes")
    assert table.put(3, 1, 4)
    assert table.remove(3, 1)
    assert not table.put(TABLE_ERASED, 1, 4)
    assert look(datapath, probe, TABLE_ERASED, 1) is None


def test_a_pair_is_never_read_with_anothers_value(datapath: Datapath, probe: np.void) -> None:
    """The relay puts and removes as fast as it can; another CPU looks."""
    table = datapath.table("routes")
    numbers = random.Random(6)
    ended = Event()
    probe["keys"] = KEYS

    def read() -> None:
        os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
        while not ended.is_set():
            datapath.run("reader", PACKET, repeat=100_000)

    reader = Thread(target=read)
    reader.start()
    there: deque[int] = deque()
    changes = 0
    while changes < KEYS or probe["lookups"] < LOOKUPS:
        key = numbers.randrange(KEYS)
        if table.find(key, 1) is None and table.put(key, 1, key):
            there.append(key)
            changes += 1
        if len(there) == KEYS // 4:
            table.remove(there.popleft(), 1)
    ended.set()
    reader.join()
    assert probe["hits"]
    assert probe["mistakes"] == 0
