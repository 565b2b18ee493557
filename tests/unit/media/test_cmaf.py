"""CMAF: the bytes we write, what ffprobe and we read of them, and what others write."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.catalog import Kind
from fastrelay.media.boxes import box, full_box, iterate
from fastrelay.media.cmaf import ChunkReader, Defaults, chunk, init_segment, parse_init
from fastrelay.media.formats import Format, MediaError, Sample
from unit.media.golden import (
    AUDIO,
    FRAGMENTED,
    FRAMES,
    VIDEO,
    audio_format,
    frames,
    record,
    video_format,
)

EPOCH = 1_795_231_268
KEY = Sample(EPOCH * 90_000, 3600, True, b"\0\0\0\x02\x65\x88")

SAMPLES = st.builds(
    Sample,
    time=st.integers(0, 2**63),
    duration=st.integers(0, 2**32 - 1),
    key=st.booleans(),
    data=st.binary(min_size=1, max_size=300),
    offset=st.integers(-(2**31), 2**31 - 1),
)


def test_the_fragment_is_byte_for_byte_what_players_know() -> None:
    assert chunk(KEY, 7) == bytes.fromhex(
        "00000068 6d6f6f66"
        " 00000010 6d666864 00000000 00000007"
        " 00000050 74726166"
        " 00000020 74666864 0002003a 00000001 00000001 00000e10 00000006 02000000"
        " 00000014 74666474 01000000 000092f2 a2fb5040"
        " 00000014 7472756e 00000001 00000001 00000070"
        " 0000000e 6d646174 00000002 6588"
    )


@given(SAMPLES)
def test_round_trip(sample: Sample) -> None:
    assert ChunkReader(Defaults(1)).read(chunk(sample, 1)) == [sample]


def test_init_segments_round_trip() -> None:
    for track in (video_format(), audio_format()):
        parsed, defaults = parse_init(init_segment([track]))
        assert defaults == Defaults(1)
        assert (parsed.kind, parsed.timescale) == (track.kind, track.timescale)
        assert (parsed.width, parsed.height) == (track.width, track.height)
        assert (parsed.sample_rate, parsed.channels) == (track.sample_rate, track.channels)
        assert init_segment([parsed]) == init_segment([track])
    video, _ = parse_init(init_segment([video_format()]))
    assert video.description == record(VIDEO)
    assert video.codec == video_format().codec


def test_ffprobe_decodes_every_frame_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "both.mp4"
    with path.open("wb") as file:
        file.write(init_segment([video_format(), audio_format()]))
        for frame in frames(VIDEO):
            sample = Sample(frame.milliseconds * 90, 9000, frame.key, frame.data)
            file.write(chunk(sample, 1, track_id=1))
        for number, frame in enumerate(frames(AUDIO)):
            file.write(chunk(Sample(1024 * number, 1024, True, frame.data), 1, track_id=2))
    entries = "stream=codec_name,nb_read_frames"
    shown = subprocess.run(
        f"ffprobe -v error -count_frames -of csv=p=0 -show_entries {entries} {path}".split(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    assert shown.stdout.split() == [f"h264,{FRAMES}", f"aac,{len(frames(AUDIO))}"]


def test_reads_fragments_of_many_samples_as_ffmpeg_writes_them() -> None:
    end = next(end for kind, _, end in iterate(FRAGMENTED) if kind == b"moov")
    track, defaults = parse_init(FRAGMENTED[:end])
    assert (track.kind, track.width, track.height) == (Kind.VIDEO, 192, 108)
    samples = ChunkReader(defaults).read(FRAGMENTED[end:])
    assert [sample.data for sample in samples] == [frame.data for frame in frames(VIDEO)]
    assert [sample.key for sample in samples] == [frame.key for frame in frames(VIDEO)]
    times = [sample.time * 1000 // track.timescale for sample in samples]
    assert times == [frame.milliseconds for frame in frames(VIDEO)]


def test_defaults_of_the_movie_fill_in_for_the_fragment() -> None:
    payload = b"abcdef"
    run = full_box(b"trun", 0, 0, struct.pack(">I", 2))
    head = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", 5))
    time = full_box(b"tfdt", 0, 0, struct.pack(">I", 100))
    data = box(b"moof", box(b"traf", head, time, run)) + box(b"mdat", payload)
    reader = ChunkReader(Defaults(5, duration=10, size=3, flags=0x0001_0000))
    assert reader.read(data) == [
        Sample(100, 10, False, b"abc"),
        Sample(110, 10, False, b"def"),
    ]


def test_other_boxes_in_an_object_are_passed_over() -> None:
    data = box(b"styp", b"cmfs") + box(b"prft", bytes(20)) + chunk(KEY, 1) + chunk(KEY, 2)
    assert ChunkReader(Defaults(1)).read(data) == [KEY, KEY]


def test_a_sample_entry_of_an_unknown_codec_is_carried_over() -> None:
    entry = box(b"hvc1", bytes(78), box(b"hvcC", b"whatever"))
    foreign = Format(Kind.VIDEO, "hvc1", 90_000, width=64, height=36, sample_entry=entry)
    parsed, _ = parse_init(init_segment([foreign]))
    assert parsed.sample_entry == entry


def test_opus_is_described() -> None:
    opus = Format(Kind.AUDIO, "opus", 48_000, sample_rate=48_000, channels=2)
    parsed, _ = parse_init(init_segment([opus]))
    assert (parsed.codec, parsed.channels) == ("opus", 2)
    assert parsed.sample_entry.endswith(
        bytes.fromhex("00000013 644f7073 0002 0138 0000bb80 0000 00")
    )


def test_a_codec_without_a_description_is_refused() -> None:
    with pytest.raises(MediaError, match="vp09"):
        init_segment([Format(Kind.VIDEO, "vp09.00.10.08", 90_000, width=64, height=36)])


@pytest.mark.parametrize("data", [chunk(KEY, 1), chunk(replace(KEY, offset=5), 1)])
def test_every_truncation_of_a_fragment_is_an_error(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(MediaError):
            ChunkReader(Defaults(1)).read(data[:size])


def test_every_truncation_of_an_init_segment_is_an_error() -> None:
    data = init_segment([video_format()])
    for size in range(len(data)):
        with pytest.raises(MediaError):
            parse_init(data[:size])


@settings(max_examples=60)
@given(st.data())
def test_damaged_input_is_read_or_refused(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from([FRAGMENTED[:4000], init_segment([audio_format()])]))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for read in (parse_init, ChunkReader(Defaults(1)).read):
        try:
            read(bytes(damaged))
        except MediaError:
            continue


def test_a_run_that_counts_too_much_is_refused_at_once() -> None:
    huge = full_box(b"trun", 0, 0, struct.pack(">I", 0xFFFF_FFFF))
    head = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", 1))
    time = full_box(b"tfdt", 0, 0, bytes(4))
    with pytest.raises(MediaError, match="counts"):
        ChunkReader(Defaults(1)).read(box(b"moof", box(b"traf", head, time, huge)))
