"""What the relay writes for the programs, in maps without a kernel."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_network

import pytest

from fastrelay.fastpath.layout import QUOTA_EXEMPT_BLOCKS, Switch
from fastrelay.fastpath.maps import Maps, in_memory
from fastrelay.fastpath.quota import QuotaTables, QuotaTerms, exempt_blocks

TERMS = QuotaTerms(
    port=4443,
    ipv4_prefix_length=20,
    ipv6_prefix_length=48,
    attempts=(1, 2),
    prefix_attempts=(3, 4),
    answers=(5, 6),
    answer=True,
    exempt=(ip_network("10.0.0.0/8"),),
)
ADDRESS = bytes([192, 0, 2, 7]).ljust(16, b"\0")
WHERE = ADDRESS, 4, False


@pytest.fixture
def maps() -> Maps:
    made, *_ = in_memory()
    made.shared.rows[0]["seed"] = 5, 7
    return made


def test_terms_are_written_and_then_it_is_on(maps: Maps) -> None:
    tables = QuotaTables(maps, TERMS)
    row = maps.quota.rows[0]
    assert row["enabled"] == Switch.ON
    assert int(row["port"]).to_bytes(2, "little") == (4443).to_bytes(2, "big")
    assert (row["ipv4_prefix_length"], row["ipv6_prefix_length"], row["answer"]) == (20, 48, 1)
    rates = [tuple(row[name]) for name in ("attempts", "prefix_attempts", "answers")]
    assert rates == [(1, 2), (3, 4), (5, 6)]
    assert row["exempt"] == 1
    assert list(maps.quota_exempt.rows[0]["last"]) == [0, 0xFFFF_0AFF_FFFF]
    assert any(row["key"])
    tables.close()
    assert row["enabled"] == Switch.OFF


def test_what_another_relay_left_is_gone(maps: Maps) -> None:
    before = QuotaTables(maps, TERMS)
    key = list(maps.quota.rows[0]["key"])
    assert before.refuse(*WHERE, 100, 0)
    assert before.know(b"destinat")
    before.refuse_all(100)
    maps.quota_meters.rows["empty_at"] = 9
    tables = QuotaTables(maps, TERMS)
    assert list(maps.quota.rows[0]["key"]) != key
    assert maps.quota_refused.pairs() == maps.quota_known.pairs() == []
    assert maps.quota.rows[0]["total_until"] == 0
    assert not maps.quota_meters.rows["empty_at"].any()
    assert tables.refused_packets(*WHERE) == 0


def test_refused_and_allowed_again(maps: Maps) -> None:
    tables = QuotaTables(maps, TERMS)
    for until in (100, 200):
        assert tables.refuse(*WHERE, until, 0)
        assert tables.refuse(ADDRESS, 4, True, until, 0)
    pairs = maps.quota_refused.pairs()
    assert len(pairs) == 2
    assert {maps.quota_rows.rows[pair.value]["until"] for pair in pairs} == {200}
    maps.quota_rows.rows[pairs[0].value]["refused"] = 3
    assert {tables.refused_packets(ADDRESS, 4, kind) for kind in (False, True)} == {0, 3}
    for _ in range(2):
        tables.allow(*WHERE)
    assert len(maps.quota_refused.pairs()) == 1


def test_a_row_starts_at_nothing_each_time(maps: Maps) -> None:
    tables = QuotaTables(maps, TERMS)
    tables.refuse(*WHERE, 100, 0)
    maps.quota_rows.rows["refused"] = 5
    tables.allow(*WHERE)
    tables.refuse(*WHERE, 100, 0)
    assert tables.refused_packets(*WHERE) == 0


def test_ids_are_known_until_they_are_forgotten(maps: Maps) -> None:
    tables = QuotaTables(maps, TERMS)
    for each in (b"", b"destinat", b"destinat\0", bytes(20)):
        assert tables.know(each)
        assert tables.know(each)
    assert len(maps.quota_known.pairs()) == 4
    tables.forget(b"destinat")
    tables.forget(b"another")
    assert len(maps.quota_known.pairs()) == 3


def test_when_it_is_full_those_go_whose_time_is_over(
    maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps.quota_refused, "_resting", {})
    tables = QuotaTables(maps, TERMS)
    tables._free = type(tables._free)([1, 2])
    a, b, c = ((bytes([n]).ljust(16, b"\0"), 4, False) for n in range(3))
    assert tables.refuse(*a, 50, 0)
    assert tables.refuse(*b, 5_000_000_000, 0)
    assert not tables.refuse(*c, 5_000_000_000, 49)
    assert tables.refuse(*c, 5_000_000_000, 1_000_000_000)
    assert not tables.refuse(*a, 5_000_000_000, 1_000_000_000)
    assert len(maps.quota_refused.pairs()) == 2


def test_a_full_bucket_leaves_the_row_free(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = QuotaTables(maps, TERMS)
    rows = len(tables._free)
    monkeypatch.setattr(maps.quota_refused, "put", lambda *_: False)
    assert not tables.refuse(*WHERE, 100, time.monotonic_ns())
    assert len(tables._free) == rows


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([], []),
        (["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"], [(0xFFFF_0A00_0000, 0xFFFF_0BFF_FFFF)]),
        (["::/0", "10.0.0.0/8"], [(0, (1 << 128) - 1)]),
        (["fd00::/127", "::1/128"], [(1, 1), (0xFD << 120, (0xFD << 120) + 1)]),
    ],
)
def test_exempt_blocks(blocks: list[str], expected: list[tuple[int, int]]) -> None:
    assert exempt_blocks([ip_network(block) for block in blocks]) == expected


def test_as_many_blocks_as_a_spec_may_have(maps: Maps) -> None:
    blocks = tuple(ip_network(f"10.{number}.0.0/24") for number in range(QUOTA_EXEMPT_BLOCKS))
    QuotaTables(maps, replace(TERMS, exempt=blocks))
    assert maps.quota.rows[0]["exempt"] == QUOTA_EXEMPT_BLOCKS
    assert maps.quota_exempt.rows[-1]["first"][1] == 0xFFFF_0AFF_0000
