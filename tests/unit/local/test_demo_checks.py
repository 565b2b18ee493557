import json

import pytest

from fastrelay.local.demo.checks import Entry, Place, compare, read_digests


def entry(group, object_id, sha="", track="video", latency=None):
    place = Place(track, group, object_id)
    return Entry(place, sha or f"{group}.{object_id}", None, latency)


SENT = {e.place: e for e in (entry(g, o) for g in (5, 6, 7) for o in range(4))}


def test_the_same_is_good():
    found = compare(SENT, SENT.values(), lossy=False)
    assert found.faults == []
    assert (found.frames, found.groups) == (12, 3)


def test_a_late_and_leaving_viewer_misses_nothing():
    received = [entry(6, o) for o in range(4)] + [entry(7, 0)]
    assert compare(SENT, received, lossy=False).faults == []


def test_order_of_arrival_does_not_matter():
    received = [entry(7, 0), *(entry(6, o) for o in range(4))]
    assert compare(SENT, received, lossy=False).faults == []


def test_other_bytes_are_wrong():
    assert compare(SENT, [entry(6, 0, "other")], lossy=False).wrong == [Place("video", 6, 0)]


def test_an_object_the_publisher_never_sent_is_wrong():
    assert compare(SENT, [entry(9, 0)], lossy=False).wrong == [Place("video", 9, 0)]


def test_another_track_of_the_same_place_is_not_the_same():
    assert compare(SENT, [entry(6, 0, track="audio")], lossy=False).wrong


def test_twice_is_once_too_often():
    found = compare(SENT, [entry(6, 0), entry(6, 0)], lossy=False)
    assert found.doubled == [Place("video", 6, 0)]
    assert "came twice" in found.faults[0]


@pytest.mark.parametrize("lossy", [False, True])
def test_gaps_count_but_are_forgiven_on_a_link_that_is_too_narrow(lossy):
    found = compare(SENT, [entry(6, 0), entry(6, 3)], lossy=lossy)
    assert found.missing == [Place("video", 6, 1), Place("video", 6, 2)]
    assert bool(found.faults) is not lossy


def test_nothing_is_a_fault():
    assert compare(SENT, [], lossy=True).faults == ["received nothing"]


def test_latency_is_summed_up():
    found = compare(SENT, [entry(6, o, latency=o / 10) for o in range(4)], lossy=False)
    assert (found.p50, found.p95) == (0.2, 0.3)


def test_digest_files_end_where_their_writer_was_killed(tmp_path):
    line = {"track": "video", "group": 6, "object": 1, "sha256": "ab", "time": 9.5, "latency": 0.1}
    file = tmp_path / "digests.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    assert read_digests(file) == [Entry(Place("video", 6, 1), "ab", 9.5, 0.1)]
    assert read_digests(tmp_path / "none.jsonl") == []
