"""How a bench ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BENCH = """
import argparse, sys, time
from bench.command import run_as_command

def run(wanted, console):
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("tidying up", flush=True)
        sys.stdin.readline()
        print("tidied up", flush=True)

sys.exit(run_as_command(argparse.Namespace, run))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_tidies_up(number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", BENCH]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as bench:
        assert bench.stdin
        assert bench.stdout
        assert bench.stdout.readline() == "ready\n"
        bench.send_signal(number)
        assert bench.stdout.readline() == "tidying up\n"
        bench.send_signal(signal.SIGTERM)
        assert bench.communicate("\n")[0] == "tidied up\ninterrupted\n"
        assert bench.returncode == 130
