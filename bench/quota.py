"""The quota under attack: none, in user space, in the kernel; see bench/README.md."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import quota_load, steering
from bench.accounting import Accounting, Spent
from bench.awake import Awake
from bench.capture import Capture
from bench.command import run_as_command
from bench.measure import FRAME_SIZES, Bench, Worker, datagrams_received
from bench.relays import PORT, Relay
from bench.system_calls import SystemCalls
from fastrelay.agent.maps import counters
from fastrelay.api.spec import RelaySpec
from fastrelay.fastpath.layout import Reason
from fastrelay.local import http, links, netns, processes, topology
from fastrelay.local.state import State, Store
from fastrelay.local.topology import LocalError, PodPlan
from fastrelay.quic.certificates import make_self_signed

NAME = "quota"
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"mode": "Disabled"},
    "user space": {"mode": "UserSpace"},
    "kernel, TC": {"mode": "Kernel"},
    "kernel, XDP": {"mode": "Kernel", "device": "attackers"},
}
HONEST, ATTACKERS, HELD = 8, 8, 16
"""Clients, attackers' addresses, connections of one address."""
LIMITS = {
    "action": "Drop",
    "perAddress": {"connections": HELD, "newPerSecond": 1000, "burst": 1000},
    "perPrefix": {"connections": 4096, "newPerSecond": 1000, "burst": 4096},
}
MEDIA_RATE, MEDIA_TO, MEDIA_SIZE = 100.0, 8, 1100
"""Objects a second, to so many; bytes."""
DEVICES = ("publisher", "viewers", "attackers")
REFUSED = (
    Reason.C_QUOTA_ADDRESS,
    Reason.C_QUOTA_PREFIX,
    Reason.C_QUOTA_TOTAL,
    Reason.C_QUOTA_PREFIX_ATTEMPTS,
    Reason.C_QUOTA_ATTEMPTS,
)
SETTLE_SECONDS = 1.0
RECOVERED = 0.9
"""Part of what was transferred before the attack."""
PAPER = {
    "throughput under attack, beside the control in user space": "+30.9 %",
    "duration under attack, beside the control in user space": "-65 %",
    "CPU for each blocked packet": "-26.4 %, 8 us",
    "system calls": "-89 % (77 551 to 8 178)",
    "recovery": "at 22 instead of 27 (units of 5 s)",
}
QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


@dataclass(slots=True)
class Found:
    """What was measured of one variant. Transfers: seconds since the attack's begin, and how long
    they took."""

    hook: str = ""
    transfers: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    """Of each third: before, during, after the attack."""
    failed: int = 0
    """Transfers during the attack."""
    flood_per_second: float = 0.0
    blocked: int = 0
    """Or, without a quota, datagrams that came to the relay. Of the flood alone."""
    process_us: float = 0.0
    softirq_us: float = 0.0
    """For each of those."""
    calls: float = 0.0
    idle_memory: int = 0
    attack_memory: int = 0
    calls_attack: float = 0.0
    """System calls a second while it is under attack and serves."""
    media_us: dict[str, list[float]] = field(default_factory=dict)
    """Residence times, ``calm`` and ``flood``."""

    def during(self, first: float, last: float) -> list[float]:
        """Durations of transfers that ended then."""
        return [took for begun, took in self.transfers if first <= begun + took < last]

    def throughput(self, first: float, last: float) -> float:
        """Megabytes a second."""
        size = quota_load.OBJECTS * quota_load.OBJECT_SIZE
        return len(self.during(first, last)) * size / (last - first) / 1e6

    @property
    def recovery(self) -> float | None:
        """Seconds after the attack until a second has as much as one before it."""
        calm = self.throughput(-self.seconds, 0)
        for tenth in range(int(10 * (self.seconds - 1))):
            begin = self.seconds + tenth / 10
            if self.throughput(begin, begin + 1) >= RECOVERED * calm:
                return tenth / 10
        return None


class QuotaBench:
    """Relay, honest clients, attackers; one variant after the other."""

    def __init__(self, bench: Bench, state: State, accounting: Accounting) -> None:
        self._bench = bench
        self._state = state
        self._accounting = accounting
        self._node = topology.namespace_of(state.name, topology.NODE)
        number = [*state.pods].index("attackers") + 1
        self._gateway = links.Addresses(number, state.network or 0).node4
        base = self._gateway.rpartition(".")[0]
        self._addresses = [f"{base}.{10 + number}" for number in range(ATTACKERS)]
        for each in self._addresses:
            netns.netlink(state.pods["attackers"].namespace, lambda ipr: _add(ipr, each))  # noqa: B023

    def measure(self, relay: Relay, wanted: argparse.Namespace) -> Found:
        found = Found(seconds=wanted.seconds)
        with self._bench.running(relay) as pid, self._load("publisher", "offer") as offer:
            self._pid = pid
            found.hook = self._hook()
            with self._attack(wanted.rate) as attack:
                time.sleep(SETTLE_SECONDS)
                with self._load("viewers", "transfer", str(HONEST)) as honest:
                    self._under_attack(found, honest, attack, offer)
                self._flood_alone(found, attack, wanted)
                self._media(found, attack, wanted)
        return found

    def _under_attack(self, found: Found, honest: Worker, attack: Worker, offer: Worker) -> None:
        seconds = found.seconds
        with self._steered(honest, attack, offer):
            time.sleep(SETTLE_SECONDS)
            honest.ask()
            time.sleep(seconds)
            calm = honest.ask()
            calls = SystemCalls(self._pid)
            began = attack.ask()["at"]
            time.sleep(seconds)
            flooded = honest.ask()
            attack.ask()
            found.calls_attack = calls.read() / seconds
            calls.close()
            time.sleep(seconds)
            after = honest.ask()
        found.failed = flooded["failed"]
        found.transfers = [
            (begun - began, took)
            for each in (calm, flooded, after)
            for begun, took in each["transfers"]
        ]

    def _flood_alone(self, found: Found, attack: Worker, wanted: argparse.Namespace) -> None:
        """Nobody else: all that the relay and the network do is for the flood's packets."""
        time.sleep(2 * SETTLE_SECONDS)
        found.idle_memory = processes.resident_bytes(self._pid) or 0
        with self._steered(attack):
            idle = self._spent()
            time.sleep(wanted.seconds / 2)
            idle = self._spent().since(idle)
            calls = SystemCalls(self._pid)
            blocked, spent, first = self._blocked(), self._spent(), attack.ask()
            time.sleep(wanted.seconds / 2)
            last, spent = attack.ask(), self._spent().since(spent)
            called = calls.read()
            calls.close()
            time.sleep(0.2)  # what is still in the socket counts, too
            blocked = self._blocked() - blocked
        found.attack_memory = processes.resident_bytes(self._pid) or 0
        found.flood_per_second = (last["sent"] - first["sent"]) / (last["at"] - first["at"])
        found.blocked = blocked
        spent = spent.since(idle)
        found.process_us = spent.process / max(blocked, 1) * 1e6
        found.softirq_us = spent.network / max(blocked, 1) * 1e6
        found.calls = called / max(blocked, 1)

    def _media(self, found: Found, attack: Worker, wanted: argparse.Namespace) -> None:
        with (
            self._bench.publishing(MEDIA_RATE, MEDIA_SIZE) as publisher,
            self._bench.worker("viewers", "subscribe", self._bench.url, str(MEDIA_TO)) as viewers,
            self._steered(publisher, viewers, attack),
        ):
            time.sleep(2 * SETTLE_SECONDS)
            for name in ("calm", "flood"):
                if name == "flood":
                    attack.ask()
                with Capture(self._node, "publisher", "viewers", *FRAME_SIZES) as capture:
                    time.sleep(wanted.seconds)
                times = capture.evaluate(MEDIA_TO)
                found.media_us[name] = [each * 1e6 for each in times.first]
            attack.ask()

    def _load(self, pod: str, role: str, *arguments: str) -> Worker:
        module = quota_load.__name__
        return self._bench.worker(pod, role, self._bench.url, *arguments, module=module)

    def _attack(self, rate: float) -> Worker:
        arguments = (self._gateway, str(HELD), str(rate), *self._addresses)
        return self._load("attackers", "attack", *arguments)

    @contextmanager
    def _steered(self, *load: Worker) -> Iterator[None]:
        with steering.steered(self._node, DEVICES, [self._pid], [each.pid for each in load]):
            yield

    def _spent(self) -> Spent:
        """On both CPUs: XDP runs where the packet is sent from."""
        both = [self._accounting.spent(self._pid, cpu) for cpu in steering.cpus()]
        return Spent(both[0].process, sum(each.network for each in both))

    def _quota(self) -> dict[str, Any] | None:
        namespace = self._state.pods["relay"].namespace
        port = RelaySpec().monitoring.port
        page: dict[str, Any] = http.get_json(namespace, port, "/statusz")
        return page.get("quota")

    def _hook(self) -> str:
        quota = self._quota()
        return quota["by"] if quota else "nobody"

    def _blocked(self) -> int:
        quota = self._quota()
        if quota is None:
            return datagrams_received(self._state.pods["relay"].namespace)
        _, totals = counters(self._bench.maps)
        kernel: int = sum(totals[reason] for reason in REFUSED)
        user: int = sum(quota["refusals"].values())
        return kernel + user


def _add(ipr: Any, address: str) -> None:
    index = links.index_of(ipr, links.POD_DEVICE)
    ipr.addr("add", index=index, address=address, prefixlen=24)


def relays_of(directory: Path, certificate: Path, key: Path, names: list[str]) -> list[Relay]:
    """One for each variant; the same relay but for its quota."""
    found: list[Relay] = []
    for name in names:
        spec = {"quota": {**VARIANTS[name], **LIMITS}, "listen": {"drafts": [18]}}
        resource = {
            "apiVersion": "fastrelay.io/v1alpha1",
            "kind": "MoQRelay",
            "metadata": {"name": "quota"},
            "spec": spec,
        }
        manifest = directory / f"{len(found)}.json"
        manifest.write_text(json.dumps(resource))
        command = [
            *(sys.executable, "-m", "fastrelay.cli", "relay", "-f", str(manifest)),
            *("--listen", f"0.0.0.0:{PORT}", "--certificate", str(certificate)),
            *("--private-key", str(key), "--log-level", "warning"),
        ]
        parsed = RelaySpec.model_validate(spec)
        found.append(Relay(name, name, tuple(command), kernel=True, spec=parsed))
    return found


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def rows(results: dict[str, Found]) -> Iterator[tuple[str, list[str]]]:
    """The table: what, and a cell for each variant."""

    def row(what: str, say: Any) -> tuple[str, list[str]]:
        return what, [say(found) for found in results.values()]

    yield row("refused by", lambda f: f.hook)
    yield row("throughput before (MB/s)", lambda f: f"{f.throughput(-f.seconds, 0):.2f}")
    yield row(
        "throughput under attack (MB/s)",
        lambda f: (
            f"{f.throughput(0, f.seconds):.2f} "
            f"({f.throughput(0, f.seconds) / max(f.throughput(-f.seconds, 0), 1e-9):.1%})"
        ),
    )
    yield row("transfers that failed under attack", lambda f: str(f.failed))
    for part in QUANTILES:
        yield row(
            f"duration, p{100 * part:g}: before, under attack (ms)",
            lambda f, part=part: (
                f"{quantile(f.during(-f.seconds, 0), part) * 1e3:.0f}, "
                f"{quantile(f.during(0, f.seconds), part) * 1e3:.0f}"
            ),
        )
    yield row("recovered after (s)", lambda f: "not" if f.recovery is None else f"{f.recovery:.1f}")
    yield row("system calls a second under attack", lambda f: f"{f.calls_attack:.0f}")
    yield row("flood (packets a second)", lambda f: f"{f.flood_per_second:.0f}")
    yield row("of it blocked, or received where nobody blocks", lambda f: str(f.blocked))
    yield row("CPU for each, process (us)", lambda f: f"{f.process_us:.2f}")
    yield row("CPU for each, softirqs (us)", lambda f: f"{f.softirq_us:.2f}")
    yield row("CPU for each, both (us)", lambda f: f"{f.process_us + f.softirq_us:.2f}")
    yield row("system calls for each", lambda f: f"{f.calls:.4f}")
    yield row(
        "memory: before, after the flood (MB)",
        lambda f: f"{f.idle_memory / 1e6:.1f}, {f.attack_memory / 1e6:.1f}",
    )
    for part in (0.5, 0.99):
        yield row(
            f"media's residence, p{100 * part:g}: calm, flood (us)",
            lambda f, part=part: ", ".join(
                f"{quantile(values, part):.0f}" for values in f.media_us.values()
            ),
        )


def compared(results: dict[str, Found]) -> Iterator[tuple[str, str, str]]:
    """What, in the paper, and here: kernel beside user space."""
    user = results.get("user space")
    for name, found in results.items():
        if user is None or not name.startswith("kernel"):
            continue
        paper = iter(PAPER.items())
        span = 0.0, found.seconds
        durations = [statistics.fmean(f.during(*span) or [float("nan")]) for f in (found, user)]
        costs = [f.process_us + f.softirq_us for f in (found, user)]
        for one, other in (
            (found.throughput(*span), user.throughput(*span)),
            (durations[0], durations[1]),
            (costs[0], costs[1]),
            (found.calls_attack, user.calls_attack),
        ):
            what, theirs = next(paper)
            yield f"{what} ({name})", theirs, f"{one / max(other, 1e-9) - 1:+.1%}"
        what, theirs = next(paper)
        ends = ["not" if f.recovery is None else f"{f.recovery:.1f} s" for f in (found, user)]
        yield f"{what} ({name})", theirs, f"{ends[0]} instead of {ends[1]}"


def report(results: dict[str, Found], console: Console) -> str:
    """Shows the tables, and returns them as Markdown."""
    lines = []
    tables = (
        (["", *results], [[what, *cells] for what, cells in rows(results)]),
        (["", "the paper (eQUIC)", "here"], [list(each) for each in compared(results)]),
    )
    for head, body in tables:
        table = Table(*head)
        for cells in body:
            table.add_row(*cells)
        console.print(table)
        lines += ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
        lines.append("")
    return "\n".join(lines)


def draw(results: dict[str, Found], directory: Path) -> None:
    """Throughput over time, and durations under attack; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    if not results:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "bench"
    sheet, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4.5))
    for name, found in results.items():
        begins = [tenth / 2 for tenth in range(int(-2 * found.seconds), int(4 * found.seconds))]
        left.plot(begins, [found.throughput(at, at + 0.5) for at in begins], label=name)
        ordered = sorted(found.during(0, found.seconds))
        shares = [(number + 1) / len(ordered) for number in range(len(ordered))]
        right.plot(ordered, shares, drawstyle="steps-post", label=name)
    left.axvspan(0, max(each.seconds for each in results.values()), alpha=0.1)
    left.set(xlabel="seconds since the attack began", ylabel="honest clients (MB/s)")
    right.set(xlabel="seconds for 256 kB under attack", ylabel="share of transfers", xscale="log")
    left.legend()
    sheet.tight_layout()
    for ending in ("png", "svg"):
        sheet.savefig(directory / f"quota.{ending}", dpi=130)
    pyplot.close(sheet)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.quota", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=7.0, help="before, during and after the attack, each"
    )
    parser.add_argument("--rate", type=float, default=20_000.0, help="first packets a second")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    store, begin = Store(), time.monotonic()
    results: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as scratch, Awake(), Accounting() as accounting:
        directory = Path(scratch)
        certificate, key = directory / "certificate.pem", directory / "private-key.pem"
        plans = [PodPlan(name) for name in ("relay", *DEVICES)]
        state = topology.up(store, NAME, plans, owner=processes.identify(os.getpid()))
        try:
            make_self_signed([state.pods["relay"].ipv4, "localhost"]).write(certificate, key)
            bench = QuotaBench(Bench(store, state, wanted.output, accounting), state, accounting)
            for relay in relays_of(directory, certificate, key, wanted.variants):
                console.print(f"{time.monotonic() - begin:5.0f} s  {relay.name}")
                try:
                    results[relay.name] = bench.measure(relay, wanted)
                except (RuntimeError, LocalError, OSError) as error:
                    console.print(f"  {relay.name}: {error}", highlight=False)
        finally:
            topology.down(store, NAME)
    text = report(results, console)
    (wanted.output / "quota.md").write_text(text)
    document = {name: asdict(found) for name, found in results.items()}
    (wanted.output / "quota.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(results, wanted.output)
    console.print(f"quota.md, quota.json and the plot are in {wanted.output}")


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
