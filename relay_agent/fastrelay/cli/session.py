"""What `publish` and `subscribe` share: options of the session, signals, how failures end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastrelay.cli.exits import Exit, fail, told
from fastrelay.cli.overrides import numbers

if TYPE_CHECKING:
    from fastrelay.client import Client
    from fastrelay.moqt.names import Namespace

    Dial = Callable[[str | None], AbstractAsyncContextManager[Client]]

_SESSION, _OUTPUT = "Session", "Output"

Url = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="The relay: `moqt://HOST:PORT` (QUIC) or `https://HOST:PORT/PATH` (WebTransport).",
        show_default=False,
    ),
]
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="The broadcast's namespace, its fields separated by slashes, like `live/demo`.",
        show_default=False,
    ),
]
Drafts = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="N,N,...",
        help="Drafts of MoQT to offer, like 18 or 22,18. Default: all.",
        rich_help_panel=_SESSION,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Do not check the relay's certificate: for laboratories.",
        rich_help_panel=_SESSION,
    ),
]
NoEncryption = Annotated[
    bool,
    typer.Option(
        "--insecure-no-encryption",
        help="Do without encryption after the handshake, if the relay offers that "
        "(`fastPath.encryption: Disabled`): for laboratories.",
        rich_help_panel=_SESSION,
    ),
]
Authorities = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="Trust these authorities (PEM) instead of the public ones.",
        rich_help_panel=_SESSION,
    ),
]
Pin = Annotated[
    str | None,
    typer.Option(
        "--pin",
        metavar="SHA256",
        help="Accept exactly the certificate with this SHA-256 (hexadecimal or base64), which "
        "`fastrelay certificate` prints.",
        rich_help_panel=_SESSION,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="FASTRELAY_TOKEN",
        help="Show this authorisation token. Others on this machine can read options; the "
        "environment is safer.",
        rich_help_panel=_SESSION,
    ),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration",
        "-t",
        metavar="SECONDS",
        min=0.1,
        help="Stop after this much media. Default: when it ends.",
    ),
]
JsonReport = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the report as JSON.", rich_help_panel=_OUTPUT
    ),
]
Digests = Annotated[
    Path | None,
    typer.Option(
        "--digests",
        metavar="FILE",
        help="Write a line of JSON for every media object: ids, SHA-256, times.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_OUTPUT),
]


@dataclass(frozen=True)
class SessionOptions:
    """The options above, as given."""

    url: str
    drafts: str | None
    insecure: bool
    ca: Path | None
    pin: str | None
    token: str | None
    no_encryption: bool = False

    def dialler(self) -> Dial:
        """A function that opens a session, at another URL if one is given. Wrong options end
        the command."""
        from fastrelay.client import connect
        from fastrelay.moqt.drafts import DRAFTS
        from fastrelay.quic.options import QuicOptions
        from fastrelay.quic.url import parse_url

        wanted = list(DRAFTS) if self.drafts is None else numbers(self.drafts, "--draft")
        unknown = [str(number) for number in wanted if number not in DRAFTS]
        if unknown:
            known = ", ".join(map(str, DRAFTS))
            fail(Exit.USAGE, f"--draft: {unknown[0]} is not known here; known are {known}")
        try:
            parse_url(self.url)
        except ValueError as error:
            fail(Exit.USAGE, str(error))
        if self.ca is not None and not self.ca.is_file():
            fail(Exit.NO_INPUT, f"{self.ca}: there is no such file")
        options = QuicOptions(
            insecure=self.insecure,
            encryption=not self.no_encryption,
            ca_file=self.ca,
            certificate_sha256=None if self.pin is None else _fingerprint(self.pin),
            keep_alive=10.0,
        )
        drafts = tuple(DRAFTS[number] for number in wanted)
        token = None if self.token is None else self.token.encode()

        def dial(uri: str | None) -> AbstractAsyncContextManager[Client]:
            return connect(uri or self.url, drafts=drafts, options=options, token=token)

        return dial


def _fingerprint(text: str) -> bytes:
    import base64
    import binascii

    plain = text.replace(":", "").strip()
    try:
        digest = bytes.fromhex(plain)
    except ValueError:
        try:
            digest = base64.b64decode(plain, validate=True)
        except binascii.Error:
            digest = b""
    if len(digest) != 32:
        fail(Exit.USAGE, f"--pin: {text!r} is no SHA-256; write 64 hexadecimal digits or base64")
    return digest


def parse_namespace_option(text: str) -> Namespace:
    """The namespace; a wrong one ends the command."""
    from fastrelay.moqt.names import parse_namespace

    try:
        return parse_namespace(text)
    except ValueError as error:
        fail(Exit.USAGE, f"--namespace: {error}")


@contextmanager
def failures_told(url: str) -> Iterator[None]:
    """Turn what goes wrong in a session or with media into a sentence and an exit code."""
    from fastrelay.client import ClientError, ConnectFailedError
    from fastrelay.media.formats import MediaError

    with told(url):
        try:
            yield
        except MediaError as error:
            fail(Exit.FAILURE, str(error))
        except ConnectFailedError as error:
            fail(Exit.UNAVAILABLE, str(error))
        except ClientError as error:
            fail(Exit.FAILURE, f"{url}: {error}")


def run_until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``work(stop)``; Ctrl-C and SIGTERM set ``stop``, a second one ends it at once."""

    async def main() -> int | None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work(stop))
        cut_short: int | None = None

        def on_signal(number: int) -> None:
            nonlocal cut_short
            if stop.is_set():
                cut_short = number
                task.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        try:
            await task
        except asyncio.CancelledError:
            return cut_short
        return None

    cut_short = asyncio.run(main())
    if cut_short is not None:
        raise typer.Exit(128 + cut_short)
