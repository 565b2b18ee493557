"""Whose time a CPU's time was.

The kernel charges what softirqs do to whatever process they interrupt, and samples the rest
(``/proc/stat``). Here softirqs are timed, each one (:mod:`bench.softirqs`), and what they took from
the relay's process is subtracted from the scheduler's account of it. So neither what else runs on
the machine, nor who was interrupted, changes the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench import softirqs, tracing
from fastrelay.agent import headers

INTERPRETERS = (sys.executable, "/usr/bin/python3")
"""Debian's python3-bpfcc belongs to the second."""

Counted = Iterable[tuple[int, int, bool, int]]
"""CPU, process, whether it was the network's, nanoseconds; as :mod:`bench.softirqs` says it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, since some beginning."""

    process: float
    """On a CPU as itself: without the softirqs that interrupted it."""
    network: float
    """The network's softirqs on one CPU, whomever they interrupted."""

    def since(self, before: Spent) -> Spent:
        return Spent(self.process - before.process, self.network - before.network)


def divide(counted: Counted, scheduled: float, pid: int, cpu: int) -> Spent:
    """:param scheduled: the scheduler's seconds of the process `pid`.
    :param cpu: the one that the network's work is steered to."""
    stolen = network = 0
    for where, whom, is_network, nanoseconds in counted:
        if whom == pid:
            stolen += nanoseconds
        if where == cpu and is_network:
            network += nanoseconds
    return Spent(scheduled - stolen / 1e9, network / 1e9)


def scheduled_seconds(pid: int) -> float:
    """Time on a CPU of all threads, by the scheduler's own count (nanoseconds)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


class Accounting:
    """Counts for as long as the context lasts.

    :raises RuntimeError: nothing can be counted here; it says why.
    """

    def __enter__(self) -> Accounting:
        with ExitStack() as stack:
            stack.enter_context(tracing.mounted())
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            self._process = self._start(Path(directory))
            self._until_the_end = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._until_the_end.close()

    def spent(self, pid: int, cpu: int) -> Spent:
        """Until now."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        return divide(self._hear(self._process), scheduled_seconds(pid), pid, cpu)

    def _start(self, directory: Path) -> subprocess.Popen[str]:
        source = headers.find(directory)
        environment = dict(os.environ)
        if source is not None:
            environment[headers.VARIABLE] = str(source)
        why = ""
        for interpreter in INTERPRETERS:
            process = subprocess.Popen(
                [interpreter, softirqs.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                bufsize=1,
                env=environment,
            )
            assert process.stdout
            if process.stdout.readline():
                return process
            _, why = process.communicate()
            if process.returncode != softirqs.NO_BCC:
                break
        raise RuntimeError(f"softirqs cannot be counted: {why.strip()}")

    @staticmethod
    def _hear(process: subprocess.Popen[str]) -> Counted:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the count of softirqs has ended")
        counted: list[tuple[int, int, bool, int]] = json.loads(line)
        return counted
