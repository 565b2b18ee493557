"""Parameter sets, avcC records and the two forms of H.264 frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.media.formats import MediaError
from fastrelay.media.h264 import config_of_units, join_units, parse_record, split_units
from unit.media.golden import VIDEO, frames, record

# Sequence parameter sets of x264: High profile, 1920x1080 (cropped from 1088), and 4:4:4
# with interlaced coding, 1440x1080.
HIGH_1080 = bytes.fromhex("67640028acd940780227e5c05a808080a0000003002000000781e30632c0")
RECORD = record(VIDEO)


def test_record_round_trip() -> None:
    config = parse_record(RECORD)
    assert config.record() == RECORD
    assert config.codec == "avc1." + RECORD[1:4].hex().upper()
    assert config.size == (192, 108)


def test_size_of_a_cropped_high_profile_picture() -> None:
    config = config_of_units([HIGH_1080, b"\x68\xeb\xe3\xcb\x22\xc0"])
    assert config is not None
    assert config.size == (1920, 1080)
    assert config.codec == "avc1.640028"


def test_parameter_sets_in_band_are_found_again() -> None:
    config = parse_record(RECORD)
    units = list(split_units(config.in_band + frames(VIDEO)[0].data))
    assert config_of_units(units) == config


def test_both_forms_hold_the_same_units() -> None:
    units = list(split_units(frames(VIDEO)[0].data))
    start_codes = b"".join(b"\0\0\0\1" + unit for unit in units)
    assert list(split_units(start_codes)) == units
    assert list(split_units(join_units(units))) == units


@pytest.mark.parametrize("size", [255, 256, 300, 511, 512, 65536])
def test_a_length_that_resembles_a_short_start_code_is_a_length(size: int) -> None:
    unit = b"\x41" + bytes([7]) * (size - 1)
    assert list(split_units(join_units([unit, unit]))) == [unit, unit]


def test_no_configuration_without_both_sets() -> None:
    assert config_of_units([HIGH_1080]) is None
    assert config_of_units([b"\x68\xeb"]) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x02" + RECORD[1:],
        RECORD[:4] + b"\xfd" + RECORD[5:],
        RECORD[:5] + b"\xe0\x00",
        *(RECORD[:n] for n in range(1, len(RECORD))),
    ],
)
def test_broken_records_are_refused(bad: bytes) -> None:
    with pytest.raises(MediaError):
        parse_record(bad)


def test_a_truncated_frame_is_refused() -> None:
    frame = frames(VIDEO)[1].data
    with pytest.raises(MediaError, match="truncated"):
        list(split_units(frame[:-1]))


@given(st.binary(max_size=64))
def test_any_bytes_as_parameter_set_give_a_size_or_an_error(noise: bytes) -> None:
    config = config_of_units([b"\x67\x64\x00\x28" + noise, b"\x68\x00"])
    assert config is not None
    try:
        width, height = config.size
    except MediaError:
        return
    assert 0 < width <= 65535
    assert 0 < height <= 65535
