from __future__ import annotations

import json

import pytest

from fastrelay.fastpath import inspect
from fastrelay.fastpath.layout import Outcome, Reason
from unit.fastpath.stand_ins import Clock
from unit.fastpath.test_forwarder import Bench


def test_tables_show_what_is_in_use_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Clock(monkeypatch), 2)
    bench.packet(bench.chunk(0, 50))
    bench.deliver(1)
    bench.drain()
    found = inspect.tables(bench.kernel.maps)
    assert {name: len(rows) for name, rows in found.items()} == {
        "relay": 1,
        "connections": 3,
        "bands": 0,
        "tracks": 1,
        "members": 2,
        "streams": 1,
    }
    assert found["relay"][0]["unsettled"] == 1
    assert found["connections"][2]["remote"] == "10.0.1.1:1026"
    assert found["tracks"][0]["channel"] == 7
    assert found["tracks"][0]["members"] == 2
    assert [row["packets"] for row in found["members"]] == [1, 0]
    assert found["streams"][0]["state"] == "LENT"
    assert "key" not in json.dumps(found)


def test_counters_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Clock(monkeypatch), 0)
    rows = bench.kernel.maps.counters.rows
    rows[0][Reason.A_FORWARDED] = 1
    rows[-1][Reason.A_FORWARDED] = 2
    rows[1][Reason.B_OUTCOME + Outcome.NO_WINDOW] = 2
    assert inspect.counters(bench.kernel.maps) == {"A_FORWARDED": 3, "B_NO_WINDOW": 2}
