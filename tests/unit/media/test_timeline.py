"""Media time and group ids: one base for all tracks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from fastrelay.catalog import Kind
from fastrelay.media.flv import FlvFrame
from fastrelay.media.timeline import AudioClock, Placed, Timeline

ORIGIN = 1_795_231_268_518


def video_frames(framerate: Fraction, gop: int, count: int, first: int = 0) -> list[FlvFrame]:
    """As FLV gives them: times rounded to milliseconds."""
    return [
        FlvFrame(Kind.VIDEO, round(1000 * n / framerate), (n - first) % gop == 0, b"x")
        for n in range(first, first + count)
    ]


def audio_frame(milliseconds: int) -> FlvFrame:
    return FlvFrame(Kind.AUDIO, milliseconds, True, b"a")


def placed(timeline: Timeline, frame: FlvFrame) -> Placed:
    result = timeline.video(frame)
    assert result is not None
    return result


@pytest.mark.parametrize("rate", ["24", "25", "30000/1001", "60"])
def test_frames_follow_each_other_without_gap(rate: str) -> None:
    framerate = Fraction(rate)
    gop = round(framerate)
    timeline = Timeline(ORIGIN, framerate, gop)
    all_placed = [placed(timeline, frame) for frame in video_frames(framerate, gop, 5 * gop)]
    first = all_placed[0].sample
    assert first.time == ORIGIN * 90
    for n, (before, after) in enumerate(pairwise(all_placed), 1):
        assert after.sample.time == before.sample.time + before.sample.duration
        assert after.sample.time - first.time == round(n * 90_000 / framerate)
    assert [p.group for p in all_placed[::gop]] == [ORIGIN // 1000 + n for n in range(5)]
    assert [n for n, p in enumerate(all_placed) if p.last] == list(range(gop - 1, 5 * gop, gop))


def test_group_ids_are_the_seconds_in_which_groups_start() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 25)
    for frame in video_frames(Fraction(25), 25, 100):
        result = placed(timeline, frame)
        if frame.key:
            assert result.group == result.sample.time // 90_000


def test_groups_of_other_lengths_count_on() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 50)
    groups = [placed(timeline, frame).group for frame in video_frames(Fraction(25), 50, 150)]
    assert groups[::50] == [ORIGIN // 1000 + n for n in range(3)]


def test_a_restart_uses_larger_ids_even_with_short_groups() -> None:
    first = Timeline(ORIGIN, Fraction(25), 5)
    used = [placed(first, frame).group for frame in video_frames(Fraction(25), 5, 250)]
    again = Timeline(ORIGIN + 10_000, Fraction(25), 5)
    assert placed(again, video_frames(Fraction(25), 5, 1)[0]).group > max(used)


def test_nothing_is_placed_before_the_first_key_frame() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 25)
    late = video_frames(Fraction(25), 25, 30, first=12)
    audio = AudioClock(timeline, 48_000, 1000)
    assert timeline.video(FlvFrame(Kind.VIDEO, 0, False, b"x")) is None
    assert audio.place(audio_frame(1000)) is None
    start = placed(timeline, late[0])
    assert start.sample.time == ORIGIN * 90 + 12 * 3600
    assert timeline.video(FlvFrame(Kind.VIDEO, 0, True, b"x")) is None
    assert [placed(timeline, frame).last for frame in late[1:25]] == [False] * 23 + [True]


def test_audio_is_cut_where_video_is() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 25)
    video = [placed(timeline, frame) for frame in video_frames(Fraction(25), 25, 100)]
    clock = AudioClock(timeline, 48_000, 1000)
    audio = [
        result
        for n in range(-1, 180)
        if (result := clock.place(audio_frame(1000 + round(n * 1024 / 48)))) is not None
    ]
    assert abs(audio[0].sample.time - ORIGIN * 48) < 48  # FLV counts milliseconds
    for before, after in pairwise(audio):
        assert after.sample.time == before.sample.time + 1024
        assert before.last == (after.group != before.group)
    starts = {p.group: Fraction(p.sample.time, 90_000) for p in reversed(video)}
    for result in audio:
        time = Fraction(result.sample.time, 48_000)
        assert starts[result.group] <= time < starts[result.group] + 1


def test_audio_follows_a_jump_but_not_rounding() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 25)
    timeline.video(video_frames(Fraction(25), 25, 1)[0])
    clock = AudioClock(timeline, 48_000, 0)
    times = []
    for milliseconds in (0, 22, 42, 64, 585, 606):
        result = clock.place(audio_frame(milliseconds))
        assert result is not None
        times.append(result.sample.time - ORIGIN * 48)
    assert times == [0, 1024, 2048, 3072, 585 * 48, 585 * 48 + 1024]


def test_an_offset_of_the_presentation_time_is_kept() -> None:
    timeline = Timeline(ORIGIN, Fraction(25), 25)
    result = placed(timeline, FlvFrame(Kind.VIDEO, 0, True, b"x", offset=40))
    assert result.sample.offset == 3600
