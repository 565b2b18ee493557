"""The demo on a terminal: a live table; without a terminal, a line now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fastrelay.local.demo.samples import Forwarded, PodSample, Sample, share_in_words
from fastrelay.local.stack import PUBLISHER, RELAY

PLAIN_SECONDS = 3.0
RATE_SECONDS = 1.0
"""Media packets are counted over this long."""
_STATE_STYLES = {"running": "green", "waiting": "dim", "left": "dim", "failed": "bold red"}


def _rate(bits: float) -> str:
    return f"{bits / 1e6:.2f}" if bits >= 5e3 else "-"


def _packets(forwarded: Forwarded, seconds: float) -> str:
    """Media packets a second, and the kernel's part of them."""
    kernel, user = round(forwarded.kernel / seconds), round(forwarded.user / seconds)
    share = "" if forwarded.share is None else f" ({forwarded.share * 100:.1f} % kernel)"
    return f"media packets/s: {kernel} kernel, {user} user space{share}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f}"


class View:
    """Shows samples; use it as a context so that the terminal is left as it was."""

    def __init__(self, console: Console, labels: Mapping[str, str], seconds: float) -> None:
        self._console = console
        self._labels = labels
        self._seconds = seconds
        self._events: list[str] = []
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_line = 0.0
        self._history: deque[tuple[float, Forwarded]] = deque()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def event(self, elapsed: float, text: str) -> None:
        """Something that people should notice, like a viewer joining."""
        line = f"{elapsed:5.1f} s  {text}"
        if self._live:
            self._events.append(line)
        else:
            self._console.print(line, highlight=False)

    def show(self, sample: Sample) -> None:
        packets = self._media_packets(sample)
        if self._live:
            self._live.update(self._screen(sample, packets), refresh=True)
        elif sample.elapsed >= self._next_line:
            self._next_line = sample.elapsed + PLAIN_SECONDS
            self._console.print(self._line(sample, packets), highlight=False, soft_wrap=True)

    def _media_packets(self, sample: Sample) -> str:
        """Over the last second or so; empty if nothing is known."""
        if sample.forwarded is None:
            return ""
        history = self._history
        history.append((sample.elapsed, sample.forwarded))
        while len(history) > 2 and sample.elapsed - history[1][0] >= RATE_SECONDS:
            history.popleft()
        since, before = history[0]
        if sample.elapsed <= since:
            return ""
        return _packets(sample.forwarded - before, sample.elapsed - since)

    def _screen(self, sample: Sample, packets: str) -> Group:
        table = Table(expand=True, pad_edge=False)
        table.add_column("pod")
        table.add_column("what it runs", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("state")
        for heading in ("in Mbit/s", "out Mbit/s", "frames/s", "p50 ms", "p95 ms"):
            table.add_column(heading, justify="right")
        for heading in ("stalls", "lost", "by kernel", "CPU %", "MB"):
            table.add_column(heading, justify="right")
        for name, pod in sample.pods.items():
            viewer = name not in (RELAY, PUBLISHER)
            table.add_row(
                name,
                self._labels[name],
                Text(pod.state, _STATE_STYLES[pod.state]),
                _rate(pod.receive_rate),
                _rate(pod.send_rate),
                f"{pod.frame_rate:.0f}" if name != RELAY and pod.frame_rate >= 0.5 else "-",
                _milliseconds(pod.p50),
                _milliseconds(pod.p95),
                str(pod.stalls) if viewer else "-",
                "-" if pod.session is None else str(pod.session.lost),
                share_in_words(pod.session.forwarded if viewer and pod.session else None),
                f"{pod.cpu * 100:.0f}",
                f"{pod.memory / 1e6:.0f}",
            )
        head = Text.assemble(
            ("fastrelay demo", "bold"),
            f"  {sample.elapsed:.0f} of {self._seconds:.0f} s",
            f"  {sample.sessions if sample.sessions is not None else '?'} sessions",
            f"  {sample.tracks if sample.tracks is not None else '?'} tracks",
            ("  Ctrl-C ends it and cleans up", "dim"),
        )
        events = [Text(line, "dim") for line in self._events[-6:]]
        return Group(head, *([Text(packets)] if packets else []), table, *events)

    def _line(self, sample: Sample, packets: str) -> str:
        relay = sample.pods[RELAY]
        viewers = [
            _viewer_words(name, pod)
            for name, pod in sample.pods.items()
            if name not in (RELAY, PUBLISHER) and pod.state == "running"
        ]
        return (
            f"{sample.elapsed:5.1f} s  user space in {_rate(relay.receive_rate)}"
            f" out {_rate(relay.send_rate)} Mbit/s, CPU {relay.cpu * 100:.0f} %,"
            f" {relay.memory / 1e6:.0f} MB; "
            + (f"{packets}; " if packets else "")
            + ("; ".join(viewers) or "no viewers yet")
        )


def _viewer_words(name: str, pod: PodSample) -> str:
    latency = f" {_milliseconds(pod.p50)}/{_milliseconds(pod.p95)} ms" if pod.p50 else ""
    stalls = f" {pod.stalls} stalls" if pod.stalls else ""
    lost = f" {pod.session.lost} lost" if pod.session and pod.session.lost else ""
    return f"{name} {pod.frame_rate:.0f} frames/s{latency}{stalls}{lost}"
