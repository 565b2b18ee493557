"""What Tab offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastrelay.cli import app
from fastrelay.local import state
from fastrelay.local.state import Pod, State, Store


def offered(shell: str, line: str) -> list[str]:
    """For the last word of the command line."""
    words = line.split(" ")
    variables = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }[shell]
    result = CliRunner().invoke(
        app,
        [],
        prog_name="fastrelay",
        env={"_FASTRELAY_COMPLETE": f"complete_{shell}", **variables},
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output.split()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is up on this machine."""
    monkeypatch.setattr(state, "Store", lambda: Store(tmp_path))
    for name, pods in (("local", ["relay", "viewer-1", "viewer-2"]), ("other", ["relay"])):
        Store(tmp_path).save(State(name, pods={pod: Pod("n", "", "") for pod in pods}))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fastrelay re", ["relay"]),
        ("fastrelay relay --dr", ["--drafts"]),
        ("fastrelay relay --log-format ", ["console", "json"]),
        ("fastrelay explain s", ["spec"]),
        ("fastrelay explain spec.lis", ["spec.listen"]),
        ("fastrelay explain spec.cache.maxS", ["spec.cache.maxSize"]),
        ("fastrelay explain spec.nothing.", []),
        ("fastrelay local down o", ["other"]),
        ("fastrelay status ", ["local", "other"]),
        ("fastrelay local exec viewer", ["viewer-1", "viewer-2"]),
        ("fastrelay local exec --name other ", ["relay"]),
        ("fastrelay validate --file ", []),
    ],
)
@pytest.mark.usefixtures("running")
def test_bash(line: str, expected: list[str]) -> None:
    assert offered("bash", line) == expected


@pytest.mark.usefixtures("running")
def test_zsh() -> None:
    text = " ".join(offered("zsh", "fastrelay local down "))
    assert "local" in text
    assert "other" in text


def test_a_shell_takes_the_script() -> None:
    """As ``--install-completion`` would have it read; files are left to the shell."""
    script = (
        'eval "$(fastrelay --show-completion bash)"\n'
        "COMP_WORDS=(fastrelay rel) COMP_CWORD=1\n"
        '_fastrelay_completion fastrelay; echo "${COMPREPLY[@]}"\n'
        "complete -p fastrelay\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0] == "relay"
    assert "-o default" in done.stdout
