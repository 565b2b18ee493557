"""Which renditions to make of a source, and how important each is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastrelay.media.ffmpeg import Rendition
from fastrelay.media.formats import MediaError
from fastrelay.media.source import Source

DEFAULT_HEIGHTS = (720, 360, 180)

CATALOG_PRIORITY = 16
AUDIO_PRIORITY = 32
_SMALLEST_VIDEO_PRIORITY = 64
_PRIORITY_STEP = 32

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


def parse_bitrate(text: str) -> int:
    """``2500k``, ``2.5M`` or ``2500000``, in bit/s.

    :raises ValueError: it is none of these, or not above 0.
    """
    number = text.strip().lower()
    unit = number[-1:] if number[-1:] in ("k", "m") else ""
    try:
        rate = round(float(number.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        rate = 0
    if rate <= 0:
        raise ValueError(f"{text!r} is no bit rate; write 900k or 2.5M")
    return rate


def default_bitrate(height: int) -> int:
    """Bits per second that suit a live picture: fewer per pixel, the more pixels there are."""
    return max(1, round(25 * math.pow(height / 720, 1.5))) * 100_000


def build(
    source: Source, heights: Sequence[int] = (), bitrates: Sequence[int] = ()
) -> tuple[Rendition, ...]:
    """Renditions from the largest to the smallest, never larger than the source by default.

    :param heights: picture heights in pixels; the default is 720, 360 and 180, as many as
        there are ``bitrates``.
    :param bitrates: in bit/s, one for each height; the default goes by height.
    :raises MediaError: they do not fit together.
    """
    if not heights:
        count = len(bitrates) or len(DEFAULT_HEIGHTS)
        steps = (*DEFAULT_HEIGHTS, *(DEFAULT_HEIGHTS[-1] >> n for n in range(1, 3)))[:count]
        if count > len(steps):
            raise MediaError("give the heights of the renditions, too, when they are so many")
        limit = source.height if source.height > 1 else steps[0]
        fitting = [min(height, limit) // 2 * 2 for height in steps]
        heights = fitting if bitrates else list(dict.fromkeys(fitting))
    if bitrates and len(bitrates) != len(heights):
        raise MediaError(f"{len(heights)} renditions need {len(heights)} bit rates")
    if any(height < 16 or height % 2 for height in heights):
        raise MediaError("the height of a rendition is an even number of pixels, from 16 on")
    if len(set(heights)) != len(heights):
        raise MediaError("every rendition needs a height of its own")
    rates = bitrates or [default_bitrate(height) for height in heights]
    renditions = [
        Rendition(
            f"video-{height}",
            max(2, round(source.width * height / source.height / 2) * 2),
            height,
            rate,
        )
        for height, rate in zip(heights, rates, strict=True)
    ]
    return tuple(sorted(renditions, key=lambda rendition: -rendition.height))


def priorities(renditions: Sequence[Rendition]) -> dict[str, int]:
    """Publisher priorities (lower goes first): under congestion the small picture survives."""
    ascending = sorted(renditions, key=lambda rendition: rendition.height)
    return {
        rendition.name: min(255, _SMALLEST_VIDEO_PRIORITY + _PRIORITY_STEP * step)
        for step, rendition in enumerate(ascending)
    }
