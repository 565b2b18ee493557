"""The AudioSpecificConfig of AAC (ISO/IEC 14496-3 section 1.6.2.1), and the ADTS header."""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.media.formats import MediaError

SAMPLES_PER_FRAME = 1024

_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """``object_type`` 2 is AAC-LC."""

    object_type: int
    sample_rate: int
    channels: int

    @property
    def codec(self) -> str:
        return f"mp4a.40.{self.object_type}"

    def record(self) -> bytes:
        """The AudioSpecificConfig."""
        channels = 7 if self.channels == 8 else self.channels
        if self.sample_rate in _RATES:
            bits = self.object_type << 11 | _RATES.index(self.sample_rate) << 7 | channels << 3
            return bits.to_bytes(2)
        bits = self.object_type << 35 | 15 << 31 | self.sample_rate << 7 | channels << 3
        return bits.to_bytes(5)


def parse_config(record: bytes) -> AudioConfig:
    """Read an AudioSpecificConfig.

    :raises MediaError: it is truncated or names no sample rate or channels.
    """
    bits = int.from_bytes(record[:8].ljust(8, b"\0"))
    object_type = bits >> 59
    left = 59
    if object_type == 31:
        object_type = 32 + (bits >> 53 & 0x3F)
        left = 53
    rate_index = bits >> (left - 4) & 15
    left -= 4
    if rate_index == 15:
        rate = bits >> (left - 24) & 0xFFFFFF
        left -= 24
    else:
        rate = _RATES[rate_index] if rate_index < len(_RATES) else 0
    channels = bits >> (left - 4) & 15
    left -= 4
    if 8 * len(record) < 64 - left or not rate or not object_type:
        raise MediaError("the AAC configuration is malformed")
    return AudioConfig(object_type, rate, 8 if channels == 7 else channels)


def strip_adts(frame: bytes) -> tuple[bytes, AudioConfig | None]:
    """The raw frame and, if an ADTS header was before it, what that said."""
    if len(frame) < 7 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        return frame, None
    length = (frame[3] & 3) << 11 | frame[4] << 3 | frame[5] >> 5
    rate_index = frame[2] >> 2 & 15
    if length != len(frame) or rate_index >= len(_RATES):
        return frame, None
    channels = (frame[2] & 1) << 2 | frame[3] >> 6
    header = 7 if frame[1] & 1 else 9
    return frame[header:], AudioConfig((frame[2] >> 6) + 1, _RATES[rate_index], channels)
