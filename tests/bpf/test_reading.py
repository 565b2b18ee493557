"""Packet numbers, the replay window, integers: against RFC 9000, and a model of the window."""

from __future__ import annotations

import random
from pathlib import Path
from struct import pack_into, unpack_from

import pytest

from bpf.harness import Datapath
from bpf.packets import VARINTS, decode_number
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import Reason
from fastrelay.moqt.varint import LEADING_ONES, QUIC

TEXT = 64
MAXIMUM = (1 << 62) - 1
READERS = {0: "probe_varint", 1: "probe_moqt_varint"}


class Probe:
    """The programs of ``reading.c``."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath

    def _run(self, program: str, *words: int) -> int:
        pack_into(f"<{len(words)}Q", self._datapath.probe, 0, *words)
        self._datapath.run(program, bytes(64))
        result: int = unpack_from("<Q", self._datapath.probe, 24)[0]
        return result

    def number(self, largest: int, truncated: int, length: int) -> int:
        return self._run("probe_number", largest, truncated, 8 * length)

    def replay(self, number: int) -> int:
        return self._run("probe_replay", number)

    def integer(self, variant: int, data: bytes, at: int = 0) -> tuple[int, int] | None:
        """Value and bytes read; None: it does not fit."""
        memory = self._datapath.probe
        pack_into("<QQ", memory, 48, at + len(data), at)
        memory[TEXT + at : TEXT + at + len(data)] = data
        value = self._run(READERS[variant])
        read, overran = unpack_from("<QQ", memory, 32)
        return None if overran else (value, read)


@pytest.fixture
def probe(datapath: Datapath, loaded: None) -> Probe:
    datapath.clear()
    return Probe(datapath)


@pytest.fixture(scope="module")
def loaded(datapath: Datapath) -> None:
    datapath.load(Path(__file__).with_name("reading.c"))


def test_packet_number_of_rfc_9000_appendix_a_3(probe: Probe) -> None:
    assert probe.number(0xA82F30EA, 0x9B32, 2) == 0xA82F9B32


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_packet_numbers_around_a_wrap(probe: Probe, length: int) -> None:
    window = 1 << 8 * length
    for base in (0, window, 5 * window, 1 << 50, MAXIMUM - 2 * window):
        for off in (-window // 2, -window // 2 + 1, -3, -1, 0, 1, 3, window // 2 - 1, window // 2):
            largest = base
            number = largest + off
            if number < 0:
                continue
            got = probe.number(largest, number % window, length)
            assert got == decode_number(number % window, length, largest + 1)
            if -window // 2 < off - 1 < window // 2 and number >= 0:
                assert got == number


def test_random_packet_numbers(probe: Probe) -> None:
    chance = random.Random(6)
    for _ in range(2000):
        length = chance.randint(1, 4)
        largest = chance.getrandbits(chance.randint(1, 62))
        truncated = chance.getrandbits(8 * length)
        assert probe.number(largest, truncated, length) == decode_number(
            truncated, length, largest + 1
        )


class Window:
    """What the replay window is to say: 32 words, each of the newest 32 numbers it has seen."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[int, set[int]]] = {}

    def look(self, number: int) -> int:
        block = number // 32
        place = block % layout.REPLAY_WORDS
        held, seen = self._words.get(place, (0, set()))
        if block < held:
            return Reason.A_OLD_NUMBER
        if block > held:
            seen = set()
        if number in seen:
            return Reason.A_REPLAY
        self._words[place] = (block, seen | {number})
        return 0


def test_replay_window(probe: Probe) -> None:
    chance = random.Random(7)
    window = Window()
    newest = 0
    verdicts = set()
    for _ in range(5000):
        newest += chance.choice([0, 1, 1, 1, 2, 40, 900])
        back = chance.choice([0, 0, 0, 1, 2, 31, 32, 33, 500, 992, 1023, 1024, 1100])
        number = max(0, newest - back)
        want = window.look(number)
        assert probe.replay(number) == want
        verdicts.add(want)
    assert verdicts == {0, Reason.A_REPLAY, Reason.A_OLD_NUMBER}


def test_a_number_within_the_window_is_never_too_old(probe: Probe) -> None:
    newest = 100_000
    assert probe.replay(newest) == 0
    for number in range(newest - 32 * (layout.REPLAY_WORDS - 1), newest):
        assert probe.replay(number) == 0
        assert probe.replay(number) == Reason.A_REPLAY


@pytest.mark.parametrize("variant", [0, 1])
def test_integers_of_every_size(probe: Probe, variant: int) -> None:
    chance = random.Random(8)
    reference = (QUIC, LEADING_ONES)[variant]
    sizes = {0: {1: 6, 2: 14, 4: 30, 8: 62}, 1: {n: 7 * n for n in range(1, 9)} | {9: 64}}
    for size, bits in sizes[variant].items():
        values = {0, 1, (1 << bits) - 1} | {chance.getrandbits(bits) for _ in range(50)}
        for value in values:
            data = VARINTS[variant](value, size)
            assert reference.decode(data, 0)[0] == value
            for at in (0, 1, 5, 1463):
                assert probe.integer(variant, data, at) == (value, size)
            for shorter in range(size):
                assert probe.integer(variant, data[:shorter]) is None
