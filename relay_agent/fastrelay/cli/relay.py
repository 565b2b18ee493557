"""``fastrelay relay``: run a relay."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail, told
from fastrelay.cli.files import SpecFile, SpecName, read
from fastrelay.cli.overrides import (
    host_and_port,
    merge,
    numbers,
    prefixed_tokens,
)

if TYPE_CHECKING:
    from signal import Signals

    from fastrelay.api.spec import MoQRelay
    from fastrelay.relay.configuration import ServerOptions


class Level(StrEnum):
    """Log levels."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Style(StrEnum):
    """Log formats."""

    CONSOLE = "console"
    JSON = "json"


_NETWORK, _TLS, _POLICY, _LOOK = "Network", "Certificate", "Policy", "Observation"


def relay(
    file: SpecFile = None,
    name: SpecName = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The UDP address to serve, like `0.0.0.0:4443`, `[::1]:4443` or `:4443` "
            "(every address of both families, the default).",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    drafts: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Drafts of MoQT to speak, the most preferred first. Default: 18,22,16.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A relay to ask for what nobody publishes here; may be repeated. "
            "`moqt://HOST:PORT` is raw QUIC, `https://HOST:PORT/PATH` WebTransport.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trust these authorities for upstreams.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    upstream_insecure: Annotated[
        bool,
        typer.Option(
            "--upstream-insecure",
            help="Do not check the certificates of upstreams: for laboratories.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    grace: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            max=3600,
            help="How long sessions are served after SIGTERM. Default: 30.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The certificate chain (PEM), read again when it changes.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its private key (PEM).", rich_help_panel=_TLS),
    ] = None,
    publish_token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX=FILE",
            help="Only who shows the token in FILE may publish under the namespace prefix; "
            "may be repeated.",
            rich_help_panel=_POLICY,
        ),
    ] = None,
    subscribe_token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX=FILE",
            help="Likewise for subscribing.",
            rich_help_panel=_POLICY,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve `/metrics`, `/healthz`, `/readyz` and `/statusz` there. "
            "Default: as `spec.monitoring` says with a file, otherwise not at all.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    log_level: Annotated[
        Level | None,
        typer.Option(help="The least important messages.", rich_help_panel=_LOOK),
    ] = None,
    log_format: Annotated[
        Style | None,
        typer.Option(
            help="Lines for people or JSON. Default: as the file says, otherwise `console`.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    key_log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append TLS secrets, for Wireshark. Who reads it reads everything.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    qlog: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Write a qlog file for each connection. Slow.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
) -> None:
    """Run a relay for Media over QUIC Transport.

    It serves drafts 18, 22 and 16 side by side on one UDP port, on QUIC and on WebTransport,
    with publishers and subscribers in any mixture, and carries each track once however many
    subscribe to it.

    SIGTERM (or Ctrl-C) drains it: new connections are refused, clients are told to go
    elsewhere (GOAWAY) and served until the grace period ends. A second signal ends it at once.
    """
    given: dict[str, Any] = {}
    if listen is not None:
        merge(given, "listen", host_and_port(listen, "--listen", default_port=4443))
    if drafts is not None:
        merge(given, "listen", {"drafts": numbers(drafts, "--drafts")})
    if grace is not None:
        merge(given, "drain", {"gracePeriodSeconds": grace})
    if certificate is not None or private_key is not None:
        if certificate is None or private_key is None:
            fail(Exit.USAGE, "--certificate and --private-key go together; give both")
        files = {"certificate": str(certificate), "privateKey": str(private_key)}
        merge(given, "tls", {"files": files, "secretName": None, "issuer": None, "dnsNames": []})
    if upstream:
        trust: dict[str, Any] = {"verify": not upstream_insecure}
        if upstream_ca is not None:
            trust["caFile"] = str(upstream_ca)
        given["upstreams"] = [{"url": url, **trust} for url in upstream]
    elif upstream_ca is not None or upstream_insecure:
        fail(Exit.USAGE, "--upstream-ca and --upstream-insecure need an --upstream")
    rules = prefixed_tokens(publish_token or [], subscribe_token or [])
    if rules:
        merge(given, "authorization", {"rules": rules})
    if metrics is not None:
        merge(given, "monitoring", host_and_port(metrics, "--metrics", default_port=9464))
    elif file is None:
        merge(given, "monitoring", {"port": 0})
    if log_level is not None:
        merge(given, "logging", {"level": log_level.value})
    if log_format is not None or file is None:
        merge(given, "logging", {"format": (log_format or Style.CONSOLE).value})
    resource = _resource(file, name, given)
    _run(resource, key_log, qlog)


def _resource(file: Path | None, name: str | None, given: dict[str, Any]) -> MoQRelay:
    from fastrelay.api.load import SpecError, validate
    from fastrelay.api.spec import API_VERSION, KIND
    from fastrelay.cli.overrides import overlay

    if file is None:
        base: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": "relay"},
            "spec": {},
        }
    else:
        base = read(file, name).model_dump(mode="json", exclude_unset=True)
    base["spec"] = overlay(base.get("spec", {}), given)
    try:
        return validate(base, source=f"{file or 'relay'} with the options given")
    except SpecError as error:
        fail(Exit.DATA, str(error))


def _run(resource: MoQRelay, key_log: Path | None, qlog: Path | None) -> None:
    from fastrelay.relay import logs
    from fastrelay.relay.configuration import ConfigurationError, Trace, server_options

    spec = resource.spec
    logs.configure(spec.logging.level, spec.logging.format)
    address = f"{spec.listen.host or '*'}:{spec.listen.port}"
    with told(address):
        try:
            options = server_options(spec, Trace(key_log, qlog))
            cut_short = _serve(options)
        except ConfigurationError as error:
            fail(Exit.CONFIGURATION, str(error))
    if cut_short is not None:
        raise typer.Exit(128 + cut_short)


def _serve(options: ServerOptions) -> Signals | None:
    from fastrelay.relay.server import serve

    return asyncio.run(serve(options))
