import json

import pytest

from fastrelay.local.demo.samples import FrameLog, percentile


def write(path, *entries):
    with path.open("a") as file:
        for entry in entries:
            file.write(json.dumps({"track": "v", **entry}) + "\n")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "digests.jsonl"


def test_lines_are_taken_once_as_the_file_grows(path):
    log = FrameLog(path)
    log.read()
    write(path, {"received": 1.0, "latency": 0.1}, {"received": 1.04, "latency": 0.2})
    log.read()
    log.read()
    assert log.frames == 2
    write(path, {"received": 1.08, "latency": 0.3})
    log.read()
    assert (log.frames, list(log.latencies)) == (3, [0.1, 0.2, 0.3])


def test_half_a_line_waits_for_its_rest(path):
    log = FrameLog(path)
    path.write_text('{"track": "v", "rec')
    log.read()
    assert log.frames == 0
    with path.open("a") as file:
        file.write('eived": 1.0}\n')
    log.read()
    assert log.frames == 1


def test_a_pause_is_a_stall(path):
    log = FrameLog(path)
    write(path, {"received": 1.0}, {"received": 1.4}, {"received": 2.0}, {"received": 2.04})
    log.read()
    assert log.stalls == 1


def test_only_chosen_tracks_count(path):
    log = FrameLog(path, tracks=("v",))
    write(path, {"sent": 1.0}, {"track": "audio", "sent": 1.0})
    log.read()
    assert log.frames == 1


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 3.0)],
)
def test_percentiles(values, part, expected):
    assert percentile(values, part) == expected
