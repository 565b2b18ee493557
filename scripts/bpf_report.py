"""What the BPF programs cost: the verifier's work, their size, nanoseconds a packet.

Writes docs/bpf-report.md (``--output``). As root; ``make bpf-report``. Times are those of
BPF_PROG_TEST_RUN, one packet a run. Everything is measured in turn, again and again, and the
smallest and the median of all runs are told; a stage's time is the difference to the same
programs with that stage, and what follows it, empty.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack

import numpy as np

TREE = Path(__file__).resolve().parent.parent
BPF = TREE / "bpf"
sys.path.insert(0, str(TREE / "tests"))

import bpf_path  # noqa: E402
from bpf_path import DATAGRAM, HEAD, Nanoseconds, datagrams_of_a_stream  # noqa: E402

from bpf.budgets import BUDGETS  # noqa: E402
from bpf.harness import Datapath  # noqa: E402
from bpf.packets import packet as framed  # noqa: E402
from bpf.packets import stream_frame  # noqa: E402
from bpf.scenario import Peer, Scenario, route_key  # noqa: E402
from fastrelay.agent.programs import program_info  # noqa: E402
from fastrelay.fastpath.bands import ALWAYS, Bands, Shares  # noqa: E402
from fastrelay.fastpath.keystreams import Keystreams  # noqa: E402
from fastrelay.fastpath.layout import (  # noqa: E402
    BAND_LEVELS,
    CLONE_MAGIC,
    CLONE_MARK,
    CONNECTION_BANDS,
    KEYSTREAMS_AHEAD,
    Outcome,
    Reason,
    Stage,
)
from ring_records import in_ring  # noqa: E402

WARM_UP = 50
"""Runs of each round that do not count."""
MEMBERS = (1, 11, 101)
OTHERS = """
int nothing(struct __sk_buff *skb) { return -1; }
int drop(struct __sk_buff *skb) { return 2; }
"""
WITHOUT_BANDS = """
#pragma once
#include "atomic.h"
#include "maps.h"
INLINE u32 band_of(const struct bands *bands, u8 publisher, u8 subscriber) { return 0; }
INLINE struct band *band_at(struct bands *bands, u64 band) { return &bands->each[0]; }
INLINE u64 band_limit(struct bands *bands, u32 band, u64 limit) { return limit; }
INLINE u32 judge(struct bands *bands, u32 band, u64 group, u64 now) { return 0; }
INLINE void charge(struct bands *bands, u32 band, u64 size, u64 now) {}
INLINE u64 bands_now(const struct bands *bands) { return 0; }
"""
"""In the place of bands.h."""
WAYS = "as it is", "with limits", "without bands"


class Bench:
    """Packets of one stream, from a publisher to some members; ``plaintext``: unprotected."""

    def __init__(self, datapath: Datapath, *, plaintext: bool = False) -> None:
        self.datapath = datapath
        self._plaintext = plaintext
        self._cut = False

    def begin(self, members: int) -> tuple[Peer, Iterator[bytes]]:
        """A scenario in which the stream has begun, and packets that go on with it."""
        scenario = Scenario(self.datapath)
        publisher, _ = scenario.simple(members, plaintext=self._plaintext)
        self.datapath.view("connections")["plaintext"] = self._plaintext
        self.datapath.view("shared")[0]["slot_limit"] = 1 << 40
        first = publisher.packet(stream_frame(2, HEAD))
        self.datapath.run("server_ingress", first)
        return publisher, self._packets(publisher)

    @staticmethod
    def _packets(publisher: Peer) -> Iterator[bytes]:
        for datagram in datagrams_of_a_stream(publisher, len(HEAD)):
            yield framed(publisher.path, datagram)

    def a(self, runs: int, members: int = 1) -> list[int]:
        """ns of program A, a packet each."""
        _, packets = self.begin(members)
        durations = []
        for _ in range(runs):
            durations.append(self.datapath.run("server_ingress", next(packets)).duration)
            self.datapath.intents()
        self._done(Reason.A_CLONES, runs)
        return durations

    def _done(self, reason: int, runs: int) -> None:
        """Nothing was measured that was not done, unless a stage is missing."""
        if not self._cut:
            assert self.datapath.counters()[reason] >= runs

    def b(self, runs: int, *, limited: bool = False, ahead: bool = False) -> list[int]:
        """ns of program B, a clone each; ``limited``: to a member that has a rate, a level and a
        reserve, none of which drops it; ``ahead``: its keystream is there."""
        _, packets = self.begin(1)
        maps = self.datapath.relay_maps("keystreams", "connections")
        keystreams = Keystreams(maps) if ahead else None
        if limited:
            self.datapath.view("connections")["bands"] = limits()
        shared = self.datapath.view("shared")[0]
        clone = (CLONE_MAGIC, int(shared["slot_next"]) - 1, 0)
        self.datapath.run("client_egress", next(packets), mark=CLONE_MARK, cb=clone)
        durations = []
        for _ in range(runs):
            packet = next(packets)
            self.datapath.run("server_ingress", packet)
            clone = (CLONE_MAGIC, int(shared["slot_next"] - 1) & 0xFFFFFFFF, 0)
            result = self.datapath.run("client_egress", packet, mark=CLONE_MARK, cb=clone)
            durations.append(result.duration)
            self.datapath.intents()
            reports = self.datapath.reports()
            if keystreams is not None:
                keystreams.used(in_ring(reports))
        self._done(Reason.B_OUTCOME + Outcome.SENT, runs)
        if ahead:
            self._done(Reason.B_AHEAD, runs - KEYSTREAMS_AHEAD)
        return durations

    def ways(self, rounds: int, runs: int, directory: Path) -> dict[str, list[float]]:
        """Medians of B, one of each round, in turn: what bands cost."""
        for file in (BPF / "client_egress.c", *BPF.glob("*.h")):
            shutil.copy(file, directory)
        (directory / "bands.h").write_text(WITHOUT_BANDS)
        sources = dict.fromkeys(WAYS, "client_egress.c")
        sources["without bands"] = directory / "client_egress.c"
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, source in sources.items():
                self.datapath.load(source)
                durations = self.b(WARM_UP + runs, limited=way == "with limits")
                found[way].append(statistics.median(durations[WARM_UP:]))
        self.datapath.load("client_egress.c")
        return found

    def empty(self, runs: int) -> list[int]:
        """ns of a program that does nothing."""
        packet = bytes(12) + b"\x08\x00\x45" + bytes(DATAGRAM)
        return [self.datapath.run("nothing", packet).duration for _ in range(runs)]

    def foreign(self, runs: int) -> list[int]:
        """ns of program A for UDP that is none of a known connection's."""
        publisher, packets = self.begin(1)
        self.datapath.table("routes").remove(route_key(publisher.cid), 1)
        packet = next(packets)
        return [self.datapath.run("server_ingress", packet).duration for _ in range(runs)]

    def up_to(self, stage: Stage) -> Series:
        """The stage's program, as far as this stage, which does nothing."""
        measure = self.a if stage.name.startswith("A_") else self.b

        def series(runs: int) -> list[int]:
            with self._without(stage):
                return measure(runs)

        return series

    @contextmanager
    def _without(self, stage: Stage) -> Iterator[None]:
        key = pack("<I", stage)
        self.datapath.update("programs", key, pack("<I", self.datapath.programs["nothing"]))
        self._cut = True
        try:
            yield
        finally:
            self._cut = False
            fd = self.datapath.programs[stage.name.lower()]
            self.datapath.update("programs", key, pack("<I", fd))


def limits() -> np.ndarray:
    """A connection's numbers."""
    words = [0] * (CONNECTION_BANDS.dtype.itemsize // 8)
    bands = Bands(Shares())
    bands.set_rate(1 << 33, 0)
    bands.set_level(BAND_LEVELS // 2)
    bands.set_window(1 << 20)
    bands.remember(ALWAYS)
    bands.enter(words, 0, 0)
    return np.array(words, "u8").view(CONNECTION_BANDS.dtype)


Series = Callable[[int], list[int]]
"""Durations of so many runs, in ns."""


def measured(every: dict[str, Series], rounds: int, runs: int) -> dict[str, Nanoseconds]:
    """All series in turn, so that a bad moment is every one's."""
    found: dict[str, list[int]] = {name: [] for name in every}
    for _ in range(rounds):
        for name, series in every.items():
            found[name] += series(WARM_UP + runs)[WARM_UP:]
    return {name: Nanoseconds.of(durations) for name, durations in found.items()}


def measure(datapath: Datapath, rounds: int, runs: int) -> dict[str, Nanoseconds]:
    bench, plain = Bench(datapath), Bench(datapath, plaintext=True)
    return measured(
        {
            "A": bench.a,
            "B": bench.b,
            "B ahead": lambda runs: bench.b(runs, ahead=True),
            **{stage.name: bench.up_to(stage) for stage in Stage},
            "empty": bench.empty,
            "foreign": bench.foreign,
            "plain A": plain.a,
            "plain B": plain.b,
            **{
                f"A {members}": lambda runs, members=members: bench.a(runs, members)
                for members in MEMBERS[1:]
            },
        },
        rounds,
        runs,
    )


def stages(found: dict[str, Nanoseconds], letter: str) -> Iterator[tuple[str, Nanoseconds]]:
    """Each program of A or B, and its share of a packet."""
    entry = "server_ingress" if letter == "A" else "client_egress"
    ours = [stage for stage in Stage if stage.name.startswith(letter)]
    names = [entry, *(stage.name.lower() for stage in ours)]
    ends = [*(found[stage.name] for stage in ours), found[letter]]
    starts = [found["empty"] - found["empty"], *ends]
    for name, start, end in zip(names, starts, ends, strict=False):
        yield name, end - start


def report(datapath: Datapath, rounds: int, runs: int) -> Iterator[str]:
    found = measure(datapath, rounds, runs)
    yield "# What the BPF programs cost"
    yield ""
    yield "Written by `make bpf-report`. Figures move with the machine; the proportions stay."
    yield ""
    yield f"Linux {platform.release()}, {_processor()}, clang by bcc. UDP payload {DATAGRAM} bytes,"
    yield f"one STREAM frame; smallest and median of {rounds * runs} single runs."
    yield ""
    yield (
        "| program | instructions verified | budget | instructions | machine code, bytes "
        "| ns a packet, least | median |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, duration in (*stages(found, "A"), *stages(found, "B")):
        info = program_info(datapath.programs[name])
        yield (
            f"| `{name}` | {info.verified:,} | {BUDGETS[name]:,} | {info.translated // 8:,} "
            f"| {info.jited:,} | {duration} |"
        )
    yield ""
    one, some, many = MEMBERS
    rows = {
        "an empty program, for comparison": found["empty"],
        "A, a packet of nobody's": found["foreign"],
        f"A, a packet with {one} member: checked, decrypted, told, cloned": found["A"],
        f"A, each further clone, {one} to {some} members": (found[f"A {some}"] - found["A"])
        / (some - one),
        f"A, each further clone, {some} to {many} members": (
            found[f"A {many}"] - found[f"A {some}"]
        )
        / (many - some),
        "B, a clone: claimed, written, encrypted, told": found["B"],
        "the same, its keystream made ahead": found["B ahead"],
        f"A, a packet with {one} member, without encryption": found["plain A"],
        "B, a clone, without encryption": found["plain B"],
    }
    yield "| | ns, least | median |"
    yield "|---|---:|---:|"
    for name, duration in rows.items():
        yield f"| {name} | {duration} |"
    yield ""
    with tempfile.TemporaryDirectory() as scratch:
        ways = Bench(datapath).ways(rounds, runs, Path(scratch))
    yield f"| what bands cost: B, median of {rounds} rounds in turn | ns | beside without |"
    yield "|---|---:|---:|"
    for way, medians in ways.items():
        ratios = map(float.__truediv__, medians, ways["without bands"])
        more = statistics.median(ratios) - 1
        yield f"| {way} | {statistics.median(medians):,.0f} | {more:+.1%} |"
    yield ""
    yield "*With limits*: a rate, a level and a reserve that drop nothing. At most 5 % is aimed at."
    yield ""
    yield "The verifier takes at most 1,000,000 instructions a program; tests/bpf/test_budgets.py"
    yield "holds each to its budget, on every kernel of `make kernels`. What the stack does with a"
    yield "clone between A and B, and after B, is in none of these, but in the next ones."
    yield ""
    yield from bpf_path.section(datapath, rounds)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TREE / "docs" / "bpf-report.md")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200, help="a round")
    arguments = parser.parse_args()
    if os.geteuid():
        print("bpf-report: loading programs needs root", file=sys.stderr)
        return 1
    with Datapath() as datapath:
        datapath.load("server_ingress.c")
        datapath.load("client_egress.c")
        with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
            file.write(OTHERS)
            file.flush()
            datapath.load(Path(file.name))
        text = "\n".join(report(datapath, arguments.rounds, arguments.runs)) + "\n"
    arguments.output.write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
