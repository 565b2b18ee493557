"""Keystreams made ahead: what the kernel will encrypt the next packets with.

ChaCha20 is most of what a copy costs in the kernel, where there are no instructions for many
blocks at once. A connection's packet numbers come one after another and its keys are known, so its
keystreams can be made here before there is a packet (bpf/keystream.h). Each number that the kernel
has used makes room for the one :data:`~fastrelay.fastpath.layout.KEYSTREAMS_AHEAD` later. For a
number that has none, as when packets come faster, the program makes it itself.

A keystream is for one number of one version of a connection's keys: none is used twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD
from fastrelay.fastpath.maps import Maps
from fastrelay.native import keystreams as native

_AHEAD = np.uint64(KEYSTREAMS_AHEAD)
_SIZE = np.uint64(layout.KEYSTREAM.size)


class Keystreams:
    """Those of all connections; an index is that of a row in ``connections``."""

    def __init__(self, maps: Maps) -> None:
        streams, connections = maps.keystreams, maps.connections
        self._keystreams_address = streams.address
        self._connections_address = connections.address
        self._words = connections.words
        self._stride = connections.stride
        self._next_word = connections.word("packet_number")
        self._version_word = connections.word("tx_version")
        self._numbers = streams.rows["number"]
        self._content = np.asarray(streams.words).reshape(layout.KEYSTREAMS, -1)
        self._versions = connections.rows["tx_version"]
        self._next = connections.rows["packet_number"]
        self._is_able = native.is_able()
        every = np.arange(layout.CONNECTIONS, dtype=np.uint64)
        self._connections = every * np.uint64(layout.CONNECTION.size) + np.uint64(
            connections.address
        )

    def renew(self, index: int) -> None:
        """A connection, which the kernel does not send on, has other keys now."""
        self._versions[index] = secrets.randbits(63) + 1
        if not self._is_able:
            return
        first = int(self._next[index])
        numbers = np.arange(first, first + KEYSTREAMS_AHEAD, dtype=np.uint64)
        self._make(np.full(KEYSTREAMS_AHEAD, index, np.uint64), numbers)

    def used(self, batches: Sequence[np.ndarray[Any, Any]]) -> None:
        """The kernel has sent these packets (``connection``, ``packet_number``)."""
        if not self._is_able:
            return
        connections = np.concatenate([reports["connection"] for reports in batches])
        numbers = np.concatenate([reports["packet_number"] for reports in batches]) + _AHEAD
        wanted = (numbers >= self._next[connections]) & (self._versions[connections] != 0)
        if not wanted.all():
            connections, numbers = connections[wanted], numbers[wanted]
        self._make(connections, numbers)

    def used_few(self, sent: Iterable[tuple[int, ...]]) -> None:
        """The same, with no array operation: connection and packet number come first."""
        if not self._is_able:
            return
        jobs: list[int] = []
        words, stride, ahead = self._words, self._stride, KEYSTREAMS_AHEAD
        for connection, used, *_ in sent:
            row, number = connection * stride, used + ahead
            if number >= words[row + self._next_word] and words[row + self._version_word]:
                place = connection * ahead + number % ahead
                jobs += (
                    self._connections_address + 8 * row,
                    self._keystreams_address + layout.KEYSTREAM.size * place,
                    number,
                )
        if jobs:
            native.fill_listed(jobs)

    def _make(self, connections: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> None:
        jobs = np.empty(len(numbers), native.JOB)
        jobs["connection"] = self._connections[connections]
        places = connections * _AHEAD + numbers % _AHEAD
        jobs["keystream"] = places * _SIZE + np.uint64(self._keystreams_address)
        jobs["number"] = numbers
        native.fill(jobs)

    def wipe(self, index: int) -> None:
        """Erase those of a connection whose keys go."""
        own = slice(index * KEYSTREAMS_AHEAD, (index + 1) * KEYSTREAMS_AHEAD)
        self._numbers[own] = 0
        fence()  # a program that is late sees that first
        self._content[own] = 0
