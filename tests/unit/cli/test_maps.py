"""`fastrelay maps` on maps in memory."""

import ipaddress
import json

import pytest
from typer.testing import CliRunner

from fastrelay.agent import pinned
from fastrelay.cli import app
from fastrelay.cli.maps import WORDS
from fastrelay.fastpath import maps as shared_maps
from fastrelay.fastpath.layout import ConnectionState, Outcome, Reason, Switch


def test_every_counter_has_words():
    names = {reason.name for reason in Reason if reason is not Reason.B_OUTCOME}
    assert names | {f"B_{outcome.name}" for outcome in Outcome} == set(WORDS)


@pytest.fixture
def opened(monkeypatch):
    """The maps that the command opens; and where it looked for them."""
    maps, *_ = shared_maps.in_memory()
    looked = []

    def open_pinned(path):
        looked.append(path)
        return maps

    monkeypatch.setattr(pinned, "open_pinned", open_pinned)
    return maps, looked


def run(*arguments):
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["maps", *arguments])


def test_a_connection_is_shown_without_its_keys(opened, tmp_path):
    maps, looked = opened
    row = maps.connections.rows[7]
    row["state"], row["family"] = ConnectionState.SEND, 4
    row["remote_address"][:4], row["remote_port"] = (10, 0, 0, 9), 0x5B11
    row["tx"]["key"][:] = 0x41414141
    row["packet_number"], row["packet_number_limit"] = 31, 1024
    member = maps.members.rows[3]
    member["state"], member["last_ordinal"] = Switch.ON, (1 << 64) - 1
    maps.counters.rows[0][Reason.B_OUTCOME + Outcome.NO_WINDOW] = 12
    done = run("edge", "--pins", str(tmp_path))
    assert looked == [tmp_path / "edge" / "maps"]
    assert "10.0.0.9:4443" in done.stdout
    assert "congestion window" in done.stdout
    assert "31 of 1024" in done.stdout
    assert "open" in done.stdout
    assert str((1 << 64) - 1) not in done.stdout
    everything = json.loads(run("edge", "--pins", str(tmp_path), "--json").stdout)
    assert everything["counters"] == {"B_NO_WINDOW": 12}
    (connection,) = everything["connections"]
    assert connection["connection"] == 7
    assert (connection["packet_number"], connection["packet_number_limit"]) == (31, 1024)
    assert str(0x41414141) not in json.dumps(everything)


def test_maps_that_are_not_there_are_told(tmp_path):
    done = run("edge", "--pins", str(tmp_path))
    assert done.exit_code == 69
    assert str(tmp_path / "edge" / "maps") in done.stderr


def test_ipv6_addresses_are_shown_as_they_are(opened, tmp_path):
    maps, _ = opened
    row = maps.connections.rows[0]
    row["state"], row["family"] = ConnectionState.RECEIVE, 6
    row["remote_address"] = list(ipaddress.IPv6Address("fd80:0:b:1::2").packed)
    row["remote_port"] = 0x5B11
    assert "[fd80:0:b:1::2]:4443" in run("edge", "--pins", str(tmp_path)).stdout
