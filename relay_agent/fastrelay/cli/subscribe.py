"""``fastrelay subscribe``: a broadcast into a file or a player, and a report."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastrelay.cli.exits import Exit, fail
from fastrelay.cli.session import (
    Authorities,
    Digests,
    Drafts,
    Duration,
    Insecure,
    JsonReport,
    NamespaceOption,
    NoEncryption,
    Pin,
    Quiet,
    SessionOptions,
    TokenOption,
    Url,
    failures_told,
    parse_namespace_option,
    run_until_signal,
)

if TYPE_CHECKING:
    from fastrelay.cli.session import Dial
    from fastrelay.media.player import Player
    from fastrelay.media.recording import Sink
    from fastrelay.media.report import Report
    from fastrelay.media.subscriber import Subscriber

_CHOICE, _OUTPUT = "Choice", "Output"


class StartName(StrEnum):
    """Where to join."""

    NEXT = "next"
    CURRENT = "current"


def subscribe(
    url: Url,
    namespace: NamespaceOption,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a fragmented MP4 file; `-` is standard output.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    play: Annotated[
        bool,
        typer.Option("--play", help="Show it in a window of ffplay.", rich_help_panel=_OUTPUT),
    ] = False,
    rendition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A video track by name or height, like `video-360` or `360`. Default: the best.",
            rich_help_panel=_CHOICE,
        ),
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="The best video of at most this bit rate, like 1M.",
            rich_help_panel=_CHOICE,
        ),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="The rendition that the path carries, chosen by the relay group by group.",
            rich_help_panel=_CHOICE,
        ),
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Exactly this track; may be repeated.",
            rich_help_panel=_CHOICE,
        ),
    ] = None,
    audio: Annotated[
        bool,
        typer.Option("--audio/--no-audio", help="Take the sound, too.", rich_help_panel=_CHOICE),
    ] = True,
    start: Annotated[
        StartName,
        typer.Option(
            help="Join with the next group, or with the beginning of the current one, which "
            "gives a picture sooner but counts old frames.",
            rich_help_panel=_CHOICE,
        ),
    ] = StartName.NEXT,
    duration: Duration = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to wait for the broadcast to appear, and for its first frame.",
        ),
    ] = 10.0,
    retry: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to try to reach the relay again after the session was lost.",
        ),
    ] = 30.0,
    buffer: Annotated[
        int,
        typer.Option(
            metavar="MILLISECONDS",
            min=0,
            help="The buffer of the imagined player whose stalls are counted.",
            rich_help_panel=_OUTPUT,
        ),
    ] = 200,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback",
            help="Tell the relay when objects arrive, so that it knows how long they were on their "
            "way: its pages, metrics and `fastrelay top` show it.",
        ),
    ] = False,
    draft: Drafts = None,
    insecure: Insecure = False,
    ca: Authorities = None,
    pin: Pin = None,
    token: TokenOption = None,
    insecure_no_encryption: NoEncryption = False,
    json_file: JsonReport = None,
    digests: Digests = None,
    quiet: Quiet = False,
) -> None:
    """Receive a broadcast: our own, or any with an MSF or moq-dev catalog.

    The report has the latency of every frame from the camera (its media time) to the arrival
    of its last byte, which needs clocks that agree; stalls, gaps, duplicates and missing
    groups. A relay that goes away is followed to the next one without a gap, a lost session is
    opened again. Ctrl-C ends it in good order: the file is complete, the report is written.
    """
    from fastrelay.media.digests import DigestLog
    from fastrelay.media.ladder import parse_bitrate
    from fastrelay.media.subscriber import Start, SubscribeOptions, Subscriber

    try:
        limit = None if bandwidth is None else parse_bitrate(bandwidth)
    except ValueError as error:
        fail(Exit.USAGE, f"--bandwidth: {error}")
    if auto and (rendition or bandwidth or track):
        fail(
            Exit.USAGE,
            "--auto leaves the choice to the relay: not with --rendition, --bandwidth or --track",
        )
    dial = SessionOptions(url, draft, insecure, ca, pin, token, insecure_no_encryption).dialler()
    options = SubscribeOptions(
        namespace=parse_namespace_option(namespace),
        tracks=tuple(track or ()),
        rendition=rendition,
        bandwidth=limit,
        automatic=auto,
        audio=audio,
        start=Start(start.value),
        duration=duration,
        patience=wait,
        buffer=buffer / 1000,
        retry=retry,
        feedback=feedback,
    )
    with failures_told(url), ExitStack() as files:
        sinks: list[Sink] = []
        to_stdout = str(output) == "-"
        if to_stdout:
            sinks.append(sys.stdout.buffer)
        elif output is not None:
            sinks.append(files.enter_context(output.open("wb")))
        log = None if digests is None else DigestLog(digests)
        subscriber = Subscriber(options, log, _mute if quiet else _say)
        try:
            run_until_signal(lambda stop: _run(subscriber, sinks, play, dial, stop, quiet))
        finally:
            if log is not None:
                log.close()
            _tell(subscriber.report, json_file, to_stdout, quiet)


async def _run(
    subscriber: Subscriber,
    sinks: list[Sink],
    play: bool,
    dial: Dial,
    stop: asyncio.Event,
    quiet: bool,
) -> None:
    from fastrelay.cli.progress import progress
    from fastrelay.media.player import Player

    async with AsyncExitStack() as stack:
        if play:
            player = await stack.enter_async_context(Player(subscriber.report.namespace))
            sinks = [*sinks, player]
            stop_with_player = asyncio.create_task(_stop_when_closed(player, stop))
            stack.callback(stop_with_player.cancel)
        await stack.enter_async_context(progress(subscriber.report.line, quiet=quiet))
        try:
            await subscriber.run(dial, stop, sinks)
        except BrokenPipeError:
            # Whoever reads standard output, or watches, has had enough. What is still in the
            # buffer of standard output must not fail again when the interpreter ends.
            if sys.stdout.buffer in sinks:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _stop_when_closed(player: Player, stop: asyncio.Event) -> None:
    await player.closed()
    stop.set()


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _mute(_: str) -> None:
    """--quiet."""


def _tell(report: Report, json_file: Path | None, to_stderr: bool, quiet: bool) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    if not quiet and report.join is not None:
        from rich.console import Console

        console = Console(stderr=to_stderr)
        console.print(report.heading(), highlight=False)
        console.print(report.table())
