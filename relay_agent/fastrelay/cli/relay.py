"""``fastrelay relay``: run a relay."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail, told
from fastrelay.cli.files import SpecFile, SpecName, read
from fastrelay.cli.overrides import Tree, host_and_port, numbers, overlay, prefixed_tokens

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
    fast_path: Annotated[
        Path | None,
        typer.Option(
            metavar="SOCKET",
            help="Let the kernel forward, with the maps that `fastrelay agent` hands over there. "
            "They may come later, go and come back: user space does what the kernel does not.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
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
    insecure_no_encryption: Annotated[
        bool,
        typer.Option(
            "--insecure-no-encryption",
            help="Obey `fastPath.encryption: Disabled` of the file. `fastrelay local` gives this; "
            "no other relay goes without encryption.",
            rich_help_panel=_TLS,
        ),
    ] = False,
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
    control: Annotated[
        Path | None,
        typer.Option(
            metavar="SOCKET",
            help="Make a Unix socket for `fastrelay top` and `fastrelay limit`, which the relay's "
            "own user and root may use.",
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
    given = _network(listen, drafts, grace)
    given |= _tls(certificate, private_key)
    given |= _upstreams(upstream or [], upstream_ca, upstream_insecure)
    given |= _policy(publish_token or [], subscribe_token or [])
    given |= _observation(metrics, log_level, log_format, standalone=file is None)
    resource = _resource(file, name, given)
    _run(resource, key_log, qlog, fast_path, control, laboratory=insecure_no_encryption)


def _network(listen: str | None, drafts: str | None, grace: int | None) -> Tree:
    section: Tree = {}
    if listen is not None:
        section |= host_and_port(listen, "--listen", default_port=4443)
    if drafts is not None:
        section["drafts"] = numbers(drafts, "--drafts")
    given: Tree = {"listen": section} if section else {}
    if grace is not None:
        given["drain"] = {"gracePeriodSeconds": grace}
    return given


def _tls(certificate: Path | None, private_key: Path | None) -> Tree:
    if certificate is None and private_key is None:
        return {}
    if certificate is None or private_key is None:
        fail(Exit.USAGE, "--certificate and --private-key go together; give both")
    files = {"certificate": str(certificate), "privateKey": str(private_key)}
    # The other sources that a file may name give way.
    return {"tls": {"files": files, "secretName": None, "issuer": None, "dnsNames": []}}


def _upstreams(urls: list[str], authorities: Path | None, insecure: bool) -> Tree:
    trust: Tree = {"verify": False} if insecure else {}
    if authorities is not None:
        trust["caFile"] = str(authorities)
    if trust and not urls:
        fail(Exit.USAGE, "--upstream-ca and --upstream-insecure need an --upstream")
    return {"upstreams": [{"url": url, **trust} for url in urls]} if urls else {}


def _policy(publish: list[str], subscribe: list[str]) -> Tree:
    rules = prefixed_tokens(publish, subscribe)
    return {"authorization": {"rules": rules}} if rules else {}


def _observation(
    metrics: str | None, level: Level | None, style: Style | None, *, standalone: bool
) -> Tree:
    """Without a file the process is somebody's experiment: readable, and no port unasked."""
    given: Tree = {}
    if metrics is not None:
        given["monitoring"] = host_and_port(metrics, "--metrics", default_port=9464)
    elif standalone:
        given["monitoring"] = {"port": 0}
    logging: Tree = {"format": Style.CONSOLE.value} if standalone else {}
    if level is not None:
        logging["level"] = level.value
    if style is not None:
        logging["format"] = style.value
    return given | ({"logging": logging} if logging else {})


def _resource(file: Path | None, name: str | None, given: Tree) -> MoQRelay:
    from fastrelay.api.load import SpecError, validate
    from fastrelay.api.spec import API_VERSION, KIND

    if file is None:
        base: Tree = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": "relay"},
            "spec": {},
        }
    else:
        base = read(file, name).model_dump(mode="json", exclude_unset=True)
    spec = base.get("spec", {})
    # Rules of the file must not vanish because there is one more.
    rules = spec.get("authorization", {}).get("rules", [])
    base["spec"] = overlay(spec, given)
    if rules and "authorization" in given:
        base["spec"]["authorization"]["rules"] = rules + given["authorization"]["rules"]
    try:
        return validate(base, source=f"{file or 'relay'} with the options given")
    except SpecError as error:
        fail(Exit.DATA, str(error))


def _run(
    resource: MoQRelay,
    key_log: Path | None,
    qlog: Path | None,
    fast_path: Path | None,
    control: Path | None,
    *,
    laboratory: bool,
) -> None:
    from fastrelay.relay import logs
    from fastrelay.relay.configuration import ConfigurationError, Trace, server_options

    spec = resource.spec
    logs.configure(spec.logging.level, spec.logging.format)
    address = f"{spec.listen.host or '*'}:{spec.listen.port}"
    with told(address):
        try:
            options = server_options(spec, Trace(key_log, qlog), fast_path, laboratory=laboratory)
            cut_short = _serve(replace(options, control=control))
        except ConfigurationError as error:
            fail(Exit.CONFIGURATION, str(error))
    if cut_short is not None:
        raise typer.Exit(128 + cut_short)


def _serve(options: ServerOptions) -> Signals | None:
    from fastrelay.relay.server import serve

    return asyncio.run(serve(options))
