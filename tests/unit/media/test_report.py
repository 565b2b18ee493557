"""Latency, stalls, gaps, duplicates, missing groups."""

from __future__ import annotations

import json
from array import array

import pytest
from rich.console import Console

from fastrelay.media.formats import Sample
from fastrelay.media.report import Playout, Report, TrackReport, latency_summary, percentile


def track(kind: str = "video", buffer: float = 0.1) -> TrackReport:
    return TrackReport(kind, Playout(buffer))


def sample(time: int, duration: int = 10) -> Sample:
    return Sample(time, duration, True, b"")


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_percentiles_are_nearest_ranks(share: float, expected: float) -> None:
    assert percentile(array("d", range(1, 101)), share) == expected


def test_summary_in_milliseconds() -> None:
    assert latency_summary(array("d", [0.2, 0.1, 0.3])) == {
        "p50": 200.0,
        "p95": 300.0,
        "p99": 300.0,
        "max": 300.0,
        "mean": 200.0,
    }
    assert latency_summary(array("d")) is None


def test_duplicates_are_counted_once_each_and_not_as_objects() -> None:
    report = track()
    assert report.arrived(7, 0, 100)
    assert report.arrived(7, 1, 100)
    assert not report.arrived(7, 1, 100)
    assert report.arrived(8, 1, 100)
    assert (report.objects, report.bytes, report.duplicates) == (3, 300, 1)


def test_missing_groups_lie_between_the_first_and_the_last() -> None:
    report = track()
    assert report.missing_groups == 0
    for group in (12, 10, 15):
        report.arrived(group, 0, 1)
    assert report.missing_groups == 3


def test_old_groups_are_forgotten_but_stay_counted() -> None:
    report = track()
    for group in range(500):
        report.arrived(group, 0, 1)
    assert report.missing_groups == 0
    assert report.as_json()["groups"] == 500


def test_a_gap_counts_once_however_long_and_rounding_not_at_all() -> None:
    report = track()
    for time in (0, 10, 19, 31, 40, 90, 100):
        report.ordered(sample(time))
    assert report.gaps == 1
    report.ordered(sample(110, duration=0))
    report.ordered(sample(500, duration=0))
    assert report.gaps == 1  # without durations nobody can tell


def test_a_player_stalls_for_what_is_later_than_its_buffer() -> None:
    playout = Playout(buffer=0.1)
    for latency in (0.05, 0.14, 0.15):
        playout.frame(latency)
    assert playout.stalls == 0
    playout.frame(0.25)
    playout.frame(0.25)
    assert (playout.stalls, round(playout.stalled, 6)) == (1, 0.1)
    playout.frame(0.3)
    assert (playout.stalls, round(playout.stalled, 6)) == (2, 0.15)


def filled() -> Report:
    report = Report("live/demo", draft="moqt-18", transport="QUIC", join=0.2, duration=2.0)
    audio, video = track("audio"), track("video")
    report.tracks = {"audio": audio, "video-720": video}
    audio.arrived(1, 0, 500)
    audio.latency(0.05)
    for number in range(4):
        video.arrived(1, number, 1000)
        video.latency(0.01 * (number + 1))
    return report


def test_json_sums_up_and_takes_latency_from_the_video() -> None:
    document = json.loads(json.dumps(filled().as_json()))
    assert (document["frames"], document["bytes"], document["join_ms"]) == (5, 4500, 200.0)
    assert document["latency_ms"]["max"] == 40.0
    assert document["tracks"]["audio"]["latency_ms"]["p50"] == 50.0
    assert document["tracks"]["video-720"]["stalls"] == 0


def test_json_of_nothing() -> None:
    document = Report("live/demo").as_json()
    assert (document["frames"], document["join_ms"], document["latency_ms"]) == (0, None, None)


def test_table_has_a_column_for_each_track() -> None:
    console = Console(width=80, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(filled().heading())
        console.print(filled().table())
    text = captured.get()
    assert "first frame after 200 ms" in text
    for words in ("video-720", "audio", "latency p50, ms", "20.0", "16"):
        assert words in text


def test_a_clock_of_its_own_is_told() -> None:
    report = filled()
    assert "relative" not in report.heading()
    report.unix_time = False
    assert "relative" in report.heading()
    assert report.as_json()["unix_time"] is False


def test_line_names_gaps_only_if_there_are_any() -> None:
    report = filled()
    assert "gaps" not in report.line()
    report.tracks["audio"].gaps = 2
    assert "2 gaps" in report.line()
