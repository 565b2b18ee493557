"""Whatever dies when: `down`, or the next `up`, leaves nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastrelay.agent import syscalls
from fastrelay.agent.programs import ObjectKind, ids, program_info
from fastrelay.local import bpffs, netns, processes, topology
from fastrelay.local.hostlink import device_of
from fastrelay.local.state import DEFAULT_DIRECTORY, Store

NAME = f"c{os.getpid()}"
WORKSPACE = DEFAULT_DIRECTORY / NAME
SECONDS = 120.0
MANIFEST = Path(__file__).with_name("quota_at_device.yaml")
"""With a program at a device of the node's too."""


def local(*arguments):
    command = [sys.executable, "-m", "fastrelay.cli", "local", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def up(*, source="none"):
    """Without a source there are neither publisher nor viewers."""
    options = ("--fast-path", "required", "--viewers", "1", "--source", source)
    return local("up", "--name", NAME, "-f", str(MANIFEST), *options)


def finish(process, code=0):
    with process:
        said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == code, said
    return said


def wait_until(look):
    deadline = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def state():
    found = Store().load(NAME)
    assert found is not None
    return found


def loaded():
    """Ids of the programs that are pinned for the relay."""
    found = []
    pins = WORKSPACE / "bpf" / "relay"
    for path in (*pins.glob("programs/*/[ab]"), *pins.glob("device/*")):
        fd = syscalls.get(path)
        found.append(program_info(fd).id)
        os.close(fd)
    return found


@pytest.fixture
def nothing_left():
    """Names what a stack of this name could have left, and fails if it is there at the end."""
    programs = set()
    yield programs
    finish(local("down", NAME))
    assert netns.existing(f"fastrelay-{NAME}-") == []
    assert not WORKSPACE.exists()
    assert str(WORKSPACE) not in Path("/proc/mounts").read_text()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(WORKSPACE) not in entry.read_text(errors="replace")
    # The kernel frees programs a moment after the last reference.
    wait_until(lambda: not programs & set(ids(ObjectKind.PROGRAM)))


MOMENTS = {
    "namespaces": lambda: netns.existing(f"fastrelay-{NAME}-node"),
    "mount": lambda: (WORKSPACE / "bpf").is_mount(),
    "maps": lambda: (WORKSPACE / "bpf" / "relay" / "maps").is_dir(),
    "links": lambda: (WORKSPACE / "bpf" / "relay" / "links" / "a").exists(),
    "relay": lambda: (WORKSPACE / "relay.log").exists(),
    "publisher": lambda: (WORKSPACE / "publisher.log").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_up_is_killed(nothing_left, moment):
    with up(source="test") as process:
        wait_until(MOMENTS[moment])
        process.kill()
    nothing_left |= set(loaded())


def test_the_next_up_clears_what_a_killed_one_left(nothing_left):
    with up() as process:
        wait_until(MOMENTS["links"])
        process.kill()
    before = set(loaded())
    finish(local("down", NAME))
    finish(up())
    assert not before & set(loaded())
    nothing_left |= before | set(loaded())


@pytest.mark.parametrize("victims", [("node",), ("relay",), ("node", "relay", "publisher")])
def test_processes_are_killed(nothing_left, victims):
    finish(up(source="test" if "publisher" in victims else "none"))
    nothing_left |= set(loaded())
    stack = state()
    places = {**stack.pods, topology.NODE: stack.node}
    for victim in victims:
        os.kill(places[victim].process.pid, signal.SIGKILL)
    assert device_of(stack.network) in netns.netlink(
        netns.OWN, lambda ipr: [link.get("ifname") for link in ipr.get_links()]
    )


def test_the_agent_is_killed_and_started_again(nothing_left):
    """Nothing is detached meanwhile, and nothing is attached twice."""
    finish(up())
    nothing_left |= set(loaded())
    stack = state()
    agent = stack.node.process
    command = stack.node.command
    report = WORKSPACE / "node" / "reports" / "relay.json"
    before = report.read_text()
    os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: not processes.is_running(agent))
    links = sorted(path.name for path in (WORKSPACE / "bpf" / "relay" / "links").iterdir())
    assert links == ["a", "b", "device"]
    report.unlink()
    with topology.run(Store(), stack, topology.NODE, command, Path(stack.node.log)) as again:
        try:
            # It asks the relay anew.
            wait_until(lambda: report.exists() and report.read_text() == before)
        finally:
            again.terminate()
        assert again.wait(60) == 0


def test_a_mount_that_nobody_remembers_is_removed(nothing_left):
    bpffs.mount(WORKSPACE / "bpf")
    finish(up())
    nothing_left |= set(loaded())
