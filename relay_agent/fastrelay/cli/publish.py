"""``fastrelay publish``: real video into a relay."""

from __future__ import annotations

import asyncio
import json
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
    from fastrelay.media.digests import DigestLog
    from fastrelay.media.ffmpeg import Encoding
    from fastrelay.media.publisher import Publisher, PublishOptions

_INPUT, _ENCODING, _TRACKS = "Input", "Encoding", "Tracks"


class PackagingName(StrEnum):
    """How frames become objects."""

    CMAF = "cmaf"
    LOC = "loc"


class LocProperties(StrEnum):
    """How much LOC says with each object."""

    MINIMAL = "minimal"
    FULL = "full"


def publish(
    url: Url,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A file, URL or device that ffmpeg reads, or `test`: ffmpeg's moving test "
            "picture with a burnt-in clock, and a tone.",
            show_default=False,
        ),
    ],
    namespace: NamespaceOption,
    loop: Annotated[
        bool,
        typer.Option(
            "--loop/--once",
            help="Begin a file again when it ends, or publish it once.",
            rich_help_panel=_INPUT,
        ),
    ] = False,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="ffmpeg's name of the input format, for devices: `v4l2`, `x11grab`, ...",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    audio: Annotated[
        bool,
        typer.Option(
            "--audio/--no-audio",
            help="Publish the sound, if there is any.",
            rich_help_panel=_INPUT,
        ),
    ] = True,
    duration: Duration = None,
    renditions: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHT,HEIGHT,...",
            help="Heights of the pictures to encode. Default: 720,360,180, none larger than "
            "the input.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    bitrates: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,RATE,...",
            help="Video bit rates, like 2500k,900k,300k, one for each rendition. Default: by "
            "height.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    audio_bitrate: Annotated[
        str,
        typer.Option(metavar="RATE", help="Audio bit rate.", rich_help_panel=_ENCODING),
    ] = "96k",
    fps: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Frames per second, like 25 or 30000/1001. Default: the input's; 25 for `test`.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    gop: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=60,
            help="Time between key frames, which is one MoQT group.",
            rich_help_panel=_ENCODING,
        ),
    ] = 1.0,
    preset: Annotated[
        str,
        typer.Option(
            help="x264's preset: `ultrafast` costs the least, `medium` looks the best.",
            rich_help_panel=_ENCODING,
        ),
    ] = "veryfast",
    clock: Annotated[
        bool | None,
        typer.Option(
            "--clock/--no-clock",
            help="Burn media time and frame number into the picture. Default: with `test` only.",
            rich_help_panel=_ENCODING,
        ),
    ] = None,
    packaging: Annotated[
        PackagingName,
        typer.Option(
            help="`cmaf`: one CMAF chunk per frame, which most players take. `loc`: bare frames "
            "with properties.",
            rich_help_panel=_TRACKS,
        ),
    ] = PackagingName.CMAF,
    loc_properties: Annotated[
        LocProperties,
        typer.Option(
            help="With `loc`: the timestamp only, or all that some players want.",
            rich_help_panel=_TRACKS,
        ),
    ] = LocProperties.MINIMAL,
    catalog_interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="How often the catalog is repeated as a new group.",
            rich_help_panel=_TRACKS,
        ),
    ] = 5.0,
    target_latency: Annotated[
        int,
        typer.Option(
            metavar="MILLISECONDS",
            min=1,
            help="What the catalog asks players to aim at.",
            rich_help_panel=_TRACKS,
        ),
    ] = 500,
    retry: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to try to come back when the session is lost.",
            rich_help_panel="Session",
        ),
    ] = 30.0,
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
    """Publish real video, encoded live by ffmpeg to H.264 and AAC.

    Each rendition is a track, each GOP a group, each frame an object. Group ids, which are
    Unix seconds, and start times agree on all tracks; media time is Unix time, so that viewers
    can measure the latency from the camera on. Catalogs for MSF (`catalog`) and moq-dev
    (`catalog.json`) say what there is. Ctrl-C ends the broadcast in good order.
    """
    from fastrelay.catalog import Packaging
    from fastrelay.media.digests import DigestLog
    from fastrelay.media.loc import Properties
    from fastrelay.media.publisher import Publisher, PublishOptions

    dial = SessionOptions(url, draft, insecure, ca, pin, token, insecure_no_encryption).dialler()
    options = PublishOptions(
        namespace=parse_namespace_option(namespace),
        packaging=Packaging(packaging.value),
        loc_properties=Properties(loc_properties.value),
        catalog_interval=catalog_interval,
        target_latency=target_latency,
        retry=retry,
    )
    with failures_told(url):
        encoding = _encoding(
            source,
            input_format,
            _list(renditions),
            _list(bitrates),
            audio_bitrate if audio else None,
            fps,
            gop,
            loop,
            clock,
            duration,
            preset,
        )
        log = None if digests is None else DigestLog(digests)
        publisher = Publisher(encoding, options, dial, log)
        try:
            run_until_signal(lambda stop: _run(publisher, options, stop, quiet))
        finally:
            _finish(publisher, log, json_file)


def _list(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",")]


def _encoding(
    url: str,
    input_format: str | None,
    heights: list[str],
    bitrates: list[str],
    audio_bitrate: str | None,
    fps: str | None,
    gop: float,
    loop: bool,
    clock: bool | None,
    duration: float | None,
    preset: str,
) -> Encoding:
    from fractions import Fraction

    from fastrelay.media import ladder
    from fastrelay.media.ffmpeg import Encoding
    from fastrelay.media.source import TEST, probe

    try:
        rates = [ladder.parse_bitrate(rate) for rate in bitrates]
        audio_rate = 0 if audio_bitrate is None else ladder.parse_bitrate(audio_bitrate)
        pixels = [int(height.lower().removesuffix("p")) for height in heights]
        framerate = None if fps is None else Fraction(fps)
        if framerate is not None and not 0 < framerate <= 240:
            raise ValueError(f"--fps: {fps} is no frame rate")
    except (ValueError, ZeroDivisionError) as error:
        fail(Exit.USAGE, str(error))
    found = asyncio.run(probe(url, input_format))
    framerate = framerate or found.framerate
    return Encoding(
        source=found,
        renditions=ladder.build(found, pixels, rates),
        framerate=framerate,
        gop=max(1, round(gop * framerate)),
        audio_name="audio",
        audio_bitrate=audio_rate if found.has_audio else 0,
        clock=url == TEST if clock is None else clock,
        loop=loop,
        duration=duration,
        preset=preset,
    )


async def _run(
    publisher: Publisher, options: PublishOptions, stop: asyncio.Event, quiet: bool
) -> None:
    from fastrelay.cli.progress import progress
    from fastrelay.media.formats import namespace_text

    def line() -> str:
        status = publisher.status
        first = next(iter(status.frames))
        return (
            f"{namespace_text(options.namespace)}  group {status.group}  "
            f"{status.frames[first]} frames  {sum(status.bytes.values()) / 1e6:.1f} MB  "
            f"{publisher.subscribers} subscriptions"
            + (f"  {publisher.backlog // 1000} kB waiting" if publisher.backlog else "")
        )

    async with progress(line, quiet=quiet):
        await publisher.run(stop)


def _finish(publisher: Publisher, log: DigestLog | None, json_file: Path | None) -> None:
    if log is not None:
        log.close()
    if json_file is not None:
        json_file.write_text(json.dumps(publisher.status.as_json(), indent=2) + "\n")
