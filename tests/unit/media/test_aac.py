"""AudioSpecificConfig and ADTS."""

from __future__ import annotations

import pytest

from fastrelay.media.aac import AudioConfig, parse_config, strip_adts
from fastrelay.media.formats import MediaError
from unit.media.golden import AUDIO, record


def test_ffmpegs_configuration() -> None:
    config = parse_config(record(AUDIO))
    assert config == AudioConfig(2, 48000, 2)
    assert config.codec == "mp4a.40.2"
    assert config.record() == record(AUDIO)[:2]


@pytest.mark.parametrize(
    "config",
    [
        AudioConfig(2, 44100, 1),
        AudioConfig(5, 24000, 2),
        AudioConfig(2, 37800, 6),
        AudioConfig(2, 48000, 8),
    ],
)
def test_round_trip(config: AudioConfig) -> None:
    assert parse_config(config.record()) == config


def test_object_types_above_31_take_more_bits() -> None:
    assert parse_config(bytes.fromhex("f94620")).object_type == 42


@pytest.mark.parametrize("bad", [b"", b"\x11", b"\x16\x90", b"\x17\x80\x00"])
def test_broken_configurations_are_refused(bad: bytes) -> None:
    with pytest.raises(MediaError):
        parse_config(bad)


def test_adts_header_is_taken_off() -> None:
    raw = bytes(range(20))
    size = 7 + len(raw)
    header = bytes([0xFF, 0xF1, 0x4C, 0x80 | size >> 11, size >> 3 & 0xFF, size << 5 & 0xFF, 0xFC])
    assert strip_adts(header + raw) == (raw, AudioConfig(2, 48000, 2))
    assert strip_adts(raw) == (raw, None)
    assert strip_adts(header) == (header, None)
