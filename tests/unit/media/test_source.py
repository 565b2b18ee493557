"""What ffprobe says of inputs, the renditions made of them, and ffmpeg's command line."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from fastrelay.media import ladder
from fastrelay.media.ffmpeg import Encoder, clock_text, command
from fastrelay.media.formats import MediaError
from fastrelay.media.source import TEST, Source, describe, probe, program
from unit.media.golden import DATA, encoding


def described(*streams: dict[str, Any], **container: Any) -> Source:
    video = {"codec_type": "video", "width": 640, "height": 480, "avg_frame_rate": "30/1"}
    given = [
        video | stream if stream.get("codec_type") != "audio" else stream for stream in streams
    ]
    return describe("rtmp://x/y", {"streams": given, "format": container})


def test_a_plain_file() -> None:
    source = described({}, {"codec_type": "audio"}, duration="4.0")
    assert (source.width, source.height, source.framerate) == (640, 480, 30)
    assert source.has_audio
    assert not source.paced


def test_what_has_no_duration_paces_itself_unless_it_is_a_file(tmp_path: Path) -> None:
    assert described({}).paced
    file = tmp_path / "raw.h264"
    file.touch()
    streams = {"streams": [{"codec_type": "video", "width": 2, "height": 2}]}
    assert not describe(str(file), streams).paced


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        ({"sample_aspect_ratio": "4:3"}, (853, 480)),
        ({"sample_aspect_ratio": "0:1"}, (640, 480)),
        ({"side_data_list": [{"rotation": -90}]}, (480, 640)),
        ({"side_data_list": [{"rotation": 180}]}, (640, 480)),
    ],
)
def test_the_picture_as_it_is_shown(stream: dict[str, Any], size: tuple[int, int]) -> None:
    source = described(stream)
    assert (source.width, source.height) == size


@pytest.mark.parametrize(
    ("stream", "rate"),
    [
        ({"avg_frame_rate": "30000/1001"}, Fraction(30000, 1001)),
        ({"avg_frame_rate": "0/0", "r_frame_rate": "24/1"}, Fraction(24)),
        ({"avg_frame_rate": "0/0"}, Fraction(25)),
        ({"avg_frame_rate": "90000/1"}, Fraction(120)),
    ],
)
def test_frame_rates(stream: dict[str, Any], rate: Fraction) -> None:
    assert described(stream).framerate == rate


def test_a_picture_on_a_record_sleeve_is_no_video() -> None:
    with pytest.raises(MediaError, match="no video"):
        described({"codec_type": "audio"})
    with pytest.raises(MediaError, match="no video"):
        described({"disposition": {"attached_pic": 1}})


async def test_ffprobe_reads_a_real_file() -> None:
    source = await probe(str(DATA / "fragmented.mp4"))
    assert (source.width, source.height, source.framerate) == (192, 108, 10)
    assert not source.has_audio


async def test_ffprobes_own_words_for_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        await probe(str(tmp_path / "missing.mp4"))


def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MediaError, match="apt-get install ffmpeg"):
        program("ffmpeg")


SOURCE = Source(TEST, 1280, 720, Fraction(25), has_audio=True, paced=False)


def test_default_ladder() -> None:
    assert [(r.name, r.width, r.bitrate) for r in ladder.build(SOURCE)] == [
        ("video-720", 1280, 2_500_000),
        ("video-360", 640, 900_000),
        ("video-180", 320, 300_000),
    ]
    assert ladder.priorities(ladder.build(SOURCE)) == {
        "video-720": 128,
        "video-360": 96,
        "video-180": 64,
    }


def test_nothing_is_made_larger_than_the_source() -> None:
    small = replace(SOURCE, width=640, height=481)
    assert [(r.width, r.height) for r in ladder.build(small)] == [
        (638, 480),
        (480, 360),
        (240, 180),
    ]
    tiny = replace(SOURCE, width=160, height=120)
    assert [r.height for r in ladder.build(tiny)] == [120]


def test_heights_and_bitrates_as_asked() -> None:
    renditions = ladder.build(SOURCE, [180, 1080], [200_000, 6_000_000])
    assert [(r.name, r.bitrate) for r in renditions] == [
        ("video-1080", 6_000_000),
        ("video-180", 200_000),
    ]
    assert [r.height for r in ladder.build(SOURCE, bitrates=[2_000_000, 500_000])] == [720, 360]


@pytest.mark.parametrize(
    ("heights", "bitrates"),
    [([720], [1, 2]), ([0], []), ([721], []), ([360, 360], []), ([], [1] * 9)],
)
def test_ladders_that_do_not_stand(heights: list[int], bitrates: list[int]) -> None:
    with pytest.raises(MediaError):
        ladder.build(SOURCE, heights, bitrates)


def test_bitrates_as_people_write_them() -> None:
    assert [ladder.parse_bitrate(text) for text in ("900k", "2.5M", "64000")] == [
        900_000,
        2_500_000,
        64_000,
    ]
    for bad in ("", "k", "-1", "0", "fast", "inf", "nan"):
        with pytest.raises(ValueError, match="bit rate"):
            ladder.parse_bitrate(bad)


def test_command_for_the_test_picture(tmp_path: Path) -> None:
    line = command(encoding(216, 108), tmp_path, 3)
    assert line.count("-re") == 2
    assert line.count("libx264") == 2
    assert "aac" in line
    assert "drawtext=textfile=/proc/self/fd/3:" in line[line.index("-filter_complex") + 1]
    assert [part for part in line if part.startswith(str(tmp_path))] == [
        str(tmp_path / name) for name in ("video-216", "video-108", "audio")
    ]


@pytest.mark.parametrize("knows", [True, False])
def test_no_frame_is_read_before_its_time(
    knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Media time is Unix time: who reads ahead publishes what has not been yet."""
    ffmpeg = tmp_path / "ffmpeg"
    option = "-readrate_initial_burst seconds  The initial amount of input to burst read"
    ffmpeg.write_text(f"#!/bin/sh\necho '{option if knows else '-readrate speed'}'\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    line = command(encoding(108), tmp_path, 3)
    inputs = [index for index, part in enumerate(line) if part == "-re"]
    assert len(inputs) == 2
    for index in inputs:
        assert (line[index + 1] == "-readrate_initial_burst") is knows
        # 0 would be taken for half a second.
        assert not knows or 0 < float(line[index + 2]) < 0.01


def test_command_for_a_loop_without_sound(tmp_path: Path) -> None:
    source = replace(SOURCE, url="film.mkv", has_audio=False)
    silent = replace(
        encoding(108, audio=False), source=source, loop=True, clock=False, duration=4.0
    )
    line = command(silent, tmp_path, 3)
    assert line[line.index("-stream_loop") + 1] == "-1"
    assert line[line.index("-t") + 1] == "4.000"
    assert "aac" not in line
    assert "drawtext" not in line[line.index("-filter_complex") + 1]


def test_what_paces_itself_is_not_slowed_down(tmp_path: Path) -> None:
    source = replace(SOURCE, url="/dev/video0", paced=True, input_format="v4l2")
    line = command(replace(encoding(108), source=source), tmp_path, 3)
    assert "-re" not in line
    assert line[line.index("-i") - 1] == "v4l2"


def test_the_clock_counts_from_the_origin() -> None:
    text = clock_text(1_795_231_268_051)
    assert "%{pts:flt:1795231268.051}" in text
    assert "gmtime:1795231268:" in text


async def test_ffmpegs_last_words_when_it_gives_up(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no film")
    source = replace(SOURCE, url=str(broken))
    with pytest.raises(MediaError, match=r"ffmpeg gave up(.|\n)*Invalid data"):
        async with Encoder(replace(encoding(108), source=source), print, print):
            pass


async def test_who_is_killed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it runs, there are no files of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    items: list[str] = []
    came = asyncio.Event()

    def take(name: str, _item: object) -> None:
        items.append(name)
        came.set()

    silent = replace(SOURCE, has_audio=False)
    async with Encoder(replace(encoding(108, audio=False), source=silent), print, take):
        assert os.listdir(tmp_path) == []
        await came.wait()
    assert set(items) == {"video-108"}


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """An input that never comes: ffmpeg waits for a writer of the pipe."""
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    source = replace(SOURCE, url=str(pipe))
    encoder = Encoder(replace(encoding(108), source=source), print, print)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), encoder:
            pass
