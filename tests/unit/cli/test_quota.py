"""`fastrelay quota` against a status page."""

import json

import pytest
from typer.testing import CliRunner

from fastrelay.cli import app, quota
from fastrelay.quic.connection import Connection
from fastrelay.relay.doorkeeper import Doorkeeper
from fastrelay.relay.quota import Limit, QuotaOptions, Refusal
from fastrelay.relay.rate import Rate

NOW = 100.0


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Doorkeeper:
    """Whose status the page shows."""
    made = Doorkeeper(
        QuotaOptions(
            per_address=Limit(2, Rate(1000, 1000)),
            per_prefix=Limit(5, Rate(1, 3)),
            total=1000,
            attempts=Rate(1000, 1000),
        )
    )
    monkeypatch.setattr(quota, "status_page", lambda _: {"quota": made.status(NOW)})
    return made


def shown(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["quota", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def enter(door: Doorkeeper, host: str) -> None:
    door.enter(Connection.__new__(Connection), (host, 1), NOW)


def test_it_says_who_is_counted_and_who_is_refused(door: Doorkeeper) -> None:
    for host in ("192.0.2.7", "192.0.2.7", "192.0.2.8", "2001:db8:b::1"):
        enter(door, host)
    door.judge(("192.0.2.7", 1), NOW)
    lines = shown()
    assert lines[:2] == [
        "4 connections of at most 1000; refused by user space",
        f"refused 1: {quota.WORDS['address_connections']}",
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert rows == {
        "192.0.2.7": ["2", "2", "one", "ends"],
        "192.0.2.0/24": ["3", "5", "in", "1.0", "s"],
        "192.0.2.8": ["1", "2"],
        "2001:db8:b::1": ["1", "2"],
        "2001:db8:b::/64": ["1", "5"],
    }


def test_it_says_that_there_are_more(door: Doorkeeper) -> None:
    for number in range(60):
        enter(door, f"198.51.{number}.1")
    assert shown()[-1] == "120 in all"


def test_for_programs(door: Doorkeeper) -> None:
    assert json.loads("\n".join(shown("--json"))) == door.status(NOW)


def test_without_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "status_page", lambda _: {"quota": None})
    result = CliRunner().invoke(app, ["quota"])
    assert result.exit_code == 69
    assert "spec.quota.mode" in result.output


def test_each_reason_has_words() -> None:
    assert list(quota.WORDS) == [each.value for each in Refusal]
