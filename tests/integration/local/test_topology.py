"""Namespaces, links and their shapes on the real kernel."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastrelay.local import netns, processes, topology
from fastrelay.local.shaping import Shape
from fastrelay.local.state import Store
from fastrelay.local.topology import LocalError, PodPlan

ECHO = str(Path(__file__).with_name("udp_echo.py"))
NAME = f"t{os.getpid()}"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "run")
    yield store
    topology.down(store, NAME, grace=0.5)
    assert netns.existing(f"fastrelay-{NAME}-") == []


def up(store, shape=None):
    return topology.up(store, NAME, [PodPlan("relay"), PodPlan("viewer-1", shape or Shape())])


def wait_for(log, word):
    deadline = time.monotonic() + 60
    while word not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{word!r} never came"
        time.sleep(0.01)


def round_trips(store, state, tmp_path, address, count):
    """Milliseconds of each round trip that succeeded, from the viewer to the relay."""
    server_log, client_log = tmp_path / "server.log", tmp_path / "client.log"
    server = [sys.executable, ECHO, "server", address]
    with topology.run(store, state, "relay", server, server_log) as process:
        wait_for(server_log, "bound")
        client = [sys.executable, ECHO, "client", address, str(count)]
        with topology.run(store, state, "viewer-1", client, client_log) as other:
            assert other.wait() == 0
        process.kill()
    return [float(line) for line in client_log.read_text().splitlines()]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_pods_reach_each_other(store, tmp_path, family):
    state = up(store)
    before = topology.device_counters(state)["relay"]
    address = getattr(state.pods["relay"], family)
    assert len(round_trips(store, state, tmp_path, address, 5)) == 5
    after = topology.device_counters(state)["relay"]
    assert after.to_pod_bytes - before.to_pod_bytes >= 5 * 1000


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_delay_counts_in_each_direction(store, tmp_path, family):
    state = up(store, Shape(delay=0.02))
    trips = round_trips(store, state, tmp_path, getattr(state.pods["relay"], family), 8)
    # The quickest says what the links add; a busy machine adds to the others.
    assert 40 <= min(trips) < 80


def test_loss_drops_about_that_many(store, tmp_path):
    state = up(store, Shape(loss=0.3))
    trips = round_trips(store, state, tmp_path, state.pods["relay"].ipv4, 60)
    # 49 % of 60 come back; the bounds are wrong less than once in a million.
    assert 10 <= len(trips) <= 50


def test_rate_limits_a_transfer(store, tmp_path):
    state = up(store, Shape(rate=4e6))
    serve = (
        "import socket; s = socket.create_server(('0.0.0.0', 7000)); print('bound', flush=True); "
    )
    serve += "c, _ = s.accept(); c.sendall(bytes(500_000)); c.close()"
    fetch = f"import socket; c = socket.create_connection(('{state.pods['relay'].ipv4}', 7000)); "
    fetch += "n = 0\nwhile d := c.recv(65536): n += len(d)\nprint(n)"
    log = tmp_path / "serve.log"
    with topology.run(store, state, "relay", [sys.executable, "-c", serve], log) as server:
        wait_for(log, "bound")
        begin = time.monotonic()
        with topology.run(
            store, state, "viewer-1", [sys.executable, "-c", fetch], tmp_path / "fetch.log"
        ) as client:
            assert client.wait() == 0
        took = time.monotonic() - begin
        server.wait()
    assert (tmp_path / "fetch.log").read_text() == "500000\n"
    assert took >= 0.8  # 4 Mbit at 4 Mbit/s, less the first burst


def test_a_name_is_used_once_at_a_time(store, tmp_path):
    state = up(store)
    with topology.run(store, state, "relay", ["sleep", "60"], tmp_path / "log") as process:
        with pytest.raises(LocalError, match="is up already"):
            up(store)
        assert topology.down(store, NAME)
        assert process.wait() == -signal.SIGTERM
    assert not topology.down(store, NAME)


def test_up_clears_what_a_crashed_run_left(store, tmp_path):
    """Nobody remembers anything, but the namespaces and a process in one are still there."""
    state = up(store, Shape(delay=0.01))
    log = tmp_path / "stray.log"
    command = ["sh", "-c", "echo inside; exec sleep 60"]
    stray = processes.start(state.pods["relay"].namespace, command, log)
    wait_for(log, "inside")
    store.forget(NAME)
    up(store)
    assert stray.wait(60) == -signal.SIGTERM


def test_a_crash_of_the_owner_takes_its_processes_along(store, tmp_path):
    up(store)
    code = (
        "import os, signal; from pathlib import Path; from fastrelay.local import processes; "
        f"p = processes.start('fastrelay-{NAME}-relay', ['sleep', '60'], Path('/dev/null'), "
        "dies_with_us=True); print(p.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        child = int(owner.stdout.readline())
        waiting = os.pidfd_open(child)
        owner.kill()
    assert select.select([waiting], [], [], 60)[0]
    os.close(waiting)


def test_what_happens_inside_stays_inside(store):
    state = up(store)
    here = os.stat("/proc/thread-self/ns/net").st_ino
    inside = netns.inside(
        state.pods["relay"].namespace, lambda: os.stat("/proc/thread-self/ns/net").st_ino
    )
    assert inside == netns.inode(state.pods["relay"].namespace)
    assert os.stat("/proc/thread-self/ns/net").st_ino == here
    with pytest.raises(ZeroDivisionError):
        netns.inside(state.pods["relay"].namespace, lambda: 1 // 0)
