"""Low Overhead Container (draft-ietf-moq-loc-04): a coded frame is the object's payload.

Video goes with four-byte lengths and its parameter sets before each key frame (``avc3``),
audio as raw AAC frames. Properties are made in draft 18's varints; the client re-encodes them
for other drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fastrelay.catalog import Kind
from fastrelay.media.formats import Format, MediaError, Sample
from fastrelay.media.h264 import parse_record
from fastrelay.moqt.keyvalue import KeyValue, encode
from fastrelay.moqt.varint import LEADING_ONES

TIMESCALE = 0x08
FRAME_MARKING = 0x09
VIDEO_CONFIG = 0x0D
AUDIO_CONFIG = 0x0F
TIMESTAMP = 0x10
CODEC_STRING = 0x11
"""Not in the draft; some players want it on every object."""
EARLIER_TIMESTAMPS = (0x06, 0x0A)
"""Where drafts 02 and 03 had TIMESTAMP."""

MICROSECONDS = 1_000_000

# RFC 9626, short form: start and end of frame, then independent, discardable, base layer.
_KEY_MARKING = b"\xe0"
_DELTA_MARKING = b"\xc0"


class Properties(Enum):
    """How much to say with each object."""

    MINIMAL = "minimal"
    """The timestamp only: what every receiver understands."""
    FULL = "full"
    """Also timescale, frame marking, configuration and codec."""


def pack(sample: Sample, track: Format, properties: Properties) -> tuple[bytes, bytes]:
    """An object's payload and its properties."""
    payload = sample.data
    video = track.kind is Kind.VIDEO
    if video and sample.key:
        payload = parse_record(track.description).in_band + payload
    time = (sample.time + sample.offset) * MICROSECONDS // track.timescale
    pairs: list[KeyValue] = [(TIMESTAMP, time)]
    if properties is Properties.FULL:
        pairs = [(TIMESCALE, MICROSECONDS)]
        if video:
            pairs.append((FRAME_MARKING, _KEY_MARKING if sample.key else _DELTA_MARKING))
        if sample.key:
            pairs.append((VIDEO_CONFIG if video else AUDIO_CONFIG, track.description))
        pairs += [(TIMESTAMP, time), (CODEC_STRING, track.codec.encode())]
    return payload, encode(pairs, LEADING_ONES)


def timestamp(properties: Sequence[KeyValue]) -> int:
    """Presentation time in microseconds.

    :raises MediaError: there is none, or the timescale is impossible.
    """
    values = dict(reversed(properties))
    for kind in (TIMESTAMP, *EARLIER_TIMESTAMPS):
        time = values.get(kind)
        if isinstance(time, int):
            scale = values.get(TIMESCALE, MICROSECONDS)
            if not isinstance(scale, int) or not scale:
                raise MediaError("a LOC object has an impossible timescale")
            return time * MICROSECONDS // scale
    raise MediaError("a LOC object has no timestamp")


def configuration(properties: Sequence[KeyValue], kind: Kind) -> bytes:
    """The codec configuration among the properties, empty if there is none."""
    wanted = VIDEO_CONFIG if kind is Kind.VIDEO else AUDIO_CONFIG
    value = dict(properties).get(wanted, b"")
    return value if isinstance(value, bytes) else b""
