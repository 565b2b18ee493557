from pathlib import Path

import pytest

from fastrelay.local.demo import plan


def test_the_five_are_different_and_one_is_late_and_one_leaves():
    cast = plan.viewers(5, Path("/usr/bin/python3"))
    assert {viewer.software for viewer in cast} == {"fastrelay", "aiomoqt", "moqrs"}
    assert {viewer.draft for viewer in cast} == {18, 22}
    assert all(viewer.in_kernel for viewer in cast)
    assert {viewer.webtransport for viewer in cast} == {True, False}
    assert {viewer.ipv6 for viewer in cast} == {True, False}
    assert sum(viewer.joins > 0 for viewer in cast) == 1
    assert sum(viewer.leaves is not None for viewer in cast) == 1
    assert len({viewer.label for viewer in cast}) == 5


def test_a_larger_audience_has_what_the_kernel_leaves_to_user_space():
    drafts = {viewer.draft: viewer.in_kernel for viewer in plan.viewers(8, None)}
    assert drafts == {16: False, 18: True, 22: True}


def test_without_another_python_all_are_our_own():
    assert {viewer.software for viewer in plan.viewers(5, None)} == {"fastrelay"}


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_any_number(count):
    names = [viewer.name for viewer in plan.viewers(count, None)]
    assert names == [f"viewer-{i}" for i in range(1, count + 1)]


def test_a_python_without_the_libraries_is_found_out(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'moq'\" >&2; exit 1\n"
    )
    python.chmod(0o755)
    assert "moq" in plan.third_party_problem(python)
