"""``fastrelay agent``: put programs and maps where relays are."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail, told
from fastrelay.cli.overrides import Tree, host_and_port
from fastrelay.cli.relay import Level, Style

if TYPE_CHECKING:
    from fastrelay.agent.node import Node

METRICS_PORT = 9465
_FILES, _CLUSTER, _LOOK = "Files", "Cluster", "Observation"


def _directory(help_: str) -> Any:
    return typer.Option(metavar="DIRECTORY", help=help_, rich_help_panel=_FILES)


def agent(
    desired: Annotated[
        Path,
        _directory(
            "Relays that are to be served: a file `NAME.json` for each, which appears, "
            "changes and goes as the relay does."
        ),
    ] = Path("/run/fastrelay/desired"),
    reports: Annotated[
        Path,
        _directory("Where the agent writes, as `NAME.json`, how each relay stands."),
    ] = Path("/run/fastrelay/reports"),
    records: Annotated[
        Path,
        _directory("Where it notes what it attached, for its successor."),
    ] = Path("/run/fastrelay/agent"),
    pins: Annotated[
        Path,
        _directory(
            "Where programs, links and maps are pinned, `NAME/` for each relay: in a bpffs."
        ),
    ] = Path("/sys/fs/bpf/fastrelay"),
    sockets: Annotated[
        Path,
        _directory("Where relays get their maps: `NAME/agent.sock` for each."),
    ] = Path("/run/fastrelay/relays"),
    cache: Annotated[
        Path,
        _directory(
            "Where compiled programs and kernel headers for the compiler are kept: a "
            "directory that nobody else may write."
        ),
    ] = Path("/var/cache/fastrelay"),
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Detach and remove everything below --pins, and end."),
    ] = False,
    compile_only: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile into --cache what is not there yet, and end: for a container's image.",
        ),
    ] = False,
    kubernetes: Annotated[
        bool,
        typer.Option(
            "--kubernetes",
            help="Serve the relay pods of --node-name, as the API server shows them, in place of "
            "--desired, and tell it how they stand, in place of --reports.",
            rich_help_panel=_CLUSTER,
        ),
    ] = False,
    node_name: Annotated[
        str,
        typer.Option(envvar="NODE_NAME", help="The name of this node.", rich_help_panel=_CLUSTER),
    ] = "",
    quota_devices: Annotated[
        list[str] | None,
        typer.Option(
            "--quota-device",
            metavar="DEVICE",
            help="A network device of the node at which relay pods may refuse with XDP "
            "(spec.quota.device); again for more. The quota of a relay that names another is "
            "refused at its veth alone.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    metrics_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve `/metrics` for Prometheus, `/healthz` and `/readyz` here, like `:9465`.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    log_level: Annotated[
        Level,
        typer.Option(help="The least important messages.", rich_help_panel=_LOOK),
    ] = Level.INFO,
    log_format: Annotated[
        Style,
        typer.Option(help="Lines for people or JSON.", rich_help_panel=_LOOK),
    ] = Style.CONSOLE,
) -> None:
    """Let the kernel forward for the relays of this node.

    For each relay that is described in --desired the agent finds the network interface of the
    relay's pod by its addresses, loads the programs (compiled the first time), attaches them,
    and hands maps over to whoever connects to the relay's socket as the relay's user. It runs in
    the network namespace that holds the nodes' ends of the pods' interfaces, as uid 0 with
    CAP_BPF and CAP_PERFMON (to load programs) and CAP_NET_ADMIN (to attach them); for the pods'
    ends ("attach": "Pod") with CAP_SYS_ADMIN as well (to enter their namespaces).

    A description is `{"name": "relay", "uid": 65534, "addresses": ["10.0.0.2"], "attach":
    "Host"}`; the relay is then started with `--fast-path SOCKETS/relay/agent.sock`.

    SIGTERM (or Ctrl-C) ends the agent and nothing else: the kernel goes on forwarding, and the
    next agent takes over what is there. `--remove` takes everything away.
    """
    from fastrelay.agent.instance import Settings
    from fastrelay.agent.node import Node
    from fastrelay.agent.versions import Toolchain
    from fastrelay.relay import logs

    where = None
    if metrics_address is not None:
        where = host_and_port(metrics_address, "--metrics-address", default_port=METRICS_PORT)
    logs.configure(log_level.value, log_format.value)
    if compile_only:
        _compile(cache)
        return
    if kubernetes and not node_name:
        fail(Exit.USAGE, "--kubernetes needs --node-name (or NODE_NAME)")
    with told(str(pins)):
        allowed = (quota_devices or ()) if kubernetes else None
        settings = Settings(
            pins=pins,
            records=records,
            sockets=sockets,
            quota_devices=allowed,
            come_again=remove or not kubernetes,
            spare=kubernetes,
        )
        node = Node(settings, Toolchain(cache))
        try:
            if remove:
                node.remove_all()
            else:
                name = node_name if kubernetes else None
                asyncio.run(_until_told(_work(node, desired, reports, name, where)))
        finally:
            node.close()


def _compile(cache: Path) -> None:
    from fastrelay.agent import device
    from fastrelay.agent.hooks import CFLAGS
    from fastrelay.agent.loader import LoadError
    from fastrelay.agent.versions import Toolchain, compiled

    try:
        tools = Toolchain(cache)
        for cflags in CFLAGS.values():
            compiled(tools, cflags)
        device.compiled(tools)
    except LoadError as error:
        fail(Exit.FAILURE, str(error))


async def _work(
    node: Node, desired: Path, reports: Path, node_name: str | None, metrics: Tree | None
) -> None:
    async with AsyncExitStack() as stack:
        if metrics is not None:
            from fastrelay.agent.metrics import served

            await stack.enter_async_context(served(node, metrics["host"], metrics["port"]))
        if node_name is not None:
            from fastrelay.agent.kubernetes import serve

            await serve(node, node_name)
            return
        from fastrelay.agent.files import DirectoryReporter, DirectorySource
        from fastrelay.agent.node import run

        await run(node, DirectorySource(desired), DirectoryReporter(reports))


async def _until_told(work: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait((task,))
    if not task.cancelled():
        task.result()
