"""Who does what when: namespaces up, everybody started and ended in order, all of it removed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from fastrelay.api.delivery import Mode
from fastrelay.local import http, processes, topology
from fastrelay.local.demo import plan, verdict
from fastrelay.local.demo.plan import Viewer
from fastrelay.local.demo.samples import FrameLog, Sample, Sampler
from fastrelay.local.demo.view import View
from fastrelay.local.shaping import Shape
from fastrelay.local.stack import PUBLISHER, RELAY, Stack
from fastrelay.local.state import Store
from fastrelay.local.topology import LocalError, PodPlan

TICK = 0.5
ANNOUNCE_SECONDS = 20.0
STOP_SECONDS = 15.0
RELAY_GRACE = 2
"""Viewers that do not say goodbye must not hold up the end for long."""
MARKER = ".fastrelay-demo"
"""In a directory that the demo made and may empty."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What can be chosen on the command line."""

    seconds: float = 30.0
    viewers: int = 5
    shape: Shape = field(default_factory=Shape)
    """Of the viewers' links."""
    output: Path = Path("out/demo")
    name: str = "demo"
    source: str = "test"
    third_party: Path | None = None
    """A Python that has aiomoqt and moq-rs."""
    fast_path: Mode = "Auto"
    plaintext: bool = False
    """Without encryption between our own clients and the relay."""


def run(options: DemoOptions, console: Console, store: Store) -> bool:
    """Run the whole demo; True if every check passed. Cleans up whatever happens.

    :raises LocalError: it cannot run here; the message says what to do.
    :raises SystemExit: SIGINT, SIGTERM or SIGHUP came; everything is cleaned up by then.
    """
    missing = [tool for tool in ("ffmpeg", "nsenter", "setpriv", "nft") if not shutil.which(tool)]
    if missing:
        raise LocalError(f"not installed: {', '.join(missing)}; 'make setup' installs them")
    cast = plan.viewers(options.viewers, options.third_party)
    _empty(options.output)
    plans = [PodPlan(RELAY), PodPlan(PUBLISHER)]
    plans += [PodPlan(viewer.name, options.shape) for viewer in cast]
    with _signals_raise():
        try:
            state = topology.up(store, options.name, plans, owner=processes.identify(os.getpid()))
            stack = Stack.prepare(
                store,
                state,
                options.output,
                fast_path=options.fast_path,
                plaintext=options.plaintext,
                dies_with_us=True,
            )
            problem = stack.attach()
            _say_who_forwards(problem, console)
            history = _Conductor(options, stack, cast, console).perform()
        except SystemExit:
            console.print("stopped; cleaning up")
            raise
        finally:
            with _signals_ignored():
                topology.down(store, options.name)
        console.print("everything is cleaned up; comparing what arrived", highlight=False)
        return verdict.conclude(cast, options, console, history, in_kernel=not problem)


def _say_who_forwards(problem: str, console: Console) -> None:
    if problem:
        console.print(f"[yellow]everything goes by user space[/yellow]: {escape(problem)}")
    else:
        console.print("the kernel forwards: programs are attached to the relay's interface")


def _empty(directory: Path) -> None:
    """Make the directory anew, if it is one of ours or empty: never a person's own files."""
    marker = directory / MARKER
    if directory.exists():
        if any(directory.iterdir()) and not marker.exists():
            raise LocalError(f"{directory} has other files in it; name a new directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    marker.touch()


class _Conductor:
    """Starts and ends everybody at the right time and keeps the view up to date."""

    def __init__(
        self, options: DemoOptions, stack: Stack, cast: list[Viewer], console: Console
    ) -> None:
        self._options = options
        self._stack = stack
        self._cast = cast
        self._console = console
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._left: set[str] = set()
        labels = {viewer.name: viewer.label for viewer in cast}
        labels |= {RELAY: "fastrelay relay", PUBLISHER: f"fastrelay publish {options.source}"}
        self._view = View(console, labels, options.seconds)

    def perform(self) -> list[Sample]:
        """Run it all; returns the samples that were taken."""
        directory = self._stack.directory
        self._console.print(
            f"relay, publisher and {len(self._cast)} viewers in network namespaces"
            f" fastrelay-{self._options.name}-*; files in {directory}",
            highlight=False,
        )
        self._processes[RELAY] = self._stack.start_relay(grace=RELAY_GRACE)
        self._processes[PUBLISHER] = self._stack.start(
            PUBLISHER, plan.publisher_command(self._stack, self._options.source)
        )
        self._await_announcement()
        started = time.monotonic()
        logs = {viewer.name: FrameLog(viewer.digests(directory)) for viewer in self._cast}
        logs[PUBLISHER] = FrameLog(directory / "publisher.jsonl", tracks=("video-720",))
        sampler = Sampler(self._stack, logs, started)
        history: list[Sample] = []
        with self._view:
            while (elapsed := time.monotonic() - started) < self._options.seconds:
                self._cue(elapsed)
                sample = sampler.take({name: self._state(name) for name in self._stack.state.pods})
                history.append(sample)
                self._view.show(sample)
                for name in (RELAY, PUBLISHER):
                    if self._processes[name].poll() is not None:
                        words = self._stack.last_words(name)
                        raise LocalError(f"the {name} ended before its time: {words}")
                time.sleep(max(0.0, started + len(history) * TICK - time.monotonic()))
        (directory / "samples.json").write_text(verdict.samples_as_json(history))
        self._end_in_order()
        return history

    def _await_announcement(self) -> None:
        """Until the relay knows the publisher's namespace: some players ask only once."""
        deadline = time.monotonic() + ANNOUNCE_SECONDS
        while time.monotonic() < deadline:
            if self._processes[PUBLISHER].poll() is not None:
                break
            with suppress(OSError, ValueError, KeyError):
                port = self._stack.monitoring_port
                if http.get_json(self._stack.relay.namespace, port, "/statusz")["namespaces"]:
                    return
            time.sleep(0.1)
        raise LocalError(f"the publisher did not get through: {self._stack.last_words(PUBLISHER)}")

    def _cue(self, elapsed: float) -> None:
        """Who comes and who goes now."""
        part = elapsed / self._options.seconds
        for viewer in self._cast:
            process = self._processes.get(viewer.name)
            if process is None and part >= viewer.joins:
                command = viewer.command(self._stack, self._options.third_party)
                self._processes[viewer.name] = self._stack.start(viewer.name, command)
                late = " late" if viewer.joins else ""
                self._view.event(elapsed, f"{viewer.name} joins{late}: {viewer.label}")
            elif process and self._must_leave(viewer, part) and process.poll() is None:
                self._left.add(viewer.name)
                process.send_signal(signal.SIGINT)
                self._view.event(elapsed, f"{viewer.name} leaves")

    def _must_leave(self, viewer: Viewer, part: float) -> bool:
        return viewer.leaves is not None and part >= viewer.leaves and viewer.name not in self._left

    def _state(self, name: str) -> str:
        process = self._processes.get(name)
        if process is None:
            return "waiting"
        code = process.poll()
        if code is None and name not in self._left:
            return "running"
        return "left" if not code else "failed"

    def _end_in_order(self) -> None:
        """Viewers, then the publisher, then the relay: so that nothing is cut off on its way."""
        viewers = [viewer.name for viewer in self._cast]
        for names in (viewers, [PUBLISHER], [RELAY]):
            going = [self._processes[name] for name in names if name in self._processes]
            known = [processes.identify(process.pid) for process in going]
            number = signal.SIGTERM if names == [RELAY] else signal.SIGINT
            processes.end([one for one in known if one], grace=STOP_SECONDS, first=number)
        codes = {name: process.wait() for name, process in self._processes.items()}
        (self._stack.directory / "exit-codes.json").write_text(json.dumps(codes, indent=2) + "\n")


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end this process by an exception: all is cleaned up."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    with _handlers(stop):
        yield


@contextmanager
def _signals_ignored() -> Iterator[None]:
    with _handlers(signal.SIG_IGN):
        yield


@contextmanager
def _handlers(handler: object) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
