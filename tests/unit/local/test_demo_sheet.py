import subprocess

import pytest

from fastrelay.local.demo import sheet
from fastrelay.local.demo.checks import Entry, Place
from fastrelay.local.demo.sheet import Recording


def frames(count, begin=100.0, first_object=0):
    return [Entry(Place("v", 7, first_object + i), "", begin + i / 25, None) for i in range(count)]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    path = tmp_path_factory.mktemp("movie") / "a.mp4"
    source = "testsrc2=s=64x36:r=25:d=0.4"
    subprocess.run([*sheet.FFMPEG, "-f", "lavfi", "-i", source, str(path)], check=True)
    return path


def test_a_recording_begins_with_a_key_frame_and_is_in_order():
    received = [
        Entry(Place("v", g, o), "", None, None) for g, o in ((6, 8), (7, 1), (7, 0), (7, 1))
    ]
    assert [e.place[1:] for e in sheet.playable(received)] == [(7, 0), (7, 1)]


def test_moments_lie_evenly_inside():
    assert sheet.moments(0, 10) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize(
    ("moment", "index"), [(99.0, None), (100.0, 0), (100.05, 1), (100.4, 9), (101.0, None)]
)
def test_the_frame_on_the_screen(moment, index):
    assert sheet.frame_at(frames(10), moment) == index


def test_decoding_finds_every_frame(movie, tmp_path):
    recording = Recording("one", movie, frames(10))
    assert sheet.decode(recording, tmp_path / "one", [100.0, 100.2, 300.0]) == []
    assert len(recording.pictures) == 10
    assert sorted(p.name for p in (tmp_path / "one").glob("[0-9].png")) == ["0.png", "1.png"]


def test_another_number_of_pictures_is_a_fault(movie, tmp_path):
    assert sheet.decode(Recording("one", movie, frames(12)), tmp_path, []) == [
        "10 pictures decoded of 12 frames"
    ]


def test_a_damaged_recording_is_a_fault(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    faults = sheet.decode(Recording("one", tmp_path / "bad.mp4", frames(2)), tmp_path / "x", [])
    assert "does not decode" in faults[0]


def test_pictures_are_compared_between_viewers():
    first = Recording("", None, [], {Place("v", 1, 0): "a", Place("v", 1, 1): "b"})
    second = Recording("", None, [], {Place("v", 1, 0): "a", Place("v", 1, 1): "c"})
    assert sheet.unequal_pictures([first, second]) == [Place("v", 1, 1)]


def test_the_sheet_has_a_row_for_each_and_a_column_for_each_moment(movie, tmp_path):
    recording = Recording("viewer-1\nsomebody's: 50%", movie, frames(10))
    columns = [100.0, 100.2, 300.0]
    cells = tmp_path / "cells"
    sheet.decode(recording, cells, columns)
    target = tmp_path / "it's: a sheet.png"
    sheet.compose([recording, recording], [cells, cells], columns, 100.0, target)
    header = target.read_bytes()[:24]
    assert int.from_bytes(header[16:20]) == 4 * sheet.CELL_WIDTH
    assert int.from_bytes(header[20:24]) == 2 * sheet.CELL_HEIGHT
    assert not (tmp_path / ".sheet").exists()
