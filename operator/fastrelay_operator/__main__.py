"""The command ``fastrelay-operator``."""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Coroutine
from typing import Annotated

import kopf
import typer

from fastrelay import __version__
from fastrelay_operator import handlers, late, nodes, pages
from fastrelay_operator.cluster import Cluster, connect
from fastrelay_operator.controller import Controller
from fastrelay_operator.leader import LeaseLostError, lead
from fastrelay_operator.metrics import Metrics
from fastrelay_operator.objects import CERTIFICATE
from fastrelay_operator.settings import Settings
from fastrelay_operator.store import Store

log = logging.getLogger("fastrelay_operator")


class Level(enum.StrEnum):
    """Log levels."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Style(enum.StrEnum):
    """Log formats."""

    CONSOLE = "console"
    JSON = "json"


def operator(
    image: Annotated[
        str,
        typer.Option(envvar="FASTRELAY_RELAY_IMAGE", help="The image of relay pods."),
    ],
    pull_policy: Annotated[
        str, typer.Option(envvar="FASTRELAY_RELAY_IMAGE_PULL_POLICY", help="For that image.")
    ] = "IfNotPresent",
    pull_secrets: Annotated[
        str,
        typer.Option(
            envvar="FASTRELAY_RELAY_IMAGE_PULL_SECRETS",
            help="Secrets with credentials for that image, separated by commas; they have to be "
            "in the relays' namespaces.",
        ),
    ] = "",
    priority_class: Annotated[
        str,
        typer.Option(envvar="FASTRELAY_RELAY_PRIORITY_CLASS", help="Of relays that name no other."),
    ] = "",
    watch_namespaces: Annotated[
        str,
        typer.Option(
            envvar="FASTRELAY_WATCH_NAMESPACES",
            help="Namespaces to work in, separated by commas. Default: all.",
        ),
    ] = "",
    allow_plaintext: Annotated[
        bool,
        typer.Option(
            "--allow-plaintext",
            envvar="FASTRELAY_ALLOW_PLAINTEXT",
            help="Obey `fastPath.encryption: Disabled`: for laboratories.",
        ),
    ] = False,
    lease_namespace: Annotated[
        str,
        typer.Option(
            envvar="FASTRELAY_LEASE_NAMESPACE",
            help="Where the Lease is that one operator holds at a time: the same for all that "
            "look after the same relays.",
        ),
    ] = "kube-system",
    identity: Annotated[
        str, typer.Option(envvar="FASTRELAY_IDENTITY", help="Who holds it. Default: the host.")
    ] = "",
    http_port: Annotated[
        int,
        typer.Option(
            envvar="FASTRELAY_HTTP_PORT",
            min=1,
            max=65535,
            help="Serves `/healthz`, `/readyz` and `/metrics`.",
        ),
    ] = 8080,
    log_level: Annotated[
        Level, typer.Option(envvar="FASTRELAY_LOG_LEVEL", help="The least important messages.")
    ] = Level.INFO,
    log_format: Annotated[
        Style, typer.Option(envvar="FASTRELAY_LOG_FORMAT", help="Lines for people or JSON.")
    ] = Style.JSON,
) -> None:
    """Turn `MoQRelay` objects into relay pods and what belongs to them.

    It finds the API server as every pod does, or by KUBECONFIG.
    """
    _configure_logs(log_level, log_format)
    settings = Settings(image, pull_policy, _names(pull_secrets), priority_class, allow_plaintext)
    work = _run(settings, _names(watch_namespaces), lease_namespace, identity, http_port)
    try:
        asyncio.run(work)
    except* LeaseLostError as errors:
        log.error("%s; the next one takes over", errors.exceptions[0])
        raise typer.Exit(1) from None


async def _run(
    settings: Settings,
    namespaces: tuple[str, ...],
    lease_namespace: str,
    identity: str,
    http_port: int,
) -> None:
    store = Store()
    metrics = Metrics(store.all, lambda: len(controller.queue))
    client = await connect()
    cluster = Cluster(client, metrics.requested)
    controller = Controller(cluster, store, settings, metrics)
    leading = False

    async def work() -> None:
        nonlocal leading
        leading = True
        metrics.leader.set(1)
        registry = kopf.OperatorRegistry()
        handlers.register(registry, store, controller.changed)
        watching = kopf.operator(
            registry=registry,
            settings=handlers.settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        await _all(
            watching,
            controller.run(),
            nodes.watch(cluster, store.node_states),
            late.watch(cluster, CERTIFICATE, controller.certificates),
        )

    runner = await pages.serve(http_port, metrics, lambda: leading)
    log.info("fastrelay operator %s", __version__)
    try:
        await lead(client, lease_namespace, identity or socket.gethostname(), work)
    finally:
        await runner.cleanup()
        await client.close()


async def _all(*work: Coroutine[None, None, None]) -> None:
    """Until one of them ends: the watches by a signal, or because they do not suffice."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _configure_logs(level: Level, style: Style) -> None:
    json = style is Style.JSON
    kopf.configure(
        debug=level is Level.DEBUG,
        quiet=level in (Level.WARNING, Level.ERROR),
        log_format=kopf.LogFormat.JSON if json else kopf.LogFormat.FULL,
    )
    logging.getLogger().setLevel(level.value.upper())
    if level is not Level.DEBUG:  # it has a line for each object that it is shown
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main() -> None:
    """The console script."""
    typer.run(operator)


if __name__ == "__main__":
    main()
