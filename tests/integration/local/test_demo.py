"""The demo as a person runs it, but shorter."""

import json
import os
import signal
import subprocess
import sys

import pytest

from fastrelay.local import netns
from integration.harness import third_party_python

NAME = f"d{os.getpid()}"


@pytest.fixture
def leftovers():
    """Namespaces of the demo that are still there."""
    yield lambda: netns.existing(f"fastrelay-{NAME}-")
    command = [sys.executable, "-m", "fastrelay.cli", "local", "down", NAME]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def demo(output, *options):
    command = [sys.executable, "-m", "fastrelay.cli", "demo", "--name", NAME]
    return subprocess.Popen(
        [*command, "--output", str(output), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.quiet
def test_five_viewers_see_what_was_published(tmp_path, leftovers):
    output = tmp_path / "demo"
    third_party = third_party_python()
    with demo(output, "--seconds", "8", "--third-party", third_party) as process:
        said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said
    assert "PASSED" in said
    report = json.loads((output / "report.json").read_text())
    assert report["passed"]
    assert len(report["viewers"]) == 5
    assert all(viewer["frames"] > 20 for viewer in report["viewers"].values())
    assert any(viewer["media_packets"] for viewer in report["viewers"].values())
    assert (output / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path, leftovers, number):
    with demo(tmp_path / "demo", "--viewers", "1") as process:
        for line in process.stdout:
            if "viewer-1 joins" in line:
                break
        process.send_signal(number)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number, said
    assert leftovers() == []


def test_what_a_killed_demo_left_is_cleared_by_the_next(tmp_path, leftovers):
    with demo(tmp_path / "demo", "--viewers", "1") as process:
        for line in process.stdout:
            if "viewer-1 joins" in line:
                break
        process.kill()
    assert leftovers()
    with demo(tmp_path / "demo", "--viewers", "1") as process:
        for line in process.stdout:
            if "viewer-1 joins" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=150)[0]
    assert process.returncode == 128 + signal.SIGINT, said
    assert leftovers() == []


def test_a_directory_of_somebody_else_is_not_emptied(tmp_path, leftovers):
    (tmp_path / "thesis.txt").write_text("years of work")
    with demo(tmp_path) as process:
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "has other files in it" in said
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
