"""A node, a pod, and a bpffs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.bytecode import CACHE
from integration.agent.world import World, new_world


@pytest.fixture(scope="session", autouse=True)
def bpffs() -> None:
    """The file system of pins; mounted if it is not, as it is almost everywhere."""
    if subprocess.run(["mountpoint", "-q", "/sys/fs/bpf"], check=False).returncode:
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path, CACHE) as world:
        yield world
