"""Keystreams as the relay's process makes them ahead."""

from __future__ import annotations

from typing import Any

from bpf.harness import Datapath
from chacha20 import keystream
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD


def row_of(datapath: Datapath, connection: int, number: int) -> Any:
    """Where that of a packet has its place."""
    index = connection * KEYSTREAMS_AHEAD + number % KEYSTREAMS_AHEAD
    return datapath.view("keystreams")[index]


def write(
    datapath: Datapath, connection: int, number: int, keys: tuple[bytes, bytes], version: int
) -> None:
    """A packet's, of this key and IV."""
    row = row_of(datapath, connection, number)
    mac, text = keystream(*keys, number)
    row["mac"] = memoryview(mac).cast("I")
    row["text"] = memoryview(text).cast("I")
    row["version"] = version
    row["number"] = number + 1
