"""What clsact left where."""

import pytest

from fastrelay.agent.hooks import Direction
from fastrelay.agent.record import Entry, Record, names

FILTER = Entry.of_filter("a", 7, Direction.EGRESS, "")
QDISC = Entry.of_qdisc(7, "/run/netns/pod")


def test_entries_come_and_go_with_the_file(tmp_path):
    record = Record(tmp_path / "records" / "r1.json")
    assert record.entries() == frozenset()
    record.discard(FILTER)
    assert not (tmp_path / "records").exists()
    record.add(FILTER)
    record.add(QDISC, FILTER)
    assert Record(record.path).entries() == {FILTER, QDISC}
    assert names(tmp_path / "records") == ["r1"]
    record.discard(FILTER)
    assert record.entries() == {QDISC}
    record.discard(QDISC)
    assert list((tmp_path / "records").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"role": "a"}]'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "r1.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"r1\.json is damaged"):
        Record(path).entries()
