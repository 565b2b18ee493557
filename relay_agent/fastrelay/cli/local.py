"""``fastrelay local``: up, status, down, exec."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.links import Delay, Loss, Rate, shape_of

if TYPE_CHECKING:
    from fastrelay.local.state import State

app = typer.Typer(
    no_args_is_help=True,
    help="Run a relay, a publisher and viewers on this machine, in network namespaces.",
)

Name = Annotated[str, typer.Option(help="Part of the namespaces' names.")]


@app.command()
def up(
    manifest: Annotated[
        Path | None, typer.Option("-f", "--file", help="A MoQRelay; default: an empty spec.")
    ] = None,
    name: Name = "local",
    viewers: Annotated[int, typer.Option(min=0, max=200, help="How many viewers.")] = 2,
    source: Annotated[
        str, typer.Option(help="What is published: 'test', what ffmpeg reads, or 'none'.")
    ] = "test",
    namespace: Annotated[str, typer.Option(help="The broadcast's track namespace.")] = "live/demo",
    rate: Rate = None,
    loss: Loss = "0",
    delay: Delay = "0",
) -> None:
    """Start everything and return; it runs until 'fastrelay local down'."""
    from fastrelay.api.load import SpecError
    from fastrelay.local import topology
    from fastrelay.local.stack import PUBLISHER, RELAY, Stack, fastrelay, viewer_name
    from fastrelay.local.state import Store
    from fastrelay.local.topology import LocalError, PodPlan

    shape = shape_of(rate, loss, delay)
    _need_root()
    store = Store()
    plans = [PodPlan(RELAY), PodPlan(PUBLISHER)]
    plans += [PodPlan(viewer_name(i), shape) for i in range(1, viewers + 1)]
    try:
        state = topology.up(store, name, plans)
    except LocalError as error:
        fail(Exit.FAILURE, str(error))
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    try:
        stack = Stack.prepare(store, state, store.workspace(name), manifest=manifest)
        stack.start_relay()
    except (LocalError, SpecError, OSError) as error:
        topology.down(store, name)
        fail(Exit.DATA if isinstance(error, SpecError) else Exit.FAILURE, str(error))
    common = (stack.url(), "--insecure", "--namespace", namespace)
    if source != "none":
        stack.start(PUBLISHER, fastrelay("publish", *common, source))
        for number in range(1, viewers + 1):
            pod = viewer_name(number)
            recording = stack.directory / f"{pod}.mp4"
            stack.start(pod, fastrelay("subscribe", *common, "--output", str(recording)))
    _show(state)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Which; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what is up: pods, addresses, processes."""
    from fastrelay.local.state import Store

    store = Store()
    states = []
    for each in [name] if name else store.names():
        try:
            state = store.load(each)
        except ValueError as error:
            fail(Exit.FAILURE, str(error))
        if state:
            states.append(state)
    if as_json:
        typer.echo(json.dumps([_with_liveness(state) for state in states], indent=2))
    elif not states:
        typer.echo(f"nothing is up{f' under {name!r}' if name else ''}")
    else:
        for state in states:
            _show(state)
    if name and not states:
        raise typer.Exit(1)


@app.command()
def down(
    name: Annotated[str, typer.Argument(help="Which.")] = "local",
    every: Annotated[bool, typer.Option("--all", help="Everything that is up.")] = False,
) -> None:
    """End processes and remove namespaces, also those of a crashed run."""
    from fastrelay.local import topology
    from fastrelay.local.state import Store

    _need_root()
    store = Store()
    for each in store.names() if every else [name]:
        try:
            found = topology.down(store, each)
        except ValueError as error:
            fail(Exit.FAILURE, str(error))
        typer.echo(f"{each}: {'removed' if found else 'nothing was up'}")


@app.command("exec", context_settings={"ignore_unknown_options": True})
def execute(
    pod: Annotated[str, typer.Argument(help="Like relay or viewer-1.")],
    command: Annotated[list[str], typer.Argument(help="What to run there.")],
    name: Name = "local",
) -> None:
    """Run a command in a pod's network namespace, in place of this one."""
    from fastrelay.local import netns
    from fastrelay.local.state import Store

    _need_root()
    state = Store().load(name)
    if state is None:
        fail(Exit.FAILURE, f"{name!r} is not up; 'fastrelay local up' starts it")
    if pod not in state.pods:
        fail(Exit.USAGE, f"no pod {pod!r}; there are {', '.join(state.pods)}")
    path = netns.path(state.pods[pod].namespace)
    os.execvp("nsenter", ["nsenter", f"--net={path}", "--", *command])


def _show(state: State) -> None:
    from rich.console import Console
    from rich.table import Table

    from fastrelay.local import processes

    table = Table(box=None, pad_edge=False)
    for heading in ("pod", "process", "addresses", "log"):
        table.add_column(heading, overflow="fold")
    for key, pod in state.pods.items():
        if pod.process is None:
            process = "-"
        elif processes.is_running(pod.process):
            process = str(pod.process.pid)
        else:
            process = "[red]ended[/red]"
        table.add_row(key, process, f"{pod.ipv4} {pod.ipv6}", pod.log)
    console = Console()
    console.print(f"{state.name}: {state.url or 'no relay'}", highlight=False)
    console.print(table)


def _with_liveness(state: State) -> dict[str, object]:
    from fastrelay.local import processes

    shown = asdict(state)
    for key, pod in state.pods.items():
        shown["pods"][key]["running"] = bool(pod.process and processes.is_running(pod.process))
    return shown


def _need_root() -> None:
    if os.geteuid():
        fail(Exit.NO_PERMISSION, "network namespaces need root; run this with sudo")
