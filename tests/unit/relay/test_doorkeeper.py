"""What the endpoint is told."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, cast

import pytest

from fastrelay.api.policy import Quota
from fastrelay.fastpath.maps import Maps, in_memory
from fastrelay.quic.connection import Connection
from fastrelay.quic.door import Verdict
from fastrelay.relay.configuration import quota_options
from fastrelay.relay.doorkeeper import SHOWN, Doorkeeper
from fastrelay.relay.quota import NEVER, Limit, QuotaOptions
from fastrelay.relay.rate import Rate

OPTIONS = QuotaOptions(
    per_address=Limit(2, Rate(1000, 1000)),
    per_prefix=Limit(3, Rate(16, 10)),
    total=10,
    attempts=Rate(1000, 1000),
    exempt=(ip_network("10.0.0.0/8"),),
)
CLIENT = ("::ffff:192.0.2.7", 4000, 0, 0)
NEIGHBOUR = ("192.0.2.8", 4000)


def connection() -> Connection:
    return cast("Connection", object())


@pytest.mark.parametrize(("answer", "refused"), [(True, Verdict.REFUSE), (False, Verdict.IGNORE)])
def test_the_way_in_and_out(answer: bool, refused: Verdict) -> None:
    door = Doorkeeper(replace(OPTIONS, answer=answer))
    one, other, third = connection(), connection(), connection()
    assert door.judge(CLIENT, 0.0) is Verdict.ADMIT
    for each in (one, one, other):
        assert door.enter(each, CLIENT, 0.0)
    assert door.quota.connections == 2
    assert door.judge(CLIENT, 0.0) is refused
    assert not door.enter(third, CLIENT, 0.0)
    door.leave(third, 0.0)
    assert door.enter(third, NEIGHBOUR, 0.0)
    assert door.judge(NEIGHBOUR, 0.0) is refused
    for each in (one, one, third, other):
        door.leave(each, 1.0)
    assert door.quota.connections == 0
    assert door.judge(CLIENT, 1.0) is Verdict.ADMIT
    counts = Counter(door.counts())
    assert +counts == {"address_connections": 2, "prefix_connections": 1}


def test_the_exempt_do_not_count() -> None:
    door = Doorkeeper(replace(OPTIONS, total=1))
    assert door.enter(connection(), CLIENT, 0.0)
    inside = connection()
    for _ in range(3):
        assert door.judge(("10.1.2.3", 1), 0.0) is Verdict.ADMIT
        assert door.enter(inside, ("10.1.2.3", 1), 0.0)
    assert door.quota.connections == 1
    door.leave(inside, 0.0)
    assert door.quota.connections == 1


def test_answers_are_bounded() -> None:
    door = Doorkeeper(OPTIONS)
    for _ in range(2):
        door.enter(connection(), CLIENT, 0.0)
    verdicts = Counter(door.judge(CLIENT, 0.0) for _ in range(1000))
    assert verdicts == {Verdict.REFUSE: 100, Verdict.IGNORE: 900}


def test_nobody_is_answered_in_anothers_name() -> None:
    door = Doorkeeper(OPTIONS)
    verdicts = Counter(door.judge(CLIENT, 0.0) for _ in range(1000))
    assert verdicts == {Verdict.ADMIT: 80, Verdict.IGNORE: 920}
    assert door.counts()["prefix_attempts"] == 920


def test_the_status_shows_the_refused_first() -> None:
    door = Doorkeeper(replace(OPTIONS, total=1000))
    for number in range(SHOWN + 20):
        door.enter(connection(), (f"198.51.{number}.1", 1), 0.0)
    for _ in range(2):
        door.enter(connection(), CLIENT, 0.0)
    status: dict[str, Any] = door.status(0.0)
    assert status["connections"] == SHOWN + 22
    assert status["subjects"] == 2 * (SHOWN + 21)
    assert len(status["accounts"]) == SHOWN
    assert status["accounts"][0] == {
        "subject": "192.0.2.7",
        "connections": 2,
        "limit": 2,
        "refused_seconds": "full",
        "refused_packets": 0,
    }
    assert status["accounts"][1]["refused_seconds"] is None
    assert status["exempt"] == ["10.0.0.0/8"]


def test_the_status_says_how_long() -> None:
    door = Doorkeeper(replace(OPTIONS, per_address=Limit(10, Rate(1, 1))))
    door.enter(connection(), CLIENT, 5.0)
    assert door.status(5.25)["accounts"][0]["refused_seconds"] == 0.75


@pytest.fixture
def maps() -> Maps:
    made, *_ = in_memory()
    made.shared.rows[0]["seed"] = 5, 7
    return made


def refused(maps: Maps) -> set[int]:
    """Until when, of all that programs refuse."""
    return {int(maps.quota_rows.rows[pair.value]["until"]) for pair in maps.quota_refused.pairs()}


def test_programs_are_told_of_what_was_before_them(maps: Maps) -> None:
    door = Doorkeeper(replace(OPTIONS, total=2))
    one, other = connection(), connection()
    for each, ids in ((one, (b"original", b"1st--own")), (other, (b"2nd-orig", b"2nd--own"))):
        door.begin(each, ids)
        door.enter(each, CLIENT, 1.0)
    door.attach(maps, 4443, 1.0)
    assert door.in_kernel
    assert len(maps.quota_known.pairs()) == 4
    assert refused(maps) == {NEVER}
    assert maps.quota.rows[0]["total_until"] == NEVER
    assert door.status(1.0)["by"] == "kernel"
    door.leave(one, 1.0)
    assert len(maps.quota_known.pairs()) == 2
    assert refused(maps) == set()
    assert maps.quota.rows[0]["total_until"] == 0
    door.detach()
    assert not maps.quota.rows[0]["enabled"]
    door.leave(other, 1.0)
    assert door.status(1.0)["by"] == "user space"


def test_programs_are_told_of_what_comes_after_them(maps: Maps) -> None:
    door = Doorkeeper(replace(OPTIONS, per_address=Limit(9, Rate(1, 2))))
    door.attach(maps, 4443, 100.0)
    inside = [connection() for _ in range(2)]
    for number, each in enumerate(inside):
        door.begin(each, (b"id%d" % number,))
        assert refused(maps) == set()
        assert door.enter(each, CLIENT, 100.0)
    assert refused(maps) == {101_000_000_000}
    maps.quota_rows.rows["refused"] = 4
    assert door.status(100.0)["accounts"][0]["refused_packets"] == 4
    door.leave(inside[0], 100.5)
    assert refused(maps) == {101_000_000_000}
    door.leave(inside[1], 101.5)
    assert refused(maps) == set()
    assert maps.quota_known.pairs() == []


def test_programs_leave_it_to_user_space_where_the_spec_says_so(maps: Maps) -> None:
    door = Doorkeeper(replace(OPTIONS, in_kernel=False))
    door.attach(maps, 4443, 0.0)
    assert not door.in_kernel
    assert not maps.quota.rows[0]["enabled"]


def test_by_default_an_office_comes_back_at_once() -> None:
    """500 clients behind one NAT, each with two first packets."""
    options = quota_options(Quota())
    assert options is not None
    door = Doorkeeper(options)
    for _ in range(500):
        assert [door.judge(CLIENT, 0.0) for _ in range(2)] == [Verdict.ADMIT] * 2
        assert door.enter(connection(), CLIENT, 0.0)
    assert door.judge(CLIENT, 0.0) is not Verdict.REFUSE
    assert door.counts()["attempts"] == 1


def test_tables_and_accounts_never_drift_apart(maps: Maps) -> None:
    """Connections that come, prove themselves, are refused, move and go at random, while programs
    come and go: the tables always say what a plain count of who is inside says."""
    numbers, plenty = random.Random(17), Rate(10**9, 10**9)
    limits = Limit(3, plenty), Limit(6, plenty)
    door = Doorkeeper(
        replace(OPTIONS, per_address=limits[0], per_prefix=limits[1], total=24, attempts=plenty)
    )
    hosts = [f"192.0.{net}.{host}" for net in range(3) for host in range(3)]
    hosts += ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1"]
    begun: dict[Connection, tuple[bytes, str]] = {}
    inside: dict[Connection, str] = {}
    for step in range(1000):
        now, action = step / 100, numbers.random()
        if action < 0.4:
            made, identity = connection(), numbers.randbytes(8)
            begun[made] = identity, numbers.choice(hosts)
            door.begin(made, (identity, identity[::-1]))
        elif action < 0.8 and begun:
            made = numbers.choice(list(begun))
            host = inside.get(made, begun[made][1])
            if door.enter(made, (host, 1), now):
                inside[made] = host
        elif action < 0.98 and begun:
            made = numbers.choice(list(begun))
            door.leave(made, now)
            del begun[made]
            inside.pop(made, None)
        elif door.in_kernel:
            door.detach()
        else:
            door.attach(maps, 4443, now)
        counted = Counter(
            subject for host in inside.values() for subject in door.quota.subjects(host) or ()
        )
        full = {
            each for each, count in counted.items() if count >= limits[each.is_prefix].connections
        }
        assert door.quota.accounts() == counted
        assert set(door.quota.refused(int(now * 1e9))) == full
        everybody = sum(count for each, count in counted.items() if not each.is_prefix)
        assert everybody <= 24
        if door.in_kernel and step % 50 == 0:
            assert len(maps.quota_known.pairs()) == 2 * len(begun)
            assert refused(maps) == ({NEVER} if full else set())
            assert len(maps.quota_refused.pairs()) == len(full)
            assert bool(maps.quota.rows[0]["total_until"]) == (everybody >= 24)
