"""An incremental FLV demuxer for what ffmpeg writes into a pipe (Adobe FLV 10.1, annex E).

FLV is used inside the machine because ffmpeg writes each frame the moment it is encoded;
its MP4 and Matroska muxers hold every frame back until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.catalog import Kind
from fastrelay.media.formats import MediaError

_HEADER = 9
_TAG_HEADER = 11
_AUDIO_TAG = 8
_VIDEO_TAG = 9
_AVC = 7
_AAC = 10


@dataclass(frozen=True, slots=True)
class FlvConfig:
    """A sequence header: the avcC record or the AudioSpecificConfig."""

    kind: Kind
    record: bytes


@dataclass(frozen=True, slots=True)
class FlvFrame:
    """One coded frame. ``milliseconds`` is the decoding time, ``offset`` (ms) what the
    presentation time lies after it."""

    kind: Kind
    milliseconds: int
    key: bool
    data: bytes
    offset: int = 0


class FlvDemuxer:
    """Feed it bytes in pieces of any size; it returns what became complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header_seen = False

    def feed(self, data: bytes) -> list[FlvConfig | FlvFrame]:
        """Configurations and frames, in order.

        :raises MediaError: this is not FLV, or not H.264 and AAC.
        """
        buffer = self._buffer
        buffer += data
        position = 0
        items: list[FlvConfig | FlvFrame] = []
        if not self._header_seen:
            if not b"FLV\x01".startswith(buffer[:4]):
                raise MediaError("the encoder's output is not FLV")
            if len(buffer) < _HEADER + 4:
                return items
            if int.from_bytes(buffer[5:9]) != _HEADER:
                raise MediaError("the FLV header has an impossible size")
            position = _HEADER + 4
            self._header_seen = True
        while len(buffer) - position >= _TAG_HEADER:
            size = int.from_bytes(buffer[position + 1 : position + 4])
            end = position + _TAG_HEADER + size
            if len(buffer) < end + 4:
                break
            tag = bytes(buffer[position:end])
            if int.from_bytes(buffer[end : end + 4]) != _TAG_HEADER + size:
                raise MediaError("the FLV stream is damaged: a tag's size is not repeated after it")
            item = _read_tag(tag)
            if item is not None:
                items.append(item)
            position = end + 4
        del buffer[:position]
        return items

    @property
    def pending(self) -> int:
        """Bytes of a tag that is not complete yet; not zero at the end: truncated."""
        return len(self._buffer)


def _read_tag(tag: bytes) -> FlvConfig | FlvFrame | None:
    """One tag; None for scripts, ends of sequence and empty tags."""
    time = int.from_bytes(tag[4:7]) | tag[7] << 24
    if time & 0x8000_0000:
        time -= 1 << 32
    body = tag[_TAG_HEADER:]
    if tag[0] == _VIDEO_TAG and body:
        if body[0] & 15 != _AVC or len(body) < 5:
            raise MediaError("a video tag of the FLV stream is not H.264")
        if body[1] == 0:
            return FlvConfig(Kind.VIDEO, body[5:])
        if body[1] == 1:
            offset = int.from_bytes(body[2:5], signed=True)
            return FlvFrame(Kind.VIDEO, time, body[0] >> 4 == 1, body[5:], offset)
    elif tag[0] == _AUDIO_TAG and body:
        if body[0] >> 4 != _AAC or len(body) < 2:
            raise MediaError("an audio tag of the FLV stream is not AAC")
        if body[1] == 0:
            return FlvConfig(Kind.AUDIO, body[2:])
        return FlvFrame(Kind.AUDIO, time, True, body[2:])
    return None
