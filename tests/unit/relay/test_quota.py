"""Who is counted, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from fastrelay.relay.quota import NEVER, Limit, Quota, QuotaOptions, Refusal, Subject, Subjects
from fastrelay.relay.rate import Rate

S = 1_000_000_000
PLENTY = Rate(1_000_000, 1_000_000)
OPTIONS = QuotaOptions(
    per_address=Limit(3, PLENTY), per_prefix=Limit(5, PLENTY), total=100, attempts=PLENTY
)


def subjects(quota: Quota, host: str) -> Subjects:
    found = quota.subjects(host)
    assert found is not None
    return found


def fill(quota: Quota, host: str, count: int, now: int = 0) -> Subjects:
    """So many enter; each was let in."""
    who = subjects(quota, host)
    for _ in range(count):
        assert quota.judge(who, now) is None
        assert quota.over(who, now) is None
        quota.enter(who, now)
    return who


@pytest.mark.parametrize(
    ("host", "address", "prefix"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("255.255.255.255", "255.255.255.255", "255.255.255.0/24"),
        ("2001:db8::1:2", "2001:db8::1:2", "2001:db8::/64"),
        ("fe80::7%eth0", "fe80::7", "fe80::/64"),
    ],
)
def test_subjects(host: str, address: str, prefix: str) -> None:
    who = subjects(Quota(OPTIONS), host)
    assert (str(who.address), str(who.prefix)) == (address, prefix)
    assert len(who.address.address) == len(who.prefix.address) == 16


def test_prefix_lengths_are_configured() -> None:
    quota = Quota(replace(OPTIONS, ipv4_prefix_length=32, ipv6_prefix_length=48))
    address, prefix = subjects(quota, "192.0.2.7")
    assert str(prefix) == "192.0.2.7/32"
    assert address != prefix
    assert str(subjects(quota, "2001:db8:0:9::1").prefix) == "2001:db8::/48"


def test_exempt_blocks_have_no_account() -> None:
    quota = Quota(replace(OPTIONS, exempt=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))))
    for host in ("10.0.0.0", "10.255.255.255", "2001:db8:ffff::"):
        assert quota.subjects(host) is None
    for host in ("9.255.255.255", "11.0.0.0", "2001:db9::", "::a00:1"):
        assert quota.subjects(host) is not None


def test_an_address_is_full_until_one_leaves() -> None:
    quota = Quota(OPTIONS)
    who = fill(quota, "192.0.2.7", 3)
    assert quota.judge(who, 0) is Refusal.ADDRESS_CONNECTIONS
    assert quota.refused(0) == {who.address: NEVER}
    neighbour = fill(quota, "192.0.2.8", 2)
    assert quota.judge(neighbour, 0) is Refusal.PREFIX_CONNECTIONS
    fill(quota, "192.0.3.8", 1)
    quota.leave(who, S)
    assert quota.judge(neighbour, S) is None
    assert quota.judge(who, S) is None
    assert quota.refused(S) == {}


def test_all_together() -> None:
    quota = Quota(replace(OPTIONS, total=2))
    who = fill(quota, "192.0.2.7", 1)
    fill(quota, "2001:db8::1", 1)
    assert quota.judge(subjects(quota, "198.51.100.1"), 0) is Refusal.TOTAL
    quota.leave(who, 0)
    fill(quota, "198.51.100.1", 1)


def test_new_ones_a_second() -> None:
    slow = Limit(100, Rate(1, 2))
    quota = Quota(replace(OPTIONS, per_address=slow))
    who = fill(quota, "192.0.2.7", 2)
    assert quota.judge(who, S // 2) is Refusal.ADDRESS_RATE
    assert quota.refused(S // 2) == {who.address: S}
    quota.leave(who, S // 2)
    assert quota.judge(who, S // 2) is Refusal.ADDRESS_RATE  # leaving does not make it slower
    assert quota.judge(who, S) is None
    quota = Quota(replace(OPTIONS, per_prefix=slow))
    fill(quota, "192.0.2.7", 1)
    other = fill(quota, "192.0.2.8", 1)
    assert quota.judge(other, S // 2) is Refusal.PREFIX_RATE


def test_packets_alone_are_no_connections() -> None:
    """A flood in somebody's name costs him at most what comes while the flood does."""
    quota = Quota(replace(OPTIONS, per_prefix=Limit(5, Rate(16, 10))))
    victim, bystander = subjects(quota, "192.0.2.7"), subjects(quota, "198.51.100.7")
    verdicts = [quota.judge(victim, 0) for _ in range(1000)]
    assert verdicts.count(None) == 2 * 4 * 10
    assert set(verdicts) == {None, Refusal.PREFIX_ATTEMPTS}
    assert quota.refused(0) == {}
    assert quota.over(victim, 0) is None
    assert quota.judge(bystander, 0) is None
    assert quota.judge(victim, S) is None


def test_a_flood_from_everywhere_is_bounded_and_remembers_nobody() -> None:
    quota = Quota(replace(OPTIONS, attempts=Rate(50, 50)))
    verdicts = [
        quota.judge(subjects(quota, str(ip_address(number << 8))), 0) for number in range(5000)
    ]
    assert verdicts.count(None) == 50
    assert set(verdicts) == {None, Refusal.ATTEMPTS}
    assert quota.accounts() == {}


def test_accounts_do_not_outlive_their_memory() -> None:
    quota = Quota(replace(OPTIONS, per_address=Limit(3, Rate(2, 2))))
    for number in range(100):
        who = fill(quota, f"198.51.100.{number}", 1, now=number * S)
        quota.leave(who, number * S)
        assert len(quota._accounts) <= 3
    who = fill(quota, "192.0.2.7", 1, now=200 * S)
    assert set(quota._accounts) == set(who)


HOSTS = ["192.0.2.7", "192.0.2.8", "192.0.3.7", "2001:db8::1", "2001:db8::2", "10.0.0.1"]


class OpeningAndClosing(RuleBasedStateMachine):
    """At random; counted anew each time, from the list of those that are there."""

    inside = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.told: dict[Subject, int] = {}
        self.there: list[Subjects] = []
        self.quota = Quota(
            QuotaOptions(
                per_address=Limit(3, Rate(4, 4)),
                per_prefix=Limit(4, Rate(8, 5)),
                total=8,
                attempts=PLENTY,
                exempt=(ip_network("10.0.0.0/8"),),
            )
        )
        self.quota.publish = self.told.__setitem__

    @rule(target=inside, host=st.sampled_from(HOSTS), insist=st.booleans())
    def open(self, host: str, insist: bool) -> Subjects | None:
        who = self.quota.subjects(host)
        if who is None or (self.quota.over(who, self.now) and not insist):
            return None
        self.quota.enter(who, self.now)
        self.there.append(who)
        return who

    @rule(who=consumes(inside))
    def close(self, who: Subjects | None) -> None:
        if who is not None:
            self.there.remove(who)
            self.quota.leave(who, self.now)

    @rule(pause=st.sampled_from([S // 8, S // 2, 2 * S, 100 * S]))
    def wait(self, pause: int) -> None:
        self.now += pause

    @invariant()
    def counts_are_right(self) -> None:
        counted: dict[Subject, int] = {}
        for subject in (subject for who in self.there for subject in who):
            counted[subject] = counted.get(subject, 0) + 1
        assert self.quota.accounts() == counted
        assert self.quota.connections == len(self.there)
        refused = self.quota.refused(self.now)
        full = {s for s, count in counted.items() if count >= self.quota.limit(s).connections}
        assert full == {subject for subject, until in refused.items() if until == NEVER}
        assert {s: until for s, until in self.told.items() if until > self.now} == refused


OpeningAndClosing.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
test_opening_and_closing = OpeningAndClosing.TestCase
