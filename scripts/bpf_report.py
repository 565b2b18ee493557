"""What the BPF programs cost: the verifier's work, their size, nanoseconds a packet.

Writes docs/bpf-report.md (``--output``). As root; ``make bpf-report``. Times are those of
BPF_PROG_TEST_RUN, the median of many runs of one packet each; a stage's is the difference to
the program that ends before it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack

TREE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests"))

from bpf.harness import Datapath  # noqa: E402
from bpf.packets import stream_frame, subgroup_header  # noqa: E402
from bpf.scenario import Peer, Scenario  # noqa: E402
from fastrelay.agent.programs import program_info  # noqa: E402
from fastrelay.fastpath.layout import (  # noqa: E402
    CLONE_MAGIC,
    CLONE_MARK,
    Outcome,
    Reason,
    Stage,
)

CHANNEL = 7
HEAD = subgroup_header(CHANNEL, 0)
DATAGRAM = 1200
"""UDP payload of the packets."""
WARM_UP = 200
MEMBERS = (1, 11, 101)
NOTHING = "int nothing(struct __sk_buff *skb) { return -1; }\n"


class Bench:
    """Packets of one stream, from a publisher to some members; ``plaintext``: unprotected."""

    def __init__(self, datapath: Datapath, runs: int, *, plaintext: bool = False) -> None:
        self.datapath = datapath
        self._plaintext = plaintext
        self._runs = runs
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

    def _packets(self, publisher: Peer) -> Iterator[bytes]:
        offset = len(HEAD)
        while True:
            room = DATAGRAM - len(publisher.datagram(stream_frame(2, b"", 1 << 20)))
            data = bytes(room)
            yield publisher.packet(stream_frame(2, data, offset, sizes=(None, 4, 2)))
            offset += len(data)

    def a(self, members: int = 1) -> float:
        """ns of program A a packet."""
        _, packets = self.begin(members)
        durations = []
        for _ in range(WARM_UP + self._runs):
            durations.append(self.datapath.run("server_ingress", next(packets)).duration)
            self.datapath.intents()
        self._done(Reason.A_CLONES)
        return statistics.median(durations[WARM_UP:])

    def _done(self, reason: int) -> None:
        """Nothing was measured that was not done, unless a stage is missing."""
        if not self._cut:
            assert self.datapath.counters()[reason] > self._runs

    def b(self) -> float:
        """ns of program B a clone."""
        _, packets = self.begin(1)
        shared = self.datapath.view("shared")[0]
        clone = (CLONE_MAGIC, int(shared["slot_next"]) - 1, 0)
        self.datapath.run("client_egress", next(packets), mark=CLONE_MARK, cb=clone)
        durations = []
        for _ in range(WARM_UP + self._runs):
            packet = next(packets)
            self.datapath.run("server_ingress", packet)
            clone = (CLONE_MAGIC, int(shared["slot_next"] - 1) & 0xFFFFFFFF, 0)
            result = self.datapath.run("client_egress", packet, mark=CLONE_MARK, cb=clone)
            durations.append(result.duration)
            self.datapath.intents()
            self.datapath.reports()
        self._done(Reason.B_OUTCOME + Outcome.SENT)
        return statistics.median(durations[WARM_UP:])

    def empty(self) -> float:
        packet = bytes(12) + b"\x08\x00\x45" + bytes(DATAGRAM)
        durations = [self.datapath.run("nothing", packet).duration for _ in range(self._runs)]
        return statistics.median(durations)

    def foreign(self) -> float:
        """ns of program A for UDP that is none of a known connection's."""
        publisher, packets = self.begin(1)
        self.datapath.delete("routes", publisher.cid)
        packet = next(packets)
        durations = [
            self.datapath.run("server_ingress", packet).duration for _ in range(self._runs)
        ]
        return statistics.median(durations)

    @contextmanager
    def without(self, stage: Stage) -> Iterator[None]:
        """The program ends where it would go on with this stage."""
        key = pack("<I", stage)
        self.datapath.delete("programs", key)
        self._cut = True
        try:
            yield
        finally:
            self._cut = False
            fd = self.datapath.programs[stage.name.lower()]
            self.datapath.update("programs", key, pack("<I", fd))


def stages(bench: Bench, letter: str) -> list[tuple[str, float]]:
    """Each program of A or B, and its share of a packet."""
    ours = [stage for stage in Stage if stage.name.startswith(letter)]
    measure = bench.a if letter == "A" else bench.b
    ends = []
    for stage in ours:
        with bench.without(stage):
            ends.append(measure())
    ends.append(measure())
    entry = "server_ingress" if letter == "A" else "client_egress"
    names = [entry, *(stage.name.lower() for stage in ours)]
    before = [0.0, *ends]
    return [(name, end - start) for name, start, end in zip(names, before, ends, strict=False)]


def report(datapath: Datapath, runs: int) -> Iterator[str]:
    bench, plain = Bench(datapath, runs), Bench(datapath, runs, plaintext=True)
    yield "# What the BPF programs cost"
    yield ""
    yield "Written by `make bpf-report`. Figures move with the machine; the proportions stay."
    yield ""
    yield f"Linux {platform.release()}, {_processor()}, clang by bcc. UDP payload {DATAGRAM} bytes,"
    yield f"one STREAM frame; medians of {runs} single runs."
    yield ""
    yield "| program | instructions verified | instructions | machine code, bytes | ns a packet |"
    yield "|---|---:|---:|---:|---:|"
    a, b = stages(bench, "A"), stages(bench, "B")
    for name, duration in (*a, *b):
        info = program_info(datapath.programs[name])
        yield (
            f"| `{name}` | {info.verified:,} | {info.translated // 8:,} | {info.jited:,} "
            f"| {duration:,.0f} |"
        )
    yield ""
    few, some, many = (bench.a(members) for members in MEMBERS)
    rows = {
        "an empty program, for comparison": bench.empty(),
        "A, a packet of nobody's": bench.foreign(),
        f"A, a packet with {MEMBERS[0]} member: checked, decrypted, told, cloned": few,
        f"A, each further clone, {MEMBERS[0]} to {MEMBERS[1]} members": _each(few, some, 0),
        f"A, each further clone, {MEMBERS[1]} to {MEMBERS[2]} members": _each(some, many, 1),
        "B, a clone: claimed, written, encrypted, told": sum(duration for _, duration in b),
        f"A, a packet with {MEMBERS[0]} member, without encryption": plain.a(),
        "B, a clone, without encryption": plain.b(),
    }
    yield "| | ns |"
    yield "|---|---:|"
    for name, duration in rows.items():
        yield f"| {name} | {duration:,.0f} |"
    yield ""
    yield "The verifier takes at most 1,000,000 instructions a program. What the stack does with a"
    yield "clone between A and B, and after B, is in none of these."


def _each(fewer: float, more: float, at: int) -> float:
    return (more - fewer) / (MEMBERS[at + 1] - MEMBERS[at])


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=TREE / "docs" / "bpf-report.md")
    parser.add_argument("--runs", type=int, default=2000)
    arguments = parser.parse_args()
    if os.geteuid():
        print("bpf-report: loading programs needs root", file=sys.stderr)
        return 1
    with Datapath() as datapath:
        datapath.load("server_ingress.c")
        datapath.load("client_egress.c")
        with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
            file.write(NOTHING)
            file.flush()
            datapath.load(Path(file.name))
        text = "\n".join(report(datapath, arguments.runs)) + "\n"
    arguments.output.write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
