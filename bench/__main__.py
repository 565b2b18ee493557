"""Measure the relay beside others on the same work in one run; see bench/README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from bench import plots, python_cost, quic_cost, relays, report
from bench.accounting import Accounting
from bench.awake import Awake
from bench.command import run_as_command
from bench.measure import OBJECT_SIZE, PATTERNS, Bench, Figures
from bench.relays import Relay
from fastrelay.local import processes, topology
from fastrelay.local.state import Store
from fastrelay.local.topology import LocalError, PodPlan
from fastrelay.quic.certificates import make_self_signed

NAME = "bench"
PARTS = (
    "delivery",
    *dict.fromkeys(each.name for each in PATTERNS),
    "thesis",
    "python",
    "joins",
    "handshakes",
    "memory",
)
JOIN_RATE = 50.0
"""Objects a second of the track that is joined."""
MOST_OBJECTS = 250.0
"""A second; the load is written in Python."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="each relay once in each round")
    parser.add_argument(
        "--minutes", type=float, default=12.0, help="no round begins that may not end in this time"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each delivery measurement")
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument(
        "--delivered", type=float, default=2500.0, help="objects a second, to all subscribers"
    )
    parser.add_argument(
        "--rate", type=float, help="objects a second, whatever the number of subscribers"
    )
    parser.add_argument("--joins", type=int, default=100)
    parser.add_argument("--handshakes", type=int, default=100)
    parser.add_argument("--idle", type=int, default=100, help="subscribers for the memory figure")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--relays", nargs="+", help="of kernel, user, floor, aiomoqt, moq-rs")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def rate_for(subscribers: int, wanted: argparse.Namespace) -> float:
    """Objects a second. With few subscribers there are more, or waking up would be all there is."""
    rate: float = wanted.rate or min(wanted.delivered / subscribers, MOST_OBJECTS)
    return rate


def measure_relay(
    bench: Bench, relay: Relay, wanted: argparse.Namespace, console: Console
) -> Figures:
    """Every wanted figure of one relay; what fails is told and left out."""
    figures: Figures = {}

    def part(name: str, work: Callable[[], Figures], rename: Callable[[str], str]) -> None:
        try:
            found = work()
        except (RuntimeError, LocalError) as error:
            console.print(f"  {relay.name}: {name}: {error}", highlight=False)
            return
        parts = [value for key, value in found.items() if "delivered_part" in key]
        share = min(parts, default=1.0)
        if share < 0.99:
            console.print(f"  {relay.name}: {name}: only {share:.0%} delivered", highlight=False)
        figures.update({rename(key): value for key, value in found.items()})

    if "delivery" in wanted.only:
        for count in wanted.subscribers:
            part(
                f"delivery to {count}",
                lambda count=count: bench.delivery(
                    relay, count, rate_for(count, wanted), wanted.seconds
                ),
                lambda key, count=count: f"{key}@{count}",
            )
    for pattern in PATTERNS:
        if pattern.name in wanted.only:
            part(
                pattern.name,
                lambda pattern=pattern: bench.pattern(relay, pattern, wanted.seconds),
                lambda key: key,
            )
    if "thesis" in wanted.only and relay.name in ("kernel", "user", "floor"):
        part("thesis", lambda: bench.thesis(relay), lambda key: key)
    if relay.plain:
        return figures
    if "joins" in wanted.only:
        part(
            "joins",
            lambda: bench.joins(relay, wanted.joins, JOIN_RATE),
            lambda key: "join_cpu_ms" if key == "cpu_ms" else key,
        )
    if "handshakes" in wanted.only:
        part(
            "handshakes",
            lambda: bench.handshakes(relay, wanted.handshakes),
            lambda key: f"handshakes_{key}",
        )
    if "memory" in wanted.only:
        part("memory", lambda: bench.memory(relay, wanted.idle), lambda key: key)
    return figures


def aioquic_send_cost(directory: Path, seconds: float) -> float:
    """Microseconds that aioquic itself needs for such an object, now, on this machine."""
    options = argparse.Namespace(seconds=seconds, rate=50.0, profile=False)
    return quic_cost.measure("aioquic", "moqt", 20, options, str(directory))


def run(wanted: argparse.Namespace, console: Console) -> None:
    third_party = os.environ.get("FASTRELAY_THIRD_PARTY_PYTHON")
    wanted.output.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    python = python_cost.measure() if "python" in wanted.only else {}
    store = Store()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = Path(scratch)
        certificate, key = directory / "certificate.pem", directory / "private-key.pem"
        plans = [PodPlan("relay"), PodPlan("publisher"), PodPlan("viewers")]
        state = topology.up(store, NAME, plans, owner=processes.identify(os.getpid()))
        try:
            make_self_signed([state.pods["relay"].ipv4, "localhost"]).write(certificate, key)
            found = relays.available(certificate, key, Path(third_party) if third_party else None)
            chosen = [one for one in found if not wanted.relays or one.name in wanted.relays]
            if not third_party:
                console.print("no third-party Python: only our own relay is measured")
            rounds: report.Rounds = []
            aioquic_us: list[float] = []
            stack.enter_context(Awake())
            accounting = stack.enter_context(Accounting())
            bench = Bench(store, state, wanted.output, accounting)
            relayed = set(wanted.only) - {"python"}
            for number in range(1, wanted.rounds + 1) if relayed else ():
                passed = time.monotonic() - begin
                if number > 1 and passed * number / (number - 1) > wanted.minutes * 60:
                    console.print(f"{passed:5.0f} s  there is no time for another round")
                    break
                measured = {}
                for relay in chosen:
                    passed = time.monotonic() - begin
                    console.print(
                        f"{passed:5.0f} s  round {number} of {wanted.rounds}: {relay.name}"
                    )
                    measured[relay.name] = measure_relay(bench, relay, wanted, console)
                rounds.append(measured)
                if "delivery" in wanted.only:
                    aioquic_us.append(aioquic_send_cost(directory, wanted.seconds))
        finally:
            topology.down(store, NAME)
    results = report.Results(
        relays={relay.name: relay.what for relay in chosen},
        rounds=rounds,
        aioquic_us=aioquic_us,
        python=python,
        distributions=bench.distributions,
        parameters={
            **{key: value for key, value in vars(wanted).items() if key != "output"},
            "rates": {count: rate_for(count, wanted) for count in wanted.subscribers},
            "object_size": OBJECT_SIZE,
        },
    )
    results.save(wanted.output)
    plots.draw(results, wanted.output)
    report.show(results, console)
    console.print(f"results.json, results.txt and the plots are in {wanted.output}")


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
