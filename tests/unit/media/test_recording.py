"""Several tracks in one file."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from fastrelay.catalog import Kind
from fastrelay.media.boxes import find, iterate
from fastrelay.media.cmaf import ChunkReader, Defaults
from fastrelay.media.formats import Format, FormatChangedError, MediaError, Sample
from fastrelay.media.recording import Recording
from unit.media.golden import audio_format, video_format

EPOCH = 1_795_231_268


def video(n: int, key: bool = False) -> Sample:
    return Sample(EPOCH * 90_000 + n * 3600, 3600, key, b"v%d" % n)


def audio(n: int) -> Sample:
    return Sample(EPOCH * 48_000 + n * 1024, 1024, True, b"a%d" % n)


def read(file: io.BytesIO) -> tuple[int, list[tuple[int, bytes]]]:
    """How many tracks the file declares; time and data of each sample."""
    data = file.getvalue()
    boxes = list(iterate(data))
    _, start, end = boxes[1]
    tracks = sum(kind == b"trak" for kind, _, _ in iterate(data, start, end))
    samples = ChunkReader(Defaults(1)).read(data[end:]) if len(boxes) > 2 else []
    return tracks, [(sample.time, sample.data) for sample in samples]


def test_time_zero_is_the_earliest_sample_and_tracks_stay_in_step() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v", "a"))
    recording.write("a", audio_format(), audio(1))
    assert file.getvalue() == b""
    recording.write("v", video_format(), video(0, key=True))
    recording.write("v", video_format(), video(1))
    recording.finish()
    assert read(file) == (2, [(1024, b"a1"), (0, b"v0"), (3600, b"v1")])
    assert recording.frames == 3


def test_video_begins_with_a_key_frame() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v",))
    recording.write("v", video_format(), video(0))
    recording.write("v", video_format(), video(1, key=True))
    recording.finish()
    assert read(file) == (1, [(0, b"v1")])


def test_a_track_that_does_not_begin_is_left_out() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v", "a"))
    for n in range(60):
        recording.write("v", video_format(), video(n, key=n % 25 == 0))
    recording.write("a", audio_format(), audio(120))
    recording.finish()
    tracks, samples = read(file)
    assert tracks == 1
    assert len(samples) == 60


def test_a_short_recording_is_written_at_the_end() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v", "a"))
    recording.write("v", video_format(), video(0, key=True))
    recording.finish()
    assert read(file) == (1, [(0, b"v0")])


def test_nothing_received_is_nothing_written() -> None:
    file = io.BytesIO()
    Recording(file, ("v",)).finish()
    assert file.getvalue() == b""


def test_fragments_are_numbered_and_name_their_track() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v", "a"))
    recording.write("v", video_format(), video(0, key=True))
    recording.write("a", audio_format(), audio(0))
    data = file.getvalue()
    found = []
    for kind, start, end in iterate(data):
        if kind == b"moof":
            number, _ = find(data, "mfhd", start, end)
            track, _ = find(data, "traf/tfhd", start, end)
            found.append((data[number + 4 : number + 8], data[track + 4 : track + 8]))
    assert [(n[-1], t[-1]) for n, t in found] == [(1, 1), (2, 2)]


def test_a_codec_that_no_file_takes_is_an_error() -> None:
    recording = Recording(io.BytesIO(), ("v",))
    vp8 = Format(Kind.VIDEO, "vp8", 1_000_000, width=64, height=36)
    with pytest.raises(MediaError, match="vp8"):
        recording.write("v", vp8, Sample(0, 1, True, b"x"))


def test_another_format_is_not_mixed_in() -> None:
    file = io.BytesIO()
    recording = Recording(file, ("v",))
    recording.write("v", video_format(), video(0, key=True))
    size = len(file.getvalue())
    with pytest.raises(FormatChangedError, match="format of v"):
        recording.write("v", replace(video_format(), width=64), video(1, key=True))
    assert len(file.getvalue()) == size
