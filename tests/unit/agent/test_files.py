"""Desired relays and their status as files."""

import asyncio
import json

import pytest

from fastrelay.agent.files import DirectoryReporter, DirectorySource, parse
from fastrelay.agent.hooks import End, Mechanism
from fastrelay.agent.instance import Reason, RelaySpec, State, Status

RELAY = {"name": "r1", "uid": 65534, "addresses": ["10.0.0.2", "FD00:0::2"]}


def test_a_description():
    assert parse("r1", json.dumps(RELAY)) == RelaySpec(
        "r1", 65534, ("10.0.0.2", "fd00::2"), End.HOST
    )
    assert parse("r1", json.dumps({**RELAY, "attach": "Pod", "other": 1})).end is End.POD
    assert parse("r1", json.dumps({**RELAY, "device": "eth0"})).device == "eth0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "r2"}, "the file of 'r1' describes 'r2'"),
        ({"uid": "root"}, "uid 'root': a number is needed"),
        ({"uid": -1}, "a number is needed"),
        ({"uid": True}, "a number is needed"),
        ({"addresses": []}, "a list of the pod's addresses is needed"),
        ({"addresses": "10.0.0.2"}, "a list of the pod's addresses is needed"),
        ({"addresses": ["10.0.0"]}, "does not appear to be an IPv4 or IPv6 address"),
        ({"attach": "Both"}, "'Both' is not a valid End"),
        ({"device": 1}, "device 1: a name like eth0 is needed"),
    ],
)
def test_a_wrong_description(change, message):
    with pytest.raises(ValueError, match=message):
        parse("r1", json.dumps({**RELAY, **change}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "an object is needed"),
        ("{", "Expecting property name"),
        ('{"name": "r1", "uid": 1}', "addresses is missing"),
    ],
)
def test_no_description(text, message):
    with pytest.raises(ValueError, match=message):
        parse("r1", text)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "a" * 64])
def test_a_name_that_makes_no_directory(name):
    with pytest.raises(ValueError, match="write 1 to 63 of a-z, 0-9 and -"):
        parse(name, json.dumps({**RELAY, "name": name}))


def test_a_directory_of_relays(tmp_path):
    source = DirectorySource(tmp_path / "desired")
    assert source.desired() is None  # not there: nobody knows, so nothing is removed
    (tmp_path / "desired").mkdir()
    assert source.desired() == {}
    file = tmp_path / "desired" / "r1.json"
    file.write_text(json.dumps(RELAY))
    (tmp_path / "desired" / "r2.new").write_text("draft")
    assert list(source.desired()) == ["r1"]


def test_a_file_that_is_damaged_counts_as_it_was(tmp_path):
    source = DirectorySource(tmp_path)
    file = tmp_path / "r1.json"
    file.write_text(json.dumps(RELAY))
    known = source.desired()
    file.write_text("{")
    (tmp_path / "r2.json").write_text("{")
    assert source.desired() == known
    file.unlink()
    assert source.desired() == {}


async def test_a_change_is_noticed_before_the_time_is_over(tmp_path):
    source = DirectorySource(tmp_path)
    source.desired()
    waiting = asyncio.ensure_future(source.changed(3600.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "r1.json").write_text(json.dumps(RELAY))
    await asyncio.wait_for(waiting, 60)
    source.desired()
    await source.changed(0.0)


def test_reports(tmp_path):
    reporter = DirectoryReporter(tmp_path / "reports")
    status = Status(
        "r1",
        State.ATTACHED,
        Reason.ATTACHED,
        "",
        End.HOST,
        "veth1",
        Mechanism.TCX,
        {"a": 1, "b": 2},
        "v1",
    )
    reporter({"r1": status})
    file = tmp_path / "reports" / "r1.json"
    assert json.loads(file.read_text()) == {
        "name": "r1",
        "state": "Attached",
        "reason": "Attached",
        "message": "",
        "attach": "Host",
        "device": "veth1",
        "mechanism": "tcx",
        "programs": {"a": 1, "b": 2},
        "generation": "v1",
        "quota": {"device": "", "mode": None, "message": ""},
        "relay": {
            "forwarding": False,
            "reason": "RelayNotConnected",
            "message": "the relay has not asked for its maps",
            "kernel": 0,
            "user": 0,
        },
    }
    written = file.stat().st_ino
    reporter({"r1": status})
    assert file.stat().st_ino == written
    reporter({})
    assert list((tmp_path / "reports").iterdir()) == []
