"""What ffmpeg 5.1 wrote once, for tests of the containers.

``video.flv``: 30 frames of the test picture, 192x108 at 10 Hz, a key frame every 10.
``audio.flv``: 2 s of a tone, AAC at 48 kHz in stereo, times moved by 1 s.
``fragmented.mp4``: the same video, copied, in fragments of one GOP.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from fastrelay.catalog import Kind
from fastrelay.media.aac import parse_config
from fastrelay.media.ffmpeg import Encoding, Rendition
from fastrelay.media.flv import FlvConfig, FlvDemuxer, FlvFrame
from fastrelay.media.formats import Format
from fastrelay.media.h264 import parse_record
from fastrelay.media.source import TEST, Source

DATA = Path(__file__).parent / "data"
VIDEO = (DATA / "video.flv").read_bytes()
AUDIO = (DATA / "audio.flv").read_bytes()
FRAGMENTED = (DATA / "fragmented.mp4").read_bytes()

FRAMES = 30
FRAMERATE = Fraction(10)
GOP = 10


def items(flv: bytes) -> list[FlvConfig | FlvFrame]:
    return FlvDemuxer().feed(flv)


def frames(flv: bytes) -> list[FlvFrame]:
    return [item for item in items(flv) if isinstance(item, FlvFrame)]


def record(flv: bytes) -> bytes:
    return next(item.record for item in items(flv) if isinstance(item, FlvConfig))


def video_format() -> Format:
    config = parse_record(record(VIDEO))
    return Format(Kind.VIDEO, config.codec, 90_000, record(VIDEO), *config.size)


def audio_format() -> Format:
    config = parse_config(record(AUDIO))
    return Format(
        Kind.AUDIO,
        config.codec,
        config.sample_rate,
        record(AUDIO),
        sample_rate=config.sample_rate,
        channels=config.channels,
    )


def encoding(*heights: int, audio: bool = True) -> Encoding:
    renditions = tuple(
        Rendition(f"video-{height}", height * 16 // 9, height, 1000 * height) for height in heights
    )
    source = Source(TEST, 192, 108, FRAMERATE, has_audio=True, paced=False)
    return Encoding(
        source=source,
        renditions=renditions,
        framerate=FRAMERATE,
        gop=GOP,
        audio_name="audio",
        audio_bitrate=32_000 if audio else 0,
        clock=True,
    )
