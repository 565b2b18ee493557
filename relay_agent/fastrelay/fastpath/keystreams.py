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

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD
from fastrelay.fastpath.maps import Maps
from fastrelay.native import keystreams as native


class Keystreams:
    """Those of all connections; an index is that of a row in ``connections``."""

    def __init__(self, maps: Maps) -> None:
        streams, connections = maps.keystreams, maps.connections
        self._maps = native.Maps(connections.address, streams.address)
        self._numbers = streams.rows["number"]
        self._content = np.asarray(streams.words).reshape(layout.KEYSTREAMS, -1)
        self._versions = connections.rows["tx_version"]
        self._next = connections.rows["packet_number"]
        self._is_able = native.is_able()

    def renew(self, index: int) -> None:
        """A connection, which the kernel does not send on, has other keys now."""
        self._versions[index] = secrets.randbits(63) + 1
        if self._is_able:
            native.fill(self._maps, index, int(self._next[index]), KEYSTREAMS_AHEAD)

    def used(self, reports: bytes) -> None:
        """The kernel has sent packets, as the ring says."""
        if self._is_able:
            native.renew(self._maps, reports)

    def wipe(self, index: int) -> None:
        """Erase those of a connection whose keys go."""
        own = slice(index * KEYSTREAMS_AHEAD, (index + 1) * KEYSTREAMS_AHEAD)
        self._numbers[own] = 0
        fence()  # a program that is late sees that first
        self._content[own] = 0
