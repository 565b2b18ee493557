"""LOC and moq-dev's containers: what we write, and what readers make of any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastrelay.catalog import CatalogTrack, Kind, Packaging
from fastrelay.media.cmaf import chunk, init_segment
from fastrelay.media.formats import MediaError, Sample
from fastrelay.media.h264 import parse_record, split_units
from fastrelay.media.loc import Properties, pack, timestamp
from fastrelay.media.readers import TrackReader, reader_for
from fastrelay.moqt.keyvalue import KeyValue, decode, encode
from fastrelay.moqt.varint import LEADING_ONES, QUIC
from unit.media.golden import AUDIO, VIDEO, audio_format, frames, record, video_format

EPOCH = 1_795_231_268
MICROSECONDS = EPOCH * 1_000_000
VIDEO_SAMPLES = [
    Sample(EPOCH * 90_000 + frame.milliseconds * 90, 9000, frame.key, frame.data)
    for frame in frames(VIDEO)
]
AUDIO_FRAME = frames(AUDIO)[3].data
AUDIO_SAMPLE = Sample(EPOCH * 48_000, 1024, True, AUDIO_FRAME)

VIDEO_TRACK = CatalogTrack("v", Kind.VIDEO, Packaging.LOC, "avc3.4D400B", framerate=10.0)
AUDIO_TRACK = CatalogTrack(
    "a", Kind.AUDIO, Packaging.LOC, "mp4a.40.2", sample_rate=48_000, channels=2
)


def read(
    reader: TrackReader, payload: bytes, properties: bytes = b"", first: bool = False
) -> list[Sample]:
    return reader.read(payload, list(decode(properties, LEADING_ONES)), first=first)


def test_minimal_properties_are_nine_bytes_and_a_type() -> None:
    track = replace(video_format(), timescale=1_000_000)
    sample = Sample(1_795_231_268_518_049, 40_000, False, b"x")
    _, properties = pack(sample, track, Properties.MINIMAL)
    assert properties == bytes.fromhex("10 fe0660c0da0cb8a1")
    assert len(properties) == 9


def test_full_properties() -> None:
    payload, properties = pack(VIDEO_SAMPLES[0], video_format(), Properties.FULL)
    assert list(decode(properties, LEADING_ONES)) == [
        (0x08, 1_000_000),
        (0x09, b"\xe0"),
        (0x0D, record(VIDEO)),
        (0x10, MICROSECONDS),
        (0x11, video_format().codec.encode()),
    ]
    units = list(split_units(payload))
    assert tuple(units[:2]) == (
        *parse_record(record(VIDEO)).sps,
        *parse_record(record(VIDEO)).pps,
    )
    _, properties = pack(VIDEO_SAMPLES[1], video_format(), Properties.FULL)
    assert [kind for kind, _ in decode(properties, LEADING_ONES)] == [0x08, 0x09, 0x10, 0x11]


@pytest.mark.parametrize("level", Properties)
def test_video_comes_out_as_it_went_in(level: Properties) -> None:
    reader = reader_for(VIDEO_TRACK)
    assert reader.format is None
    for number, sample in enumerate(VIDEO_SAMPLES):
        payload, properties = pack(sample, video_format(), level)
        (got,) = read(reader, payload, properties, first=number == 0)
        assert got.data == b"".join(
            len(unit).to_bytes(4) + unit for unit in split_units(sample.data)
        )
        assert (got.key, got.duration) == (sample.key, 100_000)
        assert got.time == sample.time * 100 // 9
    assert reader.format is not None
    assert reader.format.description == record(VIDEO)
    assert (reader.format.width, reader.format.height) == (192, 108)


def test_annex_b_is_read_as_well() -> None:
    reader = reader_for(VIDEO_TRACK)
    payload, properties = pack(VIDEO_SAMPLES[0], video_format(), Properties.MINIMAL)
    start_codes = b"".join(b"\0\0\0\1" + unit for unit in split_units(payload))
    assert read(reader, start_codes, properties) == read(reader, payload, properties)


def test_an_empty_block_of_private_properties_is_taken_off() -> None:
    for track, sample, known in (
        (VIDEO_TRACK, VIDEO_SAMPLES[0], video_format()),
        (AUDIO_TRACK, AUDIO_SAMPLE, audio_format()),
    ):
        payload, properties = pack(sample, known, Properties.MINIMAL)
        plain = read(reader_for(track), payload, properties)
        assert read(reader_for(track), b"\x0a\x00" + payload, properties) == plain


def test_audio_configuration_comes_from_the_catalog_a_property_or_adts() -> None:
    payload, minimal = pack(AUDIO_SAMPLE, audio_format(), Properties.MINIMAL)
    _, full = pack(AUDIO_SAMPLE, audio_format(), Properties.FULL)
    silent = replace(AUDIO_TRACK, sample_rate=0, channels=0)

    known = reader_for(AUDIO_TRACK)
    assert known.format is not None
    assert read(known, payload, minimal) == [Sample(MICROSECONDS, 21_333, True, AUDIO_FRAME)]

    told = reader_for(silent)
    assert told.format is None
    read(told, payload, full)
    assert told.format is not None
    assert told.format.description == record(AUDIO)

    size = 7 + len(payload)
    adts = bytes([0xFF, 0xF1, 0x4C, 0x80 | size >> 11, size >> 3 & 255, size << 5 & 255, 0xFC])
    headed = reader_for(silent)
    assert read(headed, adts + payload, minimal)[0].data == AUDIO_FRAME
    assert headed.format is not None
    assert headed.format.sample_rate == 48_000


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0x10, 5)], 5),
        ([(0x06, 7)], 7),
        ([(0x06, 7), (0x10, 5)], 5),
        ([(0x08, 90_000), (0x10, 180_000)], 2_000_000),
    ],
)
def test_timestamps_of_all_drafts(pairs: list[KeyValue], expected: int) -> None:
    assert timestamp(pairs) == expected


@pytest.mark.parametrize("pairs", [[], [(0x0D, b"x")], [(0x08, 0), (0x10, 5)]])
def test_objects_without_a_time_are_refused(pairs: list[KeyValue]) -> None:
    with pytest.raises(MediaError):
        timestamp(pairs)


@pytest.mark.parametrize("family", [LEADING_ONES, QUIC], ids=lambda family: family.name)
def test_properties_within_the_payload(family) -> None:  # type: ignore[no-untyped-def]
    payload, _ = pack(VIDEO_SAMPLES[0], video_format(), Properties.MINIMAL)
    block = encode([(0x10, MICROSECONDS)], family)
    (got,) = read(reader_for(VIDEO_TRACK), family.encode(len(block)) + block + payload)
    assert (got.time, got.key) == (MICROSECONDS, True)


def test_legacy_container() -> None:
    payload, _ = pack(VIDEO_SAMPLES[0], video_format(), Properties.MINIMAL)
    reader = reader_for(replace(VIDEO_TRACK, packaging=Packaging.LEGACY))
    (got,) = read(reader, QUIC.encode(MICROSECONDS) + payload)
    assert (got.time, got.key) == (MICROSECONDS, True)
    with pytest.raises(MediaError):
        read(reader, b"\xc0")


def test_an_object_without_a_frame_is_no_sample() -> None:
    reader = reader_for(replace(VIDEO_TRACK, packaging=Packaging.LEGACY))
    assert read(reader, QUIC.encode(MICROSECONDS)) == []


def test_other_codecs_are_keys_at_the_start_of_a_group() -> None:
    reader = reader_for(replace(VIDEO_TRACK, codec="vp8"))
    properties = encode([(0x10, 1)], LEADING_ONES)
    assert read(reader, b"frame", properties, first=True)[0].key
    assert not read(reader, b"frame", properties)[0].key


@pytest.mark.parametrize("track", [VIDEO_TRACK, replace(VIDEO_TRACK, packaging=Packaging.LEGACY)])
@pytest.mark.parametrize("payload", [b"", b"\x05ab", b"\xc0" + bytes(7) + b"\0\0\1\0xy"])
def test_malformed_objects_are_refused_and_the_next_is_read(
    track: CatalogTrack, payload: bytes
) -> None:
    reader = reader_for(track)
    with pytest.raises(MediaError):
        read(reader, payload)
    good, properties = pack(VIDEO_SAMPLES[0], video_format(), Properties.MINIMAL)
    if track.packaging is Packaging.LEGACY:
        good, properties = QUIC.encode(MICROSECONDS) + good, b""
    assert read(reader, good, properties)[0].key


def test_cmaf_tracks_must_be_what_the_catalog_says() -> None:
    track = replace(VIDEO_TRACK, packaging=Packaging.CMAF, init=init_segment([video_format()]))
    reader = reader_for(track)
    assert read(reader, chunk(VIDEO_SAMPLES[0], 1)) == [VIDEO_SAMPLES[0]]
    with pytest.raises(MediaError, match="not the video"):
        reader_for(replace(track, init=init_segment([audio_format()])))
