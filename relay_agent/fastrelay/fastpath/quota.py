"""What the relay tells the programs of its quota: who is refused, which packets are whose.

The programs count nothing but first packets. They are told who may open no more connections, and
until when; and the connection ids that first packets of known connections have, which always
pass. Both are found by a keyed hash, so that nobody can look for places in the tables. Where a
table is full, user space decides alone: nobody gets more, and nobody else gets less.
"""

from __future__ import annotations

import secrets
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from socket import htons

from fastrelay.fastpath.atomics import fence
from fastrelay.fastpath.layout import (
    MAX_PEER_CONNECTION_ID,
    QUOTA_EXEMPT_BLOCKS,
    QUOTA_ROWS,
    DeviceMode,
    QuotaKind,
    Switch,
)
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.siphash import siphash

_OWNER = 1
_SWEEP_INTERVAL = 1_000_000_000
_HALF = (1 << 64) - 1
_MAPPED = 0xFFFF << 32


@dataclass(frozen=True, slots=True)
class QuotaTerms:
    """What does not change while a relay runs. Rates: interval and tolerance in ns."""

    port: int
    ipv4_prefix_length: int
    ipv6_prefix_length: int
    attempts: tuple[int, int]
    prefix_attempts: tuple[int, int]
    answers: tuple[int, int]
    answer: bool
    exempt: tuple[IPv4Network | IPv6Network, ...] = ()


class QuotaTables:
    """Begins with nobody refused and no connection known, whatever was in the maps."""

    def __init__(self, maps: Maps, terms: QuotaTerms) -> None:
        self._maps = maps
        self._quota = maps.quota.rows[0]
        self._quota["enabled"] = Switch.OFF
        fence()
        maps.quota_refused.clear()
        maps.quota_known.clear()
        maps.quota_meters.rows["empty_at"] = 0
        self._key = (secrets.randbits(64), secrets.randbits(64))
        self._free = deque(range(QUOTA_ROWS))
        self._rows: dict[int, int] = {}
        """Of those that are refused, by their hashes."""
        self._swept = 0
        self._write(terms)
        fence()
        self._quota["enabled"] = Switch.ON

    def close(self) -> None:
        """The programs let everything pass."""
        self._quota["enabled"] = Switch.OFF

    @property
    def device(self) -> DeviceMode:
        """Whether a device of the node refuses too, before the veth."""
        return DeviceMode(int(self._maps.shared.rows[0]["device"]))

    def refuse_all(self, until: int) -> None:
        """``until``: CLOCK_MONOTONIC ns; 0: not any more."""
        self._quota["total_until"] = until

    def refuse(self, address: bytes, family: int, is_prefix: bool, until: int, now: int) -> bool:
        """Until then nobody more comes from there. False: there is no room to say so.

        :param address: 16 bytes, as in :class:`~fastrelay.fastpath.layout.CONNECTION`.
        """
        key = self._subject(address, family, is_prefix)
        row = self._rows.get(key)
        if row is not None:
            self._maps.quota_rows.rows[row]["until"] = until
            return True
        if self._put(key, until):
            return True
        self._sweep(now)
        return self._put(key, until)

    def allow(self, address: bytes, family: int, is_prefix: bool) -> None:
        """They may come again."""
        key = self._subject(address, family, is_prefix)
        if key in self._rows:
            self._remove(key)

    def refused_packets(self, address: bytes, family: int, is_prefix: bool) -> int:
        """First packets that the programs have refused since they were told to."""
        row = self._rows.get(self._subject(address, family, is_prefix))
        return 0 if row is None else int(self._maps.quota_rows.rows[row]["refused"])

    def know(self, connection_id: bytes) -> bool:
        """First packets for this id pass. False: there is no room to say so."""
        key = self._id(connection_id)
        table = self._maps.quota_known
        return table.find(key, _OWNER) is not None or table.put(key, _OWNER, 0)

    def forget(self, connection_id: bytes) -> None:
        self._maps.quota_known.remove(self._id(connection_id), _OWNER)

    def _put(self, key: int, until: int) -> bool:
        if not self._free:
            return False
        row = self._free.popleft()
        self._maps.quota_rows.rows[row] = (until, 0)
        fence()
        if not self._maps.quota_refused.put(key, _OWNER, row):
            self._free.append(row)
            return False
        self._rows[key] = row
        return True

    def _remove(self, key: int) -> None:
        self._maps.quota_refused.remove(key, _OWNER)
        self._free.append(self._rows.pop(key))  # the last to be used: programs may look at it yet

    def _sweep(self, now: int) -> None:
        """Remove those whose time is over."""
        if now < self._swept + _SWEEP_INTERVAL:
            return
        self._swept = now
        until = self._maps.quota_rows.rows["until"]
        for key in [key for key, row in self._rows.items() if until[row] <= now]:
            self._remove(key)

    def _write(self, terms: QuotaTerms) -> None:
        quota = self._quota
        blocks = exempt_blocks(terms.exempt)
        for row, (first, last) in zip(self._maps.quota_exempt.rows, blocks, strict=False):
            row["first"] = first >> 64, first & _HALF
            row["last"] = last >> 64, last & _HALF
        quota["exempt"] = min(len(blocks), QUOTA_EXEMPT_BLOCKS)
        quota["key"] = self._key
        quota["total_until"] = 0
        quota["attempts"] = terms.attempts
        quota["prefix_attempts"] = terms.prefix_attempts
        quota["answers"] = terms.answers
        quota["port"] = htons(terms.port)
        quota["ipv4_prefix_length"] = terms.ipv4_prefix_length
        quota["ipv6_prefix_length"] = terms.ipv6_prefix_length
        quota["answer"] = terms.answer

    def _subject(self, address: bytes, family: int, is_prefix: bool) -> int:
        kind = QuotaKind.PREFIX if is_prefix else QuotaKind.ADDRESS
        return siphash(self._key, (_word(address[:8]), _word(address[8:]), kind << 56 | family))

    def _id(self, connection_id: bytes) -> int:
        padded = connection_id.ljust(MAX_PEER_CONNECTION_ID, b"\0")
        tail = QuotaKind.CONNECTION_ID << 56 | len(connection_id) << 32 | _word(padded[16:])
        return siphash(self._key, (_word(padded[:8]), _word(padded[8:16]), tail))


def exempt_blocks(blocks: Iterable[IPv4Network | IPv6Network]) -> list[tuple[int, int]]:
    """First and last addresses as numbers, IPv4 mapped; disjoint, and rising."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(_numbers(each) for each in blocks):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _numbers(block: IPv4Network | IPv6Network) -> tuple[int, int]:
    mapped = _MAPPED if block.version == 4 else 0
    return mapped | int(block[0]), mapped | int(block[-1])


def _word(content: bytes) -> int:
    return int.from_bytes(content, sys.byteorder)
