import os
import signal
import subprocess
import sys

from fastrelay.local import processes
from fastrelay.local.processes import ProcessId

STUBBORN = (
    "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
)
OBEDIENT = "import signal; print('up', flush=True); signal.pause()"


def started(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_process_that_obeys_gets_the_first_signal():
    with started(OBEDIENT) as process:
        processes.end([processes.identify(process.pid)], grace=10)
        assert process.wait() == -signal.SIGTERM


def test_a_process_that_does_not_is_killed():
    with started(STUBBORN) as process:
        processes.end([processes.identify(process.pid)], grace=0.05)
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_only_has_the_id_is_left_alone():
    with started(OBEDIENT) as process:
        us = processes.identify(process.pid)
        processes.end([ProcessId(us.pid, us.started - 1)], grace=0.05)
        assert process.poll() is None
        process.kill()


def test_processes_that_are_gone_are_nothing():
    with started(OBEDIENT) as process:
        known = processes.identify(process.pid)
        process.kill()
    assert not processes.is_running(known)
    assert processes.cpu_seconds(known.pid) is None
    assert processes.resident_bytes(known.pid) is None
    processes.end([known], grace=1)


def test_our_own_figures():
    assert processes.cpu_seconds(os.getpid()) > 0
    assert processes.resident_bytes(os.getpid()) > 1 << 20
