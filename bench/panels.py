"""The chart's dashboards of relays and subscribers as pictures, from a real Prometheus (root)::

    PYTHONPATH=tests python -m bench.panels

A broadcast in two renditions; of three viewers, one leaves the choice to the relay, and its link
and the second one's get narrow and wide again; the third one is limited by hand. Every panel is
drawn from the dashboard's own queries: ``out/bench/panels-NAME.png``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.console import Console

from bench.command import run_as_command
from e2e.cluster import binaries
from fastrelay.cli.members import members
from fastrelay.cli.statuspage import set_limits, status_page
from fastrelay.fastpath.layout import BAND_LEVELS
from fastrelay.local import http, netns, shaping, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.stack import PUBLISHER, RELAY, Stack, fastrelay
from fastrelay.local.state import Store
from fastrelay.local.topology import NODE, PodPlan

NAME = "panels"
DASHBOARDS = Path(__file__).resolve().parents[1] / "deploy/helm/fastrelay/files/dashboards"
MANIFEST = {
    "apiVersion": "fastrelay.io/v1alpha1",
    "kind": "MoQRelay",
    "metadata": {"name": "demo"},
    "spec": {"monitoring": {"members": ["0.0.0.0/0", "::/0"]}},
}
VIEWERS = {"auto": ("--auto",), "largest": (), "by-hand": ()}
WIDE, NARROW = 3e6, 0.6e6
BY_HAND: dict[str, int | None] = {"rate": 60_000, "level": BAND_LEVELS * 3 // 2}
AUTOMATIC = dict.fromkeys(BY_HAND)
WINDOW = "10s"
PORT = 9090
_UNITS = {"Bps": "B/s", "bps": "bit/s", "s": "s", "bytes": "B", "pps": "1/s", "ops": "1/s"}
_ROW_INCHES = 0.34


@contextmanager
def _broadcast(directory: Path) -> Iterator[Stack]:
    """With its viewers, each of whom tells when frames arrive."""
    store = Store()
    plans = [PodPlan(RELAY), PodPlan(PUBLISHER)]
    plans += [PodPlan(viewer, Shape(rate=WIDE, delay=0.01)) for viewer in VIEWERS]
    state = topology.up(store, NAME, plans)
    try:
        manifest = directory / "relay.json"
        manifest.write_text(json.dumps(MANIFEST))
        stack = Stack.prepare(store, state, directory, manifest=manifest, dies_with_us=True)
        stack.attach()
        stack.start_relay()
        common = (stack.url(), *stack.session_options, "--namespace", "live/demo")
        video = ("--renditions", "360,180", "--packaging", "loc", "--preset", "ultrafast", "test")
        stack.start(PUBLISHER, fastrelay("publish", *common, *video))
        for viewer, options in VIEWERS.items():
            stack.start(viewer, fastrelay("subscribe", *common, "--feedback", *options))
        yield stack
    finally:
        topology.down(store, NAME)


@contextmanager
def _prometheus(stack: Stack, directory: Path) -> Iterator[None]:
    """One in the relay's pod that scrapes it each second."""
    labels = {"namespace": "default", "pod": "demo-0", "fastrelay_io_relay": "demo"}
    target = {"targets": [f"127.0.0.1:{stack.monitoring_port}"], "labels": labels}
    settings = directory / "prometheus.json"  # which is YAML, too
    settings.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [{"job_name": "relays", "static_configs": [target]}],
            }
        )
    )
    command = ["nsenter", f"--net={netns.path(stack.relay.namespace)}", "--"]
    command += [str(binaries.unpack_debian() / "usr/bin/prometheus"), f"--config.file={settings}"]
    command += [f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=:{PORT}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _events(stack: Stack, seconds: float, console: Console) -> None:
    """Wide, narrow, and wide again; the third viewer is limited meanwhile."""
    node, pods = topology.namespace_of(NAME, NODE), stack.state.pods
    found = members(status_page(NAME))
    by_hand = next(each.member for each in found if each.member.startswith(pods["by-hand"].ipv4))
    for rate, limits in ((WIDE, {}), (NARROW, BY_HAND), (NARROW, {}), (WIDE, AUTOMATIC)):
        console.print(f"{rate / 1e6:g} Mbit/s {limits or ''}")
        for viewer in ("auto", "largest"):
            shaping.change_rate(node, viewer, rate)
        if limits:
            _, problem = set_limits(NAME, {"member": by_hand, **limits})
            assert not problem, problem
        time.sleep(seconds / 4)


def _series(stack: Stack, query: str, begin: float, end: float) -> list[dict[str, Any]]:
    for variable in ("namespace", "pod", "member"):
        query = query.replace(f"${variable}", ".*")
    query = query.replace("$__rate_interval", WINDOW)
    asked = urlencode({"query": query, "start": begin, "end": end, "step": 1})
    path = f"/api/v1/query_range?{asked}"
    status, body = http.get(stack.relay.namespace, PORT, path, timeout=60.0)
    assert status == HTTPStatus.OK, body
    return list(json.loads(body)["data"]["result"])


def _draw(board: dict[str, Any], stack: Stack, begin: float, end: float, path: Path) -> None:
    """Each panel where Grafana would have it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter

    places = [panel["gridPos"] for panel in board["panels"]]
    rows = max(at["y"] + at["h"] for at in places)
    sheet = pyplot.figure(figsize=(18, rows * _ROW_INCHES))
    for panel, at in zip(board["panels"], places, strict=True):
        corner = (at["x"] / 24 + 0.035, 1 - (at["y"] + at["h"] - 1) / rows)
        axes = sheet.add_axes((*corner, at["w"] / 24 - 0.05, (at["h"] - 2.5) / rows))
        axes.set_title(panel["title"], fontsize=9, loc="left")
        for target in panel["targets"]:
            for series in _series(stack, target["expr"], begin, end):
                name = re.sub(
                    r"{{(\w+)}}",
                    lambda found, labels=series["metric"]: labels.get(found[1], ""),
                    target["legendFormat"],
                )
                there = {round(at - begin): float(value) for at, value in series["values"]}
                times = range(round(end - begin) + 1)
                axes.plot(times, [there.get(at, float("nan")) for at in times], label=name)
        unit = _UNITS.get(panel["fieldConfig"]["defaults"]["unit"])
        if unit is not None:
            axes.yaxis.set_major_formatter(EngFormatter(unit))
        axes.set(xlim=(0, end - begin), ylim=(0, None))
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=6)
    sheet.savefig(path, dpi=80)
    pyplot.close(sheet)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.panels", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    return parser.parse_args()


def run(wanted: argparse.Namespace, console: Console) -> None:
    wanted.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with _broadcast(directory) as stack, _prometheus(stack, directory):
            while len(members(status_page(NAME))) < len(VIEWERS):
                time.sleep(1)
            begin = time.time()
            _events(stack, wanted.seconds, console)
            end = time.time()
            for name in ("members", "relays"):
                board = json.loads((DASHBOARDS / f"{name}.json").read_text())
                path = wanted.output / f"panels-{name}.png"
                _draw(board, stack, begin, end, path)
                console.print(str(path))


if __name__ == "__main__":
    sys.exit(run_as_command(arguments, run))
