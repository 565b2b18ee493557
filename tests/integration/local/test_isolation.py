"""What a relay's process may do, and what stays of a stack: nothing."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastrelay.agent import syscalls
from fastrelay.local import bpffs, links, netns, topology
from fastrelay.local.hostlink import device_of
from fastrelay.local.state import Store
from fastrelay.local.topology import PodPlan
from fastrelay.local.unprivileged import User

ECHO = str(Path(__file__).with_name("udp_echo.py"))
NAME = f"i{os.getpid()}"
UID = 65534


def run_as_nobody(code, *sees, python=sys.executable):
    user = User(UID, tuple(sees))
    command = user.command([python, "-c", code])
    command[0] = str(python)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_no_right_is_left():
    done = run_as_nobody("print(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert status["Uid"] == status["Gid"] == "\t".join([str(UID)] * 4)
    assert status["Groups"].strip() == ""
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    sets = [value for name, value in status.items() if name.startswith("Cap")]
    assert [int(each, 16) for each in sets] == [0] * 5


def test_bpf_is_refused():
    """Whatever one asks of it: as root there is no such command, for nobody there is no call."""
    code = "from fastrelay.agent import syscalls\n"
    code += "try: syscalls.call(999, b'', 'nonsense')\nexcept OSError as e: print(e.errno)"
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ours.stdout) == errno.EINVAL
    done = run_as_nobody(code)
    assert int(done.stdout) == errno.EPERM, done.stderr


def test_a_closed_directory_shows_what_is_to_be_seen_and_nothing_else(tmp_path):
    closed = tmp_path / "closed"
    seen = closed / "below" / "seen"
    seen.mkdir(parents=True)
    (seen / "file").write_text("words")
    (closed / "secret").write_text("words")
    closed.chmod(0o700)
    look = f"from pathlib import Path; print(Path({str(seen)!r}, 'file').read_text());"
    look += f"print(sorted(p.name for p in Path({str(closed)!r}).iterdir()))"
    assert run_as_nobody(look).stdout == ""
    done = run_as_nobody(look, seen)
    assert done.stdout == "words\n['below']\n", done.stderr


def test_python_itself_may_lie_in_a_closed_directory(tmp_path):
    """As in root's home."""
    venv = tmp_path / "closed" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python*/site-packages"))
    here = Path(topology.__file__).parents[2]
    ours = [path for path in sys.path if "site-packages" in path]
    (packages / "all.pth").write_text("\n".join([str(here), *ours]) + "\n")
    (tmp_path / "closed").chmod(0o700)
    code = "import os, sys, fastrelay.moqt.session; print(os.getuid(), sys.prefix)"
    done = run_as_nobody(code, python=venv / "bin" / "python")
    assert done.stdout == f"{UID} {venv}\n", done.stderr


def test_pins_go_with_their_file_system(tmp_path):
    directory = tmp_path / "bpf"
    bpffs.mount(directory)
    try:
        fd = syscalls.create_map(2, 4, 8, 1)
        (directory / "below").mkdir()
        syscalls.pin(fd, directory / "below" / "map")
        os.close(fd)
        assert syscalls.map_info(syscalls.get(directory / "below" / "map")).entries == 1
    finally:
        bpffs.unmount(directory)
    assert list(directory.iterdir()) == []
    assert not directory.is_mount()
    bpffs.unmount(directory)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "run")
    yield store
    for name in (NAME, f"{NAME}b"):
        topology.down(store, name, grace=0.5)
        assert netns.existing(f"fastrelay-{name}-") == []


def answers(store, state, address, tmp_path):
    """Whether the relay's pod is reached from our own namespace."""
    log = tmp_path / f"{state.name}.log"
    server = [sys.executable, ECHO, "server", address]
    client = [sys.executable, ECHO, "client", address, "3"]
    with topology.run(store, state, "relay", server, log) as process:
        wait_for(log, "bound")
        done = subprocess.run(client, capture_output=True, text=True, check=True)
        process.kill()
    log.unlink()
    return len(done.stdout.splitlines()) == 3


def wait_for(log, word):
    deadline = time.monotonic() + 60
    while word not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{word!r} never came"
        time.sleep(0.01)


def devices():
    """Their indexes, by name."""
    found = netns.netlink(netns.OWN, lambda ipr: list(ipr.get_links()))
    return {each.get("ifname"): each["index"] for each in found}


def test_two_stacks_are_reached_at_addresses_of_their_own(store, tmp_path):
    states = [
        topology.up(store, name, [PodPlan("relay")], reachable=True) for name in (NAME, f"{NAME}b")
    ]
    assert len({state.network for state in states}) == 2
    for state in states:
        assert answers(store, state, state.pods["relay"].ipv4, tmp_path)
        assert answers(store, state, state.pods["relay"].ipv6, tmp_path)
    for state in states:
        index = devices()[device_of(state.network)]
        topology.down(store, state.name)
        # Its name may be another stack's a moment later.
        assert index not in devices().values()


def test_addresses_that_the_machine_routes_elsewhere_are_left_alone(store):
    first = topology.up(store, NAME, [PodPlan("relay")], reachable=True).network
    topology.down(store, NAME)
    part = links.network4(first).replace(".0.0/16", ".7.0/24")
    subprocess.run(["ip", "route", "add", "blackhole", part], check=True)
    try:
        state = topology.up(store, NAME, [PodPlan("relay")], reachable=True)
    finally:
        subprocess.run(["ip", "route", "del", "blackhole", part], check=True)
    assert state.network != first
