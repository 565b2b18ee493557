"""The relay's side of the maps on a real kernel: nobody's user, no capability, another CPU."""

from __future__ import annotations

import os
import pickle
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bpf.harness import Datapath
from fastrelay.fastpath import layout, syscalls
from fastrelay.fastpath.atomics import fetch_add, fetch_or
from fastrelay.fastpath.forwarder import HEARTBEAT, open_forwarder
from fastrelay.fastpath.layout import Switch
from fastrelay.fastpath.maps import InUseError, MapsError, open_maps
from fastrelay.quic.ledger import Ledger

NOBODY = 65534
ROUNDS = 50_000
SEQUENCE = 5


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load(Path(__file__).with_name("sharing.c"))


@pytest.fixture
def pins(datapath: Datapath) -> Iterator[Path]:
    """The maps as the agent pins them: nobody's, in a directory that everybody may enter."""
    datapath.clear()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o711)
        subprocess.run(["mount", "-t", "bpf", "-o", "mode=711", "bpf", root], check=True)
        try:
            directory = root / "maps"
            directory.mkdir(mode=0o755)
            for each in layout.MAPS:
                if each.relay:
                    syscalls.pin(datapath.descriptor(each.name), directory / each.name)
                    os.chmod(directory / each.name, 0o600)
                    os.chown(directory / each.name, NOBODY, NOBODY)
            yield directory
        finally:
            subprocess.run(["umount", root], check=True)


class Unprivileged:
    """A child that gives up everything, then calls; :meth:`result` is what it returned."""

    def __init__(self, call: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(reader)
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                os.sched_setaffinity(0, {max(range(os.cpu_count() or 1))})
                outcome = (_capabilities(), call())
            except BaseException as error:
                outcome = (0, error)
            with os.fdopen(writer, "wb") as file:
                pickle.dump(outcome, file)
            os._exit(0)
        os.close(writer)
        self._reader = os.fdopen(reader, "rb")

    def result(self) -> Any:
        with self._reader as file:
            capabilities, found = pickle.load(file)
        os.waitpid(self._pid, 0)
        assert capabilities == 0
        if isinstance(found, BaseException):
            raise found
        return found


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("CapEff:")[1].split()[0], 16)


def test_counter_claims_and_ring_are_shared_with_a_program(datapath: Datapath, pins: Path) -> None:
    datapath.view("slots")[SEQUENCE]["claims"] = SEQUENCE << 32

    def share() -> tuple[list[int], list[int], Any]:
        maps = open_maps(pins)
        number = 8 * (3 * maps.connections.stride + maps.connections.word("packet_number"))
        claims = 8 * (SEQUENCE * maps.slots.stride + maps.slots.word("claims"))
        mine, won, read = [], [], []
        until = time.monotonic() + 60
        while sum(map(len, read)) < ROUNDS and time.monotonic() < until:
            for _ in range(50):
                taken = fetch_add(maps.connections.address + number, 1)
                mine.append(taken)
                position, bit = taken % layout.ARRAY_MEMBERS, 1 << taken % 32
                if not fetch_or(maps.slots.address + claims + 8 * (position // 32), bit) & bit:
                    won.append(position)
            read.append(maps.reports.read())
        maps.shared.rows[0]["heartbeat"] = 1
        return mine, won, np.concatenate(read)

    child = Unprivileged(share)
    while not datapath.view("shared")[0]["heartbeat"]:
        datapath.run("sharing", bytes(64), repeat=100)
    mine, won, read = child.result()
    assert len(read) >= ROUNDS
    # The harness goes on where the child has stopped.
    reports = np.concatenate([read, datapath.reports()])
    kernels = reports["packet_number"].tolist()
    assert kernels == sorted(kernels)
    assert sorted(mine + kernels) == list(range(len(mine) + len(kernels)))
    theirs = reports["position"][reports["outcome"] == 0].tolist()
    assert sorted(won + theirs) == list(range(layout.ARRAY_MEMBERS))


def test_all_that_the_relay_does_needs_no_privilege(pins: Path) -> None:
    def use() -> list[Any]:
        maps = open_maps(pins)
        put = maps.routes.put(9, 1, 7)
        found = [put, maps.routes.find(9, 1), maps.routes.pairs(), maps.routes.remove(9, 1)]
        maps.shared.rows[0]["heartbeat"] = 99
        return [*found, len(maps.counters.read()), maps.replaced()]

    found = Unprivileged(use).result()
    assert found == [True, 7, [(9, 1, 7)], True, layout.COUNTERS, False]


def test_one_process_at_a_time(pins: Path) -> None:
    maps = open_maps(pins)
    with pytest.raises(InUseError, match="another relay or the agent"):
        Unprivileged(lambda: open_maps(pins)).result()
    maps.close()
    Unprivileged(lambda: bool(open_maps(pins))).result()
    # The lock went with that process.
    open_maps(pins).close()


def test_what_is_wrong_is_said(pins: Path) -> None:
    (pins / "routes").chmod(0o600)
    os.chown(pins / "routes", 0, 0)
    with pytest.raises(MapsError, match="routes: not permitted for user 65534"):
        Unprivileged(lambda: open_maps(pins)).result()
    (pins / "routes").unlink()
    with pytest.raises(MapsError, match=r"routes: there are no maps: is the agent running"):
        open_maps(pins)
    other = syscalls.create_map(layout.MapKind.ARRAY, 4, 8, 16, name="other")
    syscalls.pin(other, pins / "routes")
    os.close(other)
    with pytest.raises(MapsError, match="another version of the agent"):
        open_maps(pins)
    with pytest.raises(MapsError, match="is the agent running"):
        open_maps(pins / "nothing")


def test_maps_of_another_layout_are_refused(datapath: Datapath, pins: Path) -> None:
    datapath.view("shared")[0]["layout"] += 1
    with pytest.raises(MapsError, match="another version of the agent"):
        open_maps(pins)


def test_maps_that_were_taken_away_are_noticed(pins: Path) -> None:
    maps = open_maps(pins)
    assert not maps.replaced()
    pins.rename(pins.with_name("old"))
    assert maps.replaced()
    pins.mkdir()
    assert maps.replaced()
    maps.close()


def test_maps_are_used_only_while_the_programs_are_attached(datapath: Datapath, pins: Path) -> None:
    shared = datapath.view("shared")[0]
    with pytest.raises(MapsError, match="has not attached the programs"):
        open_forwarder(pins, Ledger())
    assert not shared["enabled"]
    shared["attached"] = Switch.ON
    forwarder = open_forwarder(pins, Ledger())
    now = time.monotonic()
    forwarder.drain(now)
    assert forwarder.enabled
    assert shared["enabled"]
    shared["attached"] = Switch.OFF
    forwarder.drain(now + HEARTBEAT)
    assert forwarder.reason == "the agent has not attached the programs to the pod's interface"
    assert not shared["enabled"]
    forwarder.close()
    # Somebody was here: the agent has something to erase.
    assert shared["owner"]
    assert not shared["heartbeat"]
