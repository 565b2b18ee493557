"""Tells the QUIC endpoint who may come in, by the quota, and keeps count of who is there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastrelay.quic.connection import Connection, plain_address
from fastrelay.quic.door import Verdict
from fastrelay.quic.udp import Address
from fastrelay.relay.quota import ANSWERS, NEVER, Quota, QuotaOptions, Refusal, Subjects
from fastrelay.relay.rate import Meter

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

    def enter(self, connection: Connection, address: Address, now: float) -> bool:
        if connection in self._inside:
            return True
        subjects = self._subjects(address)
        if subjects is not None:
            refusal = self.quota.over(subjects, _ns(now))
            if refusal is not None:
                self.refusals[refusal] += 1
                return False
            self.quota.enter(subjects, _ns(now))
        self._inside[connection] = subjects
        return True

    def leave(self, connection: Connection, now: float) -> None:
        subjects = self._inside.pop(connection, None)
        if subjects is not None:
            self.quota.leave(subjects, _ns(now))

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
                }
                for subject in shown[:SHOWN]
            ],
        }

    def counts(self) -> dict[str, int]:
        """First packets and connections refused, by why."""
        return {refusal.value: self.refusals[refusal] for refusal in Refusal}

    def _subjects(self, address: Address) -> Subjects | None:
        return self.quota.subjects(plain_address(address)[0])


def _ns(now: float) -> int:
    return int(now * 1e9)


def _seconds(until: int | None, now: int) -> float | str | None:
    """How long somebody is still refused; "full": until a connection ends; None: not refused."""
    if until is None:
        return None
    return "full" if until == NEVER else round((until - now) / 1e9, 3)
