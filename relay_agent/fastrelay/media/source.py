"""What ffmpeg can read as input: the test picture, files, network sources, devices."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from fastrelay.media.formats import MediaError

TEST = "test"
"""The input that is ffmpeg's moving test picture and a tone."""

DEFAULT_FRAMERATE = Fraction(25)
_PROBE_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """An input and what is in it. ``paced``: it delivers in real time by itself, as devices
    and live streams do; other inputs are read at their own frame rate."""

    url: str
    width: int
    height: int
    framerate: Fraction
    has_audio: bool
    paced: bool
    input_format: str | None = None


def program(name: str) -> str:
    """The path of one of ffmpeg's programs.

    :raises MediaError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise MediaError(f"{name} is not installed; on Debian: apt-get install ffmpeg")
    return path


@cache
def pace(ffmpeg: str) -> tuple[str, ...]:
    """Options with which that program reads an input at its own frame rate from the first frame on.

    From 6.1 on it is half a second ahead, unless it is told otherwise (by 0 it is not); older ones
    do not know the option.
    """
    command = [ffmpeg, "-hide_banner", "-h", "long"]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    burst = "-readrate_initial_burst"
    return ("-re", burst, "0.001") if burst in known else ("-re",)


async def probe(url: str, input_format: str | None = None) -> Source:
    """Ask ffprobe what the input holds.

    :raises MediaError: it cannot be read, or has no video.
    """
    if url == TEST:
        return Source(TEST, 1280, 720, DEFAULT_FRAMERATE, has_audio=True, paced=False)
    command = [program("ffprobe"), "-v", "error", "-show_streams", "-show_format", "-of", "json"]
    if input_format is not None:
        command += ["-f", input_format]
    process = await asyncio.create_subprocess_exec(
        *(*command, "-i", url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _PROBE_TIMEOUT)
    except TimeoutError:
        raise MediaError(f"{url}: nothing to read within {_PROBE_TIMEOUT:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise MediaError(lines[-1] if lines else f"{url}: ffprobe cannot read it")
    return describe(url, json.loads(output), input_format)


def describe(url: str, probed: dict[str, Any], input_format: str | None = None) -> Source:
    """The source that a report of ffprobe (as JSON) speaks of.

    :raises MediaError: it has no video.
    """
    streams = probed.get("streams", [])
    video = next(
        (
            stream
            for stream in streams
            if stream.get("codec_type") == "video"
            and not stream.get("disposition", {}).get("attached_pic")
        ),
        None,
    )
    if video is None or not video.get("width") or not video.get("height"):
        raise MediaError(f"{url}: there is no video in it")
    width, height = int(video["width"]), int(video["height"])
    # Pixels need not be square, and a telephone's picture may have to be turned.
    aspect = _fraction(video.get("sample_aspect_ratio", "1:1").replace(":", "/")) or Fraction(1)
    width = round(width * aspect)
    rotation = [side.get("rotation", 0) for side in video.get("side_data_list", [])]
    if any(int(angle) % 180 for angle in rotation):
        width, height = height, width
    rates = (video.get("avg_frame_rate", ""), video.get("r_frame_rate", ""))
    framerate = next((rate for text in rates if (rate := _fraction(text))), DEFAULT_FRAMERATE)
    return Source(
        url,
        width,
        height,
        min(framerate, Fraction(120)),
        has_audio=any(stream.get("codec_type") == "audio" for stream in streams),
        paced="duration" not in probed.get("format", {}) and not Path(url).is_file(),
        input_format=input_format,
    )


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text) or None
    except (ValueError, ZeroDivisionError):
        return None
