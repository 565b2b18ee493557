"""``fastrelay local``: up, status, down, exec."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli import completions
from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.forwarding import FastPathOverride, NoEncryptionOption
from fastrelay.cli.links import Delay, Loss, Rate, shape_of

if TYPE_CHECKING:
    from fastrelay.local.report import RelayReport
    from fastrelay.local.state import State, Store

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
    fast_path: FastPathOverride = None,
    insecure_no_encryption: NoEncryptionOption = False,
    viewers: Annotated[int, typer.Option(min=0, max=200, help="How many viewers.")] = 2,
    source: Annotated[
        str, typer.Option(help="What is published: 'test', what ffmpeg reads, or 'none'.")
    ] = "test",
    namespace: Annotated[str, typer.Option(help="The broadcast's track namespace.")] = "live/demo",
    rate: Rate = None,
    loss: Loss = "0",
    delay: Delay = "0",
) -> None:
    """Start everything and return; it runs until 'fastrelay local down'.

    A relay, a publisher and viewers get a network namespace each, as pods have them; the node
    agent works in a further one, which stands for the node. The relay is reached from this
    machine too, at the address that is printed.
    """
    from fastrelay.api.load import SpecError
    from fastrelay.local import topology
    from fastrelay.local.stack import PUBLISHER, RELAY, Stack, fastrelay, viewer_name
    from fastrelay.local.state import Store
    from fastrelay.local.topology import LocalError, PodPlan

    shape = shape_of(rate, loss, delay)
    _need_root()
    store = Store()
    plans = [PodPlan(RELAY)]
    if source != "none":
        plans += [PodPlan(PUBLISHER)]
        plans += [PodPlan(viewer_name(i), shape) for i in range(1, viewers + 1)]
    try:
        state = topology.up(store, name, plans, reachable=True)
    except LocalError as error:
        fail(Exit.FAILURE, str(error))
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    try:
        stack = Stack.prepare(
            store,
            state,
            store.workspace(name),
            manifest=manifest,
            fast_path=fast_path.mode if fast_path else None,
            plaintext=insecure_no_encryption,
        )
        if problem := stack.attach():
            typer.echo(f"the relay forwards in user space: {problem}", err=True)
        stack.start_relay()
    except (LocalError, SpecError, OSError) as error:
        topology.down(store, name)
        fail(Exit.DATA if isinstance(error, SpecError) else Exit.FAILURE, str(error))
    common = (stack.url(), *stack.session_options, "--namespace", namespace)
    if source != "none":
        stack.start(PUBLISHER, fastrelay("publish", *common, source))
        for number in range(1, viewers + 1):
            pod = viewer_name(number)
            recording = stack.directory / f"{pod}.mp4"
            stack.start(pod, fastrelay("subscribe", *common, "--output", str(recording)))
    _show(store, state)
    watch = f"fastrelay subscribe {stack.url()} --insecure --namespace {namespace} --play"
    typer.echo(f"\nfrom this machine: {watch}\nto end it: fastrelay local down {name}")


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(help="Which; default: all.", autocompletion=completions.stacks)
    ] = None,
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
        typer.echo(json.dumps([_for_programs(store, state) for state in states], indent=2))
    elif not states:
        typer.echo(f"nothing is up{f' under {name!r}' if name else ''}")
    else:
        for state in states:
            _show(store, state)
    if name and not states:
        raise typer.Exit(1)


@app.command()
def down(
    name: Annotated[
        str, typer.Argument(help="Which.", autocompletion=completions.stacks)
    ] = "local",
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
    pod: Annotated[
        str, typer.Argument(help="Like relay or viewer-1.", autocompletion=completions.pods)
    ],
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


def _show(store: Store, state: State) -> None:
    from rich.console import Console
    from rich.table import Table

    from fastrelay.local import report

    console = Console(emoji=False)  # of parts of IPv6 addresses
    console.print(f"[bold]{state.name}[/bold]", highlight=False)
    if relay := report.relay_report(store, state):
        facts = Table(box=None, pad_edge=False, show_header=False)
        for name, words in _relay_words(relay):
            facts.add_row(name, words)
        console.print(facts)
    table = Table(box=None, pad_edge=False)
    for heading in ("pod", "process", "addresses", "log"):
        table.add_column(heading, overflow="fold")
    for name, pod in report.places(state):
        process = report.process_of(pod)
        shown = f"[red]{process}[/red]" if process == "ended" else process
        table.add_row(name, shown, f"{pod.ipv4} {pod.ipv6}".strip(), pod.log)
    console.print(table)


def _relay_words(relay: RelayReport) -> Iterator[tuple[str, str]]:
    yield "relay", relay.url if relay.running else f"[red]ended[/red] (was {relay.url})"
    colours = {"Attached": "green", "Unattended": "yellow", "Failed": "red"}
    colour = colours.get(relay.fast_path, "default")
    reason = f": {relay.reason}" if relay.reason else ""
    yield "fast path", f"[{colour}]{relay.fast_path}[/{colour}]{_plain(reason)}"
    if relay.device:
        programs = ", ".join(f"{name} {number}" for name, number in relay.programs.items())
        end = "host" if relay.attach == "Host" else "pod"
        yield "attached", f"{relay.device} ({end} end); programs {programs or '-'}"
    if relay.sessions is not None:
        yield "serves", f"{relay.sessions} sessions, {relay.subscribers} subscriptions"
    if relay.forwarded is not None:
        yield "kernel", f"{relay.forwarded} packets forwarded as {relay.copies} copies"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _for_programs(store: Store, state: State) -> dict[str, object]:
    from fastrelay.local import processes, report

    shown = asdict(state)
    for key, pod in state.pods.items():
        shown["pods"][key]["running"] = bool(pod.process and processes.is_running(pod.process))
    relay = report.relay_report(store, state)
    shown["relay"] = None if relay is None else asdict(relay)
    return shown


def _need_root() -> None:
    if os.geteuid():
        fail(Exit.NO_PERMISSION, "network namespaces need root; run this with sudo")
