"""The relay's side of the maps on a real kernel: nobody's user, no capability, another CPU."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf.harness import Datapath
from fastrelay.agent import syscalls
from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import fetch_add, fetch_or
from fastrelay.fastpath.forwarder import DETACHED, HEARTBEAT, Forwarder
from fastrelay.fastpath.layout import Switch
from fastrelay.fastpath.maps import Maps, MapsError, maps_of
from fastrelay.quic.ledger import Ledger

NOBODY = 65534
ROUNDS = 50_000
SEQUENCE = 5


@pytest.fixture(scope="module", autouse=True)
def program(datapath: Datapath) -> None:
    datapath.load(Path(__file__).with_name("sharing.c"))


@pytest.fixture
def cleared(datapath: Datapath) -> Datapath:
    """A relay's maps, with nothing in them."""
    datapath.clear()
    return datapath


def opened(datapath: Datapath, **others: int) -> Maps:
    """As the relay has them: by descriptors that somebody gave it."""
    found = {
        each.name: os.dup(others.get(each.name, datapath.descriptor(each.name)))
        for each in layout.MAPS
        if each.relay
    }
    return maps_of(found)


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


def test_counter_claims_and_ring_are_shared_with_a_program(cleared: Datapath) -> None:
    datapath = cleared
    datapath.view("slots")[SEQUENCE]["claims"] = SEQUENCE << 32

    def share() -> tuple[list[int], list[int], Any]:
        maps = opened(datapath)
        number = 8 * (3 * maps.connections.stride + maps.connections.word("packet_number"))
        claims = 8 * (SEQUENCE * maps.slots.stride + maps.slots.word("claims"))
        mine, won, read = [], [], []
        until = time.monotonic() + 60
        while sum(map(maps.reports.count, read)) < ROUNDS and time.monotonic() < until:
            for _ in range(50):
                taken = fetch_add(maps.connections.address + number, 1)
                mine.append(taken)
                position, bit = taken % layout.ARRAY_MEMBERS, 1 << taken % 32
                if not fetch_or(maps.slots.address + claims + 8 * (position // 32), bit) & bit:
                    won.append(position)
            read.append(maps.reports.read())
        maps.shared.rows[0]["heartbeat"] = 1
        return mine, won, list(maps.reports.each(b"".join(read)))

    child = Unprivileged(share)
    while not datapath.view("shared")[0]["heartbeat"]:
        datapath.run("sharing", bytes(64), repeat=100)
    mine, won, read = child.result()
    assert len(read) >= ROUNDS
    # The harness goes on where the child has stopped.
    read += (each.item() for each in datapath.reports())
    kernels = [number for number, *_ in read]
    assert kernels == sorted(kernels)
    assert sorted(mine + kernels) == list(range(len(mine) + len(kernels)))
    theirs = [position for _, _, _, position, _, _, outcome, *_ in read if outcome == 0]
    assert sorted(won + theirs) == list(range(layout.ARRAY_MEMBERS))


def test_all_that_the_relay_does_needs_no_privilege(cleared: Datapath) -> None:
    def use() -> list[Any]:
        maps = opened(cleared)
        put = maps.routes.put(9, 1, 7)
        found = [put, maps.routes.find(9, 1), maps.routes.pairs(), maps.routes.remove(9, 1)]
        maps.shared.rows[0]["heartbeat"] = 99
        return [*found, len(maps.counters.read())]

    found = Unprivileged(use).result()
    assert found == [True, 7, [(9, 1, 7)], True, layout.COUNTERS]


def test_maps_of_another_layout_are_refused(cleared: Datapath) -> None:
    cleared.view("shared")[0]["layout"] += 1
    with pytest.raises(MapsError, match="another version of the agent"):
        opened(cleared)


def test_what_is_wrong_is_said(cleared: Datapath) -> None:
    with pytest.raises(MapsError, match="there is no map shared: run agent and relay of one"):
        maps_of({})
    small = syscalls.create_map(layout.MapKind.ARRAY, 4, 8, 16, flags=syscalls.MMAPABLE)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MapsError, match=r"map tracks: .*run agent and relay of one version"):
        opened(cleared, tracks=small)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(small)


def test_the_lock_goes_with_the_maps(cleared: Datapath) -> None:
    reading, writing = os.pipe()
    found = {each.name: os.dup(cleared.descriptor(each.name)) for each in layout.MAPS if each.relay}
    maps = maps_of(found, writing)
    assert os.fstat(writing)
    maps.close()
    maps.close()
    assert os.read(reading, 1) == b"", "nobody has the other end"
    os.close(reading)


def test_maps_are_used_only_while_the_programs_are_attached(cleared: Datapath) -> None:
    shared = cleared.view("shared")[0]
    maps = opened(cleared)
    assert not maps.attached()
    assert not shared["enabled"]
    shared["attached"] = Switch.ON
    assert maps.attached()
    forwarder = Forwarder(maps, Ledger())
    now = time.monotonic()
    forwarder.drain(now)
    assert forwarder.enabled
    assert shared["enabled"]
    shared["attached"] = Switch.OFF
    forwarder.drain(now + HEARTBEAT)
    assert forwarder.reason == DETACHED
    assert not shared["enabled"]
    forwarder.close()
    # Somebody was here: the agent has something to erase.
    assert shared["owner"]
