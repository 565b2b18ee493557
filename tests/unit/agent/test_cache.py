"""What is kept, and whose files are believed."""

import os

import pytest

from fastrelay.agent import cache
from fastrelay.agent.cache import Cache

NOBODY = 65534
as_root = os.geteuid() == 0


@pytest.fixture
def kept(tmp_path):
    return Cache(tmp_path / "some" / "where")


def test_what_was_put_is_there(kept):
    assert kept.get("a") is None
    kept.put("a", b"one\ntwo")
    kept.put("b", b"")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"one\ntwo", b"", None)
    kept.put("a", b"three")
    assert kept.get("a") == b"three"
    assert sorted(path.name for path in kept.directory.iterdir()) == ["a", "b"]
    assert kept.directory.stat().st_mode & 0o777 == 0o700
    assert (kept.directory / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[:64],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: raw + b"x",
        lambda raw: b"0" * 64 + raw[64:],
    ],
)
def test_what_is_not_whole_is_not_there(kept, damage, caplog):
    kept.put("a", b"content")
    path = kept.directory / "a"
    path.write_bytes(damage(path.read_bytes()))
    assert kept.get("a") is None
    assert "not as it was written" in caplog.text
    kept.put("a", b"content")
    assert kept.get("a") == b"content"


def test_a_file_that_others_may_write_is_not_believed(kept, caplog):
    kept.put("a", b"content")
    (kept.directory / "a").chmod(0o620)
    assert kept.get("a") is None
    assert "others may write it" in caplog.text


def test_a_directory_that_others_may_write_is_not_believed(kept, caplog):
    kept.put("a", b"content")
    kept.directory.chmod(0o1777)
    assert kept.get("a") is None
    kept.put("b", b"content")
    assert not (kept.directory / "b").exists()
    assert "others may write it" in caplog.text


def test_links_and_directories_are_not_followed(kept, tmp_path):
    kept.put("a", b"content")
    (kept.directory / "b").symlink_to("a")
    (kept.directory / "c").mkdir()
    assert (kept.get("b"), kept.get("c")) == (None, None)
    (tmp_path / "link").symlink_to(kept.directory)
    assert Cache(tmp_path / "link").get("a") is None


def test_somebody_elses_files_are_not_believed(kept, monkeypatch, caplog):
    kept.put("a", b"content")
    # As if we were another user, not root, and so neither file nor directory were ours.
    if as_root:
        os.chown(kept.directory / "a", NOBODY, NOBODY)
        assert kept.get("a") is None
        os.chown(kept.directory / "a", 0, 0)
        os.chown(kept.directory, NOBODY, NOBODY)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert kept.get("a") is None
    assert "it belongs to user" in caplog.text


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    kept = Cache(tmp_path / "file" / "below")
    kept.put("a", b"content")
    assert kept.get("a") is None
    assert "nothing is kept there" in caplog.text


def test_a_failure_leaves_no_draft(kept, monkeypatch):
    kept.put("a", b"content")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kept.put("b", b"content")
    assert [path.name for path in kept.directory.iterdir()] == ["a"]


def test_the_oldest_of_too_many_go(kept, monkeypatch):
    monkeypatch.setattr(cache, "FILES", 3)
    for number, key in enumerate("dbca"):
        kept.put(key, key.encode())
        os.utime(kept.directory / key, (number, number))
    kept.put("e", b"e")
    assert sorted(path.name for path in kept.directory.iterdir()) == ["a", "c", "e"]
