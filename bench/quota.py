"""The quota under attack: none, in user space, in the kernel; see bench/README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import quota_load, quota_programs, quota_report, steering
from bench.accounting import Accounting, Spent, scheduled_seconds
from bench.awake import Awake
from bench.capture import Capture
from bench.command import run_as_command
from bench.measure import FRAME_SIZES, Bench, Worker, datagrams_received
from bench.precedence import give_precedence, we_first
from bench.quota_found import Floor, Found, Results, Variants, Window, served
from bench.quota_servers import HELD, SUBJECTS, VARIANTS, servers
from bench.relays import Relay
from bench.system_calls import SystemCalls
from fastrelay.agent import syscalls
from fastrelay.agent.maps import counters
from fastrelay.agent.pins import Tree
from fastrelay.api.spec import RelaySpec
from fastrelay.fastpath.layout import Reason
from fastrelay.local import http, links, netns, processes, topology
from fastrelay.local.state import State, Store
from fastrelay.local.topology import LocalError, PodPlan
from fastrelay.quic.certificates import make_self_signed

NAME = "quota"
HONEST, ATTACKERS = 8, 8
"""Clients, attackers' addresses."""
MEDIA_RATE, MEDIA_TO, MEDIA_SIZE = 200.0, 8, 1100
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
HOOK_SECONDS = 60.0
TRANSFER_SECONDS = 1.0
"""Of a turn, before and after what is measured: whoever is seen has seen the same all the time."""
FEW_TURNS = 2
MEDIA_TURNS = 2
"""For each of the others: it takes many objects to know the slowest hundredth."""
LAST_SECONDS = 0.2
"""Until what is still on its way has arrived."""


class QuotaBench:
    """Relay, honest clients, attackers; one variant after the other.

    The attackers' process and all that the kernel does with their packets, up to where they are
    refused or lie in the relay's socket, are on one CPU; everything else is on the other.
    """

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

    def relay(self, relay: Relay, wanted: argparse.Namespace) -> Found:
        """Everything."""
        found, url = Found(seconds=wanted.seconds), self._bench.url
        with self._bench.running(relay) as pid, self._load("publisher", "offer", url) as offer:
            self._pid, found.hook = pid, self._hook(relay)
            with self._attack(url) as attack:
                time.sleep(SETTLE_SECONDS)
                with self._load("viewers", "transfer", url, str(HONEST)) as honest:
                    self._under_attack(found, honest, attack, wanted, offer.pid)
                    if "kernel" in found.hook:
                        self._shares(found, honest, attack, wanted, offer.pid)
                with self._load("viewers", "pace", url, str(wanted.paced)) as honest:
                    self._paced(found, honest, attack, wanted, offer.pid)
                self._flood_alone(found, attack, wanted)
                if "kernel" in found.hook:
                    self._programs(found, attack)
                    self._media(found, attack, wanted)
                    found.refused_others = self._refused() - self._refused(REFUSED[:1])
                if found.hook == "kernel":
                    found.floors = list(self._floors(attack, wanted))
        return found

    def http3(self, server: Relay, wanted: argparse.Namespace) -> Found:
        """The paper's experiment."""
        found, url = Found(seconds=wanted.seconds), self._bench.url.replace("moqt:", "https:")
        with self._bench.running(server) as pid, self._attack(url) as attack:
            self._pid, found.hook = pid, self._hook(server)
            with self._load("viewers", "transfer", url, str(HONEST)) as honest:
                self._under_attack(found, honest, attack, wanted)
            self._flood_alone(found, attack, wanted)
        return found

    def _under_attack(
        self, found: Found, honest: Worker, attack: Worker, wanted: argparse.Namespace, *more: int
    ) -> None:
        seconds = found.seconds
        with self._apart(attack, honest.pid, *more):
            time.sleep(SETTLE_SECONDS)
            honest.ask()
            time.sleep(seconds)
            calm = honest.ask()
            calls = SystemCalls(self._pid)
            began = attack.ask(rate=wanted.rate)["at"]
            time.sleep(seconds)
            flooded = honest.ask()
            attack.ask(rate=0)
            found.calls_attack = calls.read() / seconds
            calls.close()
            time.sleep(seconds)
            after = honest.ask()
        found.failed = len(flooded["failed"])
        found.transfers = [
            (begun - began, took)
            for each in (calm, flooded, after)
            for begun, took in each["transfers"]
        ]

    def _shares(
        self, found: Found, honest: Worker, attack: Worker, wanted: argparse.Namespace, *more: int
    ) -> None:
        """What honest clients get, calm and under attack, taking turns."""

        def rate() -> float:
            honest.ask()
            time.sleep(TRANSFER_SECONDS)
            begin = time.monotonic()
            time.sleep(wanted.turn)
            end = time.monotonic()
            time.sleep(TRANSFER_SECONDS)
            return served(honest.ask()["transfers"], begin, end)

        with self._apart(attack, honest.pid, *more):
            time.sleep(SETTLE_SECONDS)
            found.shares, found.share_flood = self._turns(attack, wanted.turns, wanted.rate, rate)

    def _paced(
        self, found: Found, honest: Worker, attack: Worker, wanted: argparse.Namespace, *more: int
    ) -> None:
        """The same when they do not ask for all that the machine can do."""

        def window() -> Window:
            honest.ask()
            seen = _over(honest, time.monotonic() + TRANSFER_SECONDS)
            spent, begin = self._spent(), time.monotonic()
            time.sleep(wanted.turn)
            end, spent = time.monotonic(), self._spent().since(spent)
            seen += _over(honest, end)
            done = [each for answer in seen for each in answer["transfers"]]
            failed = [due for answer in seen for due in answer["failed"]]
            return Window(
                served(done, begin, end),
                [took for due, took in done if begin <= due < end],
                sum(begin <= due < end for due in failed),
                spent.process / (end - begin),
            )

        with self._apart(attack, honest.pid, *more):
            time.sleep(SETTLE_SECONDS)
            # Where the kernel refuses nobody, the loss is so large that few turns tell it.
            turns = wanted.turns if "kernel" in found.hook else min(wanted.turns, FEW_TURNS)
            found.paced, found.paced_flood = self._turns(attack, turns, wanted.rate, window)

    def _turns(
        self,
        attack: Worker,
        turns: int,
        rate: float | None,
        measure: Callable[[], Any],
    ) -> tuple[list[tuple[Any, Any]], float]:
        """Calm and under the flood, and the flood's packets a second. Every second turn the flood
        is first: of what gets slower or quicker all the time, both have the same."""
        pairs, sent, seconds = [], 0, 0.0

        def flooded() -> Any:
            nonlocal sent, seconds
            first = attack.ask(rate=rate)
            found = measure()
            last = attack.ask(rate=0)
            time.sleep(LAST_SECONDS)
            sent += last["sent"] - first["sent"]
            seconds += last["at"] - first["at"]
            return found

        for number in range(turns):
            if number % 2:
                under_attack = flooded()
                pairs.append((measure(), under_attack))
            else:
                pairs.append((measure(), flooded()))
        return pairs, sent / seconds

    def _flood_alone(self, found: Found, attack: Worker, wanted: argparse.Namespace) -> None:
        """Nobody else: all that the relay and the network do is for the flood's packets."""
        time.sleep(2 * SETTLE_SECONDS)
        found.idle_memory = processes.resident_bytes(self._pid) or 0
        with self._apart(attack):
            idle = self._idle(wanted)
            calls = SystemCalls(self._pid)
            blocked, spent = self._blocked(), self._spent()
            generator = scheduled_seconds(attack.pid)
            first = attack.ask(rate=wanted.rate)
            time.sleep(wanted.seconds / 2)
            last = attack.ask(rate=0)
            generator = scheduled_seconds(attack.pid) - generator
            time.sleep(LAST_SECONDS)
            spent = self._spent().since(spent)
            called = calls.read()
            calls.close()
            blocked = self._blocked() - blocked
        found.attack_memory = processes.resident_bytes(self._pid) or 0
        took = last["at"] - first["at"]
        found.flood_per_second = (last["sent"] - first["sent"]) / took
        found.generator_cpu = generator / took
        found.blocked = blocked
        spent = spent.since(idle)
        found.process_us = spent.process / max(blocked, 1) * 1e6
        found.softirq_us = spent.network / max(blocked, 1) * 1e6
        found.calls = called / max(blocked, 1)

    def _idle(self, wanted: argparse.Namespace) -> Spent:
        """What is spent anyhow in as long as a flood is measured."""
        idle = self._spent()
        time.sleep(wanted.seconds / 2 + LAST_SECONDS)
        return self._spent().since(idle)

    def _programs(self, found: Found, attack: Worker) -> None:
        """What the program alone costs that refuses: at the device, if there is one."""
        tree = Tree(self._bench.maps.parents[1], self._bench.maps.parent.name)
        at_device = tree.device.is_dir()
        (pin,) = tree.device.iterdir() if at_device else tree.programs.glob("*/a")
        hook = quota_programs.XDP if at_device else quota_programs.TC
        packet = quota_load.first_packets(quota_load.Server.of(self._bench.url))[0]
        frame = quota_programs.frame(packet, self._addresses[0], self._bench.url)
        program = syscalls.get(pin)
        try:
            found.program_us = quota_programs.alone(program, frame, hook)
            found.program_flood_us = self._by_statistics(program, attack)
        finally:
            os.close(program)

    def _by_statistics(self, program: int, attack: Worker) -> float:
        def flood() -> None:
            attack.ask(rate=None)
            time.sleep(2 * SETTLE_SECONDS)
            attack.ask(rate=0)

        return quota_programs.by_statistics(program, flood)

    def _floors(self, attack: Worker, wanted: argparse.Namespace) -> Iterator[Floor]:
        """What the way to a program costs that does nothing but refuse, at both places."""
        for hook, device in ((quota_programs.TC, "relay"), (quota_programs.XDP, "attackers")):
            with quota_programs.refusing(self._node, device, hook) as program:
                with self._apart(attack):
                    idle, spent = self._idle(wanted), self._spent()
                    first = attack.ask(rate=wanted.rate)
                    time.sleep(wanted.seconds / 2)
                    last = attack.ask(rate=0)
                    time.sleep(LAST_SECONDS)
                    spent = self._spent().since(spent).since(idle)
                own = self._by_statistics(program, attack)
            sent = max(last["sent"] - first["sent"], 1)
            yield Floor(hook.name, spent.network / sent * 1e6, own)

    def _media(self, found: Found, attack: Worker, wanted: argparse.Namespace) -> None:
        """Under as many packets as the attackers' CPU can send and have refused."""

        def residence() -> list[float]:
            with Capture(self._node, "publisher", "viewers", *FRAME_SIZES) as capture:
                time.sleep(wanted.turn)
            return [each * 1e6 for each in capture.evaluate(MEDIA_TO).first]

        with (
            self._bench.publishing(MEDIA_RATE, MEDIA_SIZE) as publisher,
            self._bench.worker("viewers", "subscribe", self._bench.url, str(MEDIA_TO)) as viewers,
            self._apart(attack, publisher.pid, viewers.pid),
        ):
            time.sleep(2 * SETTLE_SECONDS)
            found.media_us, found.media_flood = self._turns(
                attack, MEDIA_TURNS * wanted.turns, None, residence
            )

    def _load(self, pod: str, role: str, *arguments: str) -> Worker:
        return self._bench.worker(pod, role, *arguments, module=quota_load.__name__)

    def _attack(self, url: str) -> Worker:
        return self._load("attackers", "attack", url, self._gateway, str(HELD), *self._addresses)

    @contextmanager
    def _apart(self, attack: Worker, *others: int) -> Iterator[None]:
        """The kernel does the attackers' packets on the attackers' CPU."""
        give_precedence(self._state.name)
        with steering.steered(self._node, (), [self._pid, *others], [attack.pid]):
            yield

    def _spent(self) -> Spent:
        both = [self._accounting.spent(self._pid, cpu) for cpu in steering.cpus()]
        return Spent(both[0].process, sum(each.network for each in both))

    def _quota(self) -> dict[str, Any] | None:
        namespace = self._state.pods["relay"].namespace
        port = RelaySpec().monitoring.port
        page: dict[str, Any] = http.get_json(namespace, port, "/statusz")
        return page.get("quota")

    def _hook(self, server: Relay) -> str:
        """Who refuses, as soon as it is who the spec says."""
        wanted = server.spec.quota.mode == "Kernel"
        deadline = time.monotonic() + HOOK_SECONDS
        while True:
            quota = self._quota()
            by: str = quota["by"] if quota else "nobody"
            if not wanted or by.startswith("kernel"):
                return by
            if time.monotonic() > deadline:
                raise RuntimeError(f"the quota is refused by {by}")
            time.sleep(LAST_SECONDS)

    def _refused(self, reasons: tuple[Reason, ...] = REFUSED) -> int:
        """By programs."""
        _, totals = counters(self._bench.maps)
        return sum(totals[reason] for reason in reasons)

    def _blocked(self) -> int:
        quota = self._quota()
        if quota is None:
            return datagrams_received(self._state.pods["relay"].namespace)
        return self._refused() + sum(quota["refusals"].values())


def _over(honest: Worker, moment: float) -> list[dict[str, Any]]:
    """What was answered until then, and until all transfers were over that had begun by then."""
    answers = []
    while True:
        time.sleep(max(LAST_SECONDS, moment - time.monotonic()))
        answers.append(honest.ask())
        oldest = answers[-1]["oldest"]
        if oldest is None or oldest >= moment:
            return answers


def _add(ipr: Any, address: str) -> None:
    index = links.index_of(ipr, links.POD_DEVICE)
    ipr.addr("add", index=index, address=address, prefixlen=24)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.quota", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="before, during and after the attack, each"
    )
    parser.add_argument("--turns", type=int, default=4, help="calm and under attack, alternating")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of each")
    parser.add_argument(
        "--paced", type=float, default=11.0, help="transfers a second that the relay carries easily"
    )
    parser.add_argument("--rate", type=float, default=20_000.0, help="first packets a second")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    store, begin = Store(), time.monotonic()
    subjects: dict[str, Variants] = {}
    parameters = {key: value for key, value in vars(wanted).items() if key != "output"}
    results = Results(subjects, parameters)
    with tempfile.TemporaryDirectory() as scratch, Awake(), we_first(), Accounting() as accounting:
        directory = Path(scratch)
        certificate, key = directory / "certificate.pem", directory / "private-key.pem"
        plans = [PodPlan(name) for name in ("relay", *DEVICES)]
        state = topology.up(store, NAME, plans, owner=processes.identify(os.getpid()))
        try:
            make_self_signed([state.pods["relay"].ipv4, "localhost"]).write(certificate, key)
            bench = QuotaBench(Bench(store, state, wanted.output, accounting), state, accounting)
            for subject in wanted.subjects:
                measure = bench.relay if subject == "relay" else bench.http3
                found = subjects.setdefault(subject, {})
                for server in servers(directory, certificate, key, subject):
                    if server.name not in wanted.variants:
                        continue
                    console.print(f"{time.monotonic() - begin:5.0f} s  {server.what}")
                    try:
                        found[server.name] = measure(server, wanted)
                    except (RuntimeError, LocalError, OSError) as error:
                        console.print(f"  {server.what}: {error}", highlight=False)
                    results.save(wanted.output / "quota.json")
        finally:
            topology.down(store, NAME)
    quota_report.draw(results, wanted.output)
    quota_report.show(results, console)
    console.print(f"quota.json and the plots are in {wanted.output}")


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
