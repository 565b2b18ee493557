"""What makes a version of the programs another one; which file is whose."""

import dataclasses
import shutil

import pytest

from fastrelay.agent import clsact, versions


@pytest.fixture
def tools(tmp_path):
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "a.c").write_text("a")
    (tmp_path / "bpf" / "b.h").write_text("b")
    return versions.Toolchain(tmp_path, tmp_path / "bpf")


def test_all_that_goes_into_it_names_a_version(tools, tmp_path):
    seen = {versions.version_of(tools, ["-DX"], {"slots": 1})}
    assert seen == {versions.version_of(tools, ["-DX"], {"slots": 1})}
    seen.add(versions.version_of(tools, ["-DY"], {"slots": 1}))
    seen.add(versions.version_of(tools, ["-DX"], {"slots": 2}))
    other = dataclasses.replace(tools, protocol="other.h")
    seen.add(versions.version_of(other, ["-DX"], {"slots": 1}))
    (tmp_path / "bpf" / "b.h").write_text("c")
    seen.add(versions.version_of(dataclasses.replace(tools), ["-DX"], {"slots": 1}))
    shutil.move(tmp_path / "bpf" / "b.h", tmp_path / "bpf" / "c.h")
    seen.add(versions.version_of(dataclasses.replace(tools), ["-DX"], {"slots": 1}))
    assert len(seen) == 6
    # bpffs takes no dots, and the eye no long names.
    assert all(name.isalnum() and len(name) == 16 for name in seen)


def test_sources_are_read_once(tools, tmp_path):
    """Of a hundred relays, each looked at every two seconds."""
    before = versions.version_of(tools, (), {})
    shutil.rmtree(tmp_path / "bpf")
    assert versions.version_of(tools, (), {}) == before


def test_the_sources_are_there():
    for entry in versions.ENTRIES.values():
        assert (versions.SOURCES / f"{entry}.c").is_file()
    assert (versions.SOURCES / "layout.h").is_file()


@pytest.mark.parametrize(
    ("taken", "priority"),
    [(set(), 100), ({49152}, 100), ({50, 60}, 49), ({2}, 1), ({1}, 2), ({1, 2, 4}, 3)],
)
def test_a_free_priority_ahead_of_others_where_there_is_room(taken, priority):
    assert clsact._free_priority(taken) == priority
