"""`fastrelay local`, as a person types it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastrelay.local import netns

NAME = f"l{os.getpid()}"
MANIFEST = """\
apiVersion: fastrelay.io/v1alpha1
kind: MoQRelay
metadata:
  name: mine
spec:
  listen: {port: 5443, drafts: [16]}
  monitoring: {port: 9999}
"""


def local(*arguments, code=0):
    command = [sys.executable, "-m", "fastrelay.cli", "local", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def down():
    yield
    local("down", NAME)
    assert netns.existing(f"fastrelay-{NAME}-") == []


def test_up_status_exec_down(tmp_path, down):
    (tmp_path / "moqrelay.yaml").write_text(MANIFEST)
    manifest = str(tmp_path / "moqrelay.yaml")
    said = local("up", "--name", NAME, "-f", manifest, "--viewers", "1", "--delay", "5ms")
    (state,) = json.loads(local("status", NAME, "--json"))
    assert f"moqt://{state['pods']['relay']['ipv4']}:5443" in said
    assert state["relay"]["fast_path"] == "Attached"
    assert all(pod["running"] for pod in state["pods"].values())

    page = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9999/statusz').read().decode())"
    status = local("exec", "--name", NAME, "relay", "--", sys.executable, "-c", page)
    assert 5443 in json.loads(status)["process"]["listen"]

    recording = Path(state["pods"]["viewer-1"]["log"]).with_name("viewer-1.mp4")
    deadline = time.monotonic() + 120
    while not (recording.exists() and recording.stat().st_size > 100_000):
        assert time.monotonic() < deadline, "nothing was recorded"
        time.sleep(0.05)

    assert "is up already" in local("up", "--name", NAME, code=1)
    assert "there are relay, publisher, viewer-1" in local("exec", "--name", NAME, "x", "y", code=2)
    assert "removed" in local("down", NAME)
    assert "nothing was up" in local("down", NAME)
    assert "nothing is up" in local("status", NAME, code=1)


def test_a_wrong_manifest_leaves_nothing(tmp_path, down):
    (tmp_path / "moqrelay.yaml").write_text(MANIFEST.replace("5443", "0"))
    said = local("up", "--name", NAME, "-f", str(tmp_path / "moqrelay.yaml"), code=65)
    assert "spec.listen.port" in said
    assert netns.existing(f"fastrelay-{NAME}-") == []


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [("--rate", "fast", "3mbit"), ("--loss", "-1", "5%"), ("--name", "a-b", "a letter first")],
)
def test_wrong_options_are_answered_with_an_example(option, value, advice):
    assert advice in local("up", option, value, code=2)
