"""The quota on connections: who may open one more (sans-I/O). See docs/quota.md.

Two kinds of facts decide. Connections whose client has shown that its address is its own are
counted, at a time and a second, for the address, its prefix and all together: above that, clients
of that address are refused. First packets alone prove nothing, and anybody can write any address
into one: above their rate they are ignored, which their sender takes for a loss and tries again.

Times are nanoseconds of CLOCK_MONOTONIC, as the programs have them.
"""

from __future__ import annotations

import heapq
import socket
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from fastrelay.relay.rate import Meter, Rate

NEVER = (1 << 64) - 1
ATTEMPTS = 4
"""First packets of one connection: of two datagrams where the client's keys are large ones, and
sent again where one gets lost."""
SHARE = 8
"""A cell's part of all first packets: a flood in the name of one prefix empties two of them, which
leaves most for all others."""
ANSWERS = Rate(100, 100)
"""CONNECTION_REFUSED: to a few it is said, for the rest it is dear."""
_CELLS = 1 << 14
"""For first packets, by a keyed hash of the prefix: however many prefixes somebody makes up, this
takes no more memory. Two cells for each, so that who shares one with a flood has the other."""


class Refusal(Enum):
    """Why a client may not come in. The value is the word for metrics."""

    ADDRESS_CONNECTIONS = "address_connections"
    ADDRESS_RATE = "address_rate"
    PREFIX_CONNECTIONS = "prefix_connections"
    PREFIX_RATE = "prefix_rate"
    TOTAL = "total"
    PREFIX_ATTEMPTS = "prefix_attempts"
    ATTEMPTS = "attempts"

    @property
    def is_proven(self) -> bool:
        """Whether connections are the reason, whose clients have shown their addresses."""
        return self not in (Refusal.PREFIX_ATTEMPTS, Refusal.ATTEMPTS)


@dataclass(frozen=True, slots=True)
class Limit:
    """Of one address or prefix."""

    connections: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class QuotaOptions:
    """``total``: connections, ``attempts``: first packets of all clients a second.

    ``in_kernel``: programs refuse too, where an agent has attached them. ``answer``: refused
    clients are told, at a bounded rate.
    """

    per_address: Limit
    per_prefix: Limit
    total: int
    attempts: Rate
    ipv4_prefix_length: int = 24
    ipv6_prefix_length: int = 64
    exempt: tuple[IPv4Network | IPv6Network, ...] = ()
    in_kernel: bool = True
    answer: bool = True

    @property
    def prefix_attempts(self) -> Rate:
        """First packets of one prefix a second."""
        rate, most = self.per_prefix.rate, self.attempts
        return Rate(
            max(1, min(ATTEMPTS * rate.per_second, most.per_second // SHARE)),
            min(ATTEMPTS * rate.burst, most.burst),
        )


class Subject(NamedTuple):
    """Who an account is for: one address (its whole length), or a prefix.

    ``address``: 16 bytes, what is beyond the prefix 0; IPv4: the first 4.
    """

    address: bytes
    family: int
    """4 or 6."""
    is_prefix: bool
    length: int

    def __str__(self) -> str:
        family = socket.AF_INET if self.family == 4 else socket.AF_INET6
        text = socket.inet_ntop(family, self.address[: 4 if self.family == 4 else 16])
        return f"{text}/{self.length}" if self.is_prefix else text


class Subjects(NamedTuple):
    address: Subject
    prefix: Subject


@dataclass(slots=True)
class Account:
    """What one subject has."""

    connections: int = 0
    opened: Meter = field(default_factory=Meter)

    def is_full(self, limit: Limit) -> bool:
        return self.connections >= limit.connections

    def refused_until(self, limit: Limit) -> int:
        """Until when nobody more comes in; a time that is past: now somebody does."""
        return NEVER if self.is_full(limit) else self.opened.blocked(limit.rate)


Publish = Callable[[Subject, int], None]


def _nobody(_subject: Subject, _until: int) -> None: ...


class Quota:
    """Counts what it is told of; :meth:`judge` says who may come.

    ``publish`` hears of every subject until when it is refused, whenever that changes: a time
    that is past, and it is not.
    """

    def __init__(self, options: QuotaOptions) -> None:
        self.options = options
        self.publish: Publish = _nobody
        self.connections = 0
        self._accounts: dict[Subject, Account] = {}
        self._idle: list[tuple[int, Subject]] = []
        """Accounts without a connection, by when their rate has no memory any more; a heap."""
        self._attempts = Meter()
        self._cells = array("Q", bytes(8 * _CELLS))
        """What :class:`Meter` keeps."""
        self._prefix_attempts = options.prefix_attempts
        self._exempt: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for block in options.exempt:
            self._exempt[block.version].append(
                (int(block.network_address), int(block.broadcast_address))
            )

    def subjects(self, host: str) -> Subjects | None:
        """Whose accounts a connection of this address counts for; None: nobody's, it is exempt.

        :raises OSError: this is no address.
        """
        if ":" in host:
            packed, family = socket.inet_pton(socket.AF_INET6, host.partition("%")[0]), 6
            length = self.options.ipv6_prefix_length
        else:
            packed, family = socket.inet_pton(socket.AF_INET, host), 4
            length = self.options.ipv4_prefix_length
        bits = 8 * len(packed)
        number = int.from_bytes(packed, "big")
        if any(first <= number <= last for first, last in self._exempt[family]):
            return None
        masked = number >> (bits - length) << (bits - length)
        return Subjects(
            Subject(packed.ljust(16, b"\0"), family, False, bits),
            Subject(masked.to_bytes(len(packed), "big").ljust(16, b"\0"), family, True, length),
        )

    def limit(self, subject: Subject) -> Limit:
        return self.options.per_prefix if subject.is_prefix else self.options.per_address

    def judge(self, subjects: Subjects, now: int) -> Refusal | None:
        """Somebody who may be at that address sent a first packet. None: let them come.

        It counts as one attempt.
        """
        return self.over(subjects, now) or self._attempted(subjects.prefix, now)

    def over(self, subjects: Subjects, now: int) -> Refusal | None:
        """Whether a connection from there would be one too many."""
        if self.connections >= self.options.total:
            return Refusal.TOTAL
        for subject in subjects:
            account, limit = self._accounts.get(subject), self.limit(subject)
            if account is not None and account.refused_until(limit) > now:
                return _WHY[subject.is_prefix, account.is_full(limit)]
        return None

    def enter(self, subjects: Subjects, now: int) -> None:
        """There is one more connection, and its client has shown that it is there."""
        self._forget_idle(now)
        self.connections += 1
        for subject in subjects:
            account = self._accounts.setdefault(subject, Account())
            account.connections += 1
            account.opened.charge(self.limit(subject).rate, now)
            self._tell(subject, account)

    def leave(self, subjects: Subjects, now: int) -> None:
        """A connection that entered is gone."""
        self.connections -= 1
        for subject in subjects:
            account = self._accounts[subject]
            account.connections -= 1
            self._tell(subject, account)
            if not account.connections:
                heapq.heappush(self._idle, (account.opened.empty_at, subject))
        self._forget_idle(now)

    def refused(self, now: int) -> dict[Subject, int]:
        """Everybody who may open no more now, and until when."""
        found = {}
        for subject, account in self._accounts.items():
            until = account.refused_until(self.limit(subject))
            if until > now:
                found[subject] = until
        return found

    def accounts(self) -> dict[Subject, int]:
        """Connections of everybody who has one."""
        return {
            subject: account.connections
            for subject, account in self._accounts.items()
            if account.connections
        }

    def _tell(self, subject: Subject, account: Account) -> None:
        self.publish(subject, account.refused_until(self.limit(subject)))

    def _attempted(self, prefix: Subject, now: int) -> Refusal | None:
        number = hash(prefix)  # keyed: of bytes, by a secret of the process
        first = number % _CELLS
        other = (first + 1 + (number >> 32) % (_CELLS - 1)) % _CELLS
        for cell in (first, other):
            meter = Meter(self._cells[cell])
            if meter.take(self._prefix_attempts, now):
                self._cells[cell] = meter.empty_at
                break
        else:
            return Refusal.PREFIX_ATTEMPTS
        return None if self._attempts.take(self.options.attempts, now) else Refusal.ATTEMPTS

    def _forget_idle(self, now: int) -> None:
        while self._idle and self._idle[0][0] <= now:
            _, subject = heapq.heappop(self._idle)
            account = self._accounts.get(subject)
            if account is None or account.connections:
                continue
            if account.opened.empty_at <= now:
                del self._accounts[subject]


_WHY = {
    (False, True): Refusal.ADDRESS_CONNECTIONS,
    (False, False): Refusal.ADDRESS_RATE,
    (True, True): Refusal.PREFIX_CONNECTIONS,
    (True, False): Refusal.PREFIX_RATE,
}
