"""Tells the QUIC endpoint who may come in, by the quota, and keeps count of who is there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.quota import QuotaTables, QuotaTerms
from fastrelay.quic.connection import Connection, plain_address
from fastrelay.quic.door import Verdict
from fastrelay.quic.udp import Address
from fastrelay.relay.quota import ANSWERS, NEVER, Quota, QuotaOptions, Refusal, Subject, Subjects
from fastrelay.relay.rate import Meter, Rate

SHOWN = 100
"""Of the subjects with the most connections, for the status page."""


class Doorkeeper:
    """Implements :class:`fastrelay.quic.door.Door`."""

    def __init__(self, options: QuotaOptions) -> None:
        self.quota = Quota(options)
        self.refusals: Counter[Refusal] = Counter()
        self._options = options
        self._inside: dict[Connection, Subjects | None] = {}
        """Those that count; None: of an exempt address."""
        self._answers = Meter()
        self._ids: dict[Connection, tuple[bytes, ...]] = {}
        self._tables: QuotaTables | None = None
        self._published: set[Subject] = set()
        """Whom the programs refuse."""
        self._now = 0
        self.quota.publish = self._publish

    # -- for the endpoint

    def judge(self, address: Address, now: float) -> Verdict:
        subjects = self._subjects(address)
        refusal = subjects and self.quota.judge(subjects, _ns(now))
        if refusal is None:
            return Verdict.ADMIT
        self.refusals[refusal] += 1
        if refusal.is_proven and self._options.answer and self._answers.take(ANSWERS, _ns(now)):
            return Verdict.REFUSE
        return Verdict.IGNORE

    def begin(self, connection: Connection, ids: tuple[bytes, ...]) -> None:
        self._ids[connection] = ids
        if self._tables is not None:
            for each in ids:
                self._tables.know(each)

    def enter(self, connection: Connection, address: Address, now: float) -> bool:
        if connection in self._inside:
            return True
        self._now = _ns(now)
        subjects = self._subjects(address)
        if subjects is not None:
            refusal = self.quota.over(subjects, self._now)
            if refusal is not None:
                self.refusals[refusal] += 1
                return False
            self.quota.enter(subjects, self._now)
            self._publish_total()
        self._inside[connection] = subjects
        return True

    def leave(self, connection: Connection, now: float) -> None:
        self._now = _ns(now)
        ids = self._ids.pop(connection, ())
        if self._tables is not None:
            for each in ids:
                self._tables.forget(each)
        subjects = self._inside.pop(connection, None)
        if subjects is not None:
            self.quota.leave(subjects, self._now)
            self._publish_total()

    # -- for the programs

    def attach(self, maps: Maps, port: int, now: float) -> None:
        """Have programs refuse too, from what is known now on. ``port``: the relay's."""
        if not self._options.in_kernel:
            return
        self._now = _ns(now)
        tables = QuotaTables(maps, self._terms(port))
        self._tables = tables
        for ids in self._ids.values():
            for each in ids:
                tables.know(each)
        self._published.clear()
        for subject, until in self.quota.refused(self._now).items():
            self._publish(subject, until)
        self._publish_total()

    def detach(self) -> None:
        """The programs refuse nobody any more."""
        tables, self._tables = self._tables, None
        if tables is not None:
            tables.close()

    @property
    def in_kernel(self) -> bool:
        """Whether programs refuse."""
        return self._tables is not None

    @property
    def _by(self) -> str:
        if self._tables is None:
            return "user space"
        mode = self._tables.device
        return f"kernel, {mode.name.lower()} XDP" if mode else "kernel"

    def _terms(self, port: int) -> QuotaTerms:
        options = self._options
        return QuotaTerms(
            port=port,
            ipv4_prefix_length=options.ipv4_prefix_length,
            ipv6_prefix_length=options.ipv6_prefix_length,
            attempts=_rate(options.attempts),
            prefix_attempts=_rate(options.prefix_attempts),
            answers=_rate(ANSWERS),
            answer=options.answer,
            exempt=options.exempt,
        )

    def _publish(self, subject: Subject, until: int) -> None:
        tables = self._tables
        if tables is None:
            return
        where = subject.address, subject.family, subject.is_prefix
        if until > self._now:
            if tables.refuse(*where, until, self._now):
                self._published.add(subject)
        elif subject in self._published:
            self._published.discard(subject)
            tables.allow(*where)

    def _publish_total(self) -> None:
        if self._tables is not None:
            is_full = self.quota.connections >= self._options.total
            self._tables.refuse_all(NEVER if is_full else 0)

    # -- for the status page

    def status(self, now: float) -> dict[str, Any]:
        """Who is counted, who is refused, and how often somebody was."""
        quota, options = self.quota, self._options
        refused = quota.refused(_ns(now))
        accounts = quota.accounts()
        shown = sorted(
            accounts.keys() | refused.keys(),
            key=lambda subject: (subject not in refused, -accounts.get(subject, 0)),
        )
        return {
            "by": self._by,
            "connections": quota.connections,
            "total": options.total,
            "answer": options.answer,
            "exempt": [str(block) for block in options.exempt],
            "refusals": self.counts(),
            "subjects": len(accounts),
            "accounts": [
                {
                    "subject": str(subject),
                    "connections": accounts.get(subject, 0),
                    "limit": quota.limit(subject).connections,
                    "refused_seconds": _seconds(refused.get(subject), _ns(now)),
                    "refused_packets": self._refused_packets(subject),
                }
                for subject in shown[:SHOWN]
            ],
        }

    def counts(self) -> dict[str, int]:
        """First packets and connections refused, by why."""
        return {refusal.value: self.refusals[refusal] for refusal in Refusal}

    def _refused_packets(self, subject: Subject) -> int:
        if self._tables is None:
            return 0
        return self._tables.refused_packets(subject.address, subject.family, subject.is_prefix)

    def _subjects(self, address: Address) -> Subjects | None:
        return self.quota.subjects(plain_address(address)[0])


def _rate(rate: Rate) -> tuple[int, int]:
    return rate.interval, rate.tolerance


def _ns(now: float) -> int:
    return int(now * 1e9)


def _seconds(until: int | None, now: int) -> float | str | None:
    """How long somebody is still refused; "full": until a connection ends; None: not refused."""
    if until is None:
        return None
    return "full" if until == NEVER else round((until - now) / 1e9, 3)
