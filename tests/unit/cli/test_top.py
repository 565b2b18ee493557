"""`fastrelay top` and `fastrelay limit`."""

import contextlib
import json
import os
import pty
import re
import select
import socketserver
import subprocess
import sys
import threading
import time
from copy import deepcopy
from http.server import BaseHTTPRequestHandler

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fastrelay.cli import app
from fastrelay.cli.amounts import automatic_or_level, automatic_or_rate, shown
from fastrelay.cli.members import SORTS, members, ordered
from fastrelay.cli.topscreen import HELP, Key, Screen, keys
from fastrelay.cli.topscreen import told as told_words


def session(address, *, delivered=0, dropped=(0, 0, 0, 0), seconds=10.0, **changes):
    return {
        "address": address,
        "seconds": seconds,
        "subscriptions": [{"track": "live", "rendition": changes.pop("rendition", "")}],
        "kernel_packets": 90,
        "user_packets": 10,
        "path": {
            "address": address,
            "rtt_ms": changes.pop("rtt", 10.0),
            "rtt_min_ms": 5.0,
            "jitter_ms": 1.0,
            "loss": changes.pop("loss", 0.0),
            "delivered_bytes": delivered,
            "bandwidth": changes.pop("bandwidth", None),
            "congestion_window": 12_000,
            "bytes_in_flight": 1_200,
        },
        "bands": {
            "rate": changes.pop("rate", 0),
            "level": changes.pop("level", 0.0),
            "bytes": [0, delivered, 0, 0],
            "dropped": list(dropped),
        },
        "limit": {
            "why": "",
            "estimate": None,
            "rate_by_hand": changes.pop("rate_by_hand", None),
            "level_by_hand": changes.pop("level_by_hand", None),
        },
        **changes,
    }


def document(*sessions, uptime=100.0):
    return {
        "process": {"uptime_seconds": uptime, "ready": True, "reason": None},
        "relay": {"id": "00ff", "sessions": len(sessions), "tracks": 1},
        "fast_path": {"kernel_packets": 90, "user_packets": 10},
        "sessions": list(sessions),
    }


PUBLISHER = {**session("10.0.0.9:9"), "subscriptions": []}
BEFORE = document(
    PUBLISHER,
    session("10.0.0.1:1", delivered=1_000_000),
    session("10.0.0.2:2", delivered=5_000_000, seconds=50.0),
)
AFTER = document(
    PUBLISHER,
    session("10.0.0.1:1", delivered=3_000_000, dropped=(0, 0, 1, 7), seconds=12.0, loss=0.02),
    session("10.0.0.2:2", delivered=10_000, seconds=1.0, level=1.5, level_by_hand=1.5),
    session("10.0.0.3:3", rtt=80.0, rate=2_000_000, rate_by_hand=2_000_000, rendition="720p"),
    uptime=102.0,
)


def found():
    return members(AFTER, BEFORE, 2.0)


def drawn(screen, width=160, height=40):
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(screen.render(AFTER, width, height))
    return capture.get()


def screen():
    made = Screen(sort="member", reverse=False)
    made.update(found())
    return made


def test_rates_are_of_the_time_between_two_looks():
    first, second, third = found()
    assert first.member == "10.0.0.1:1"
    assert (first.delivery_rate, first.drop_rate) == (1_000_000, 4.0)
    assert first.band_rates == (0, 1_000_000, 0, 0)
    assert second.delivery_rate is None, "another session had that address"
    assert third.delivery_rate is None
    assert first.kernel == 0.9


@pytest.mark.parametrize("by", SORTS)
def test_every_column_sorts(by):
    up, down = (ordered(found(), by, reverse=reverse) for reverse in (False, True))
    key = SORTS[by]
    assert [key(member) for member in up] == sorted(key(member) for member in found())
    assert [key(member) for member in up] == [key(member) for member in reversed(down)]


def test_the_table_says_what_is_set_by_hand():
    lines = {line.split()[0]: line.split() for line in drawn(screen()).splitlines() if line.strip()}
    assert "2.0M*" in lines["10.0.0.3:3"]
    assert "1.5*" in lines["10.0.0.2:2"]
    assert "0/0/1/7" in lines["10.0.0.1:1"]
    assert "720p" in lines["10.0.0.3:3"]
    assert "10.0.0.9:9" not in lines, "a publisher gets nothing"


def test_a_narrow_terminal_has_the_columns_that_matter():
    made = Screen(sort="jitter")
    made.update(found())
    for width in (60, 80, 100, 120):
        lines = drawn(made, width=width).splitlines()
        assert "…" not in "".join(lines)
        assert "up 0:01:42; 3 members, kernel 90.0%" in lines[0]
        assert lines[-1].strip() == HELP or width < 80
        heading = lines[1].split()
        assert {"member", "jitter", "limit", "level"} <= set(heading)
        assert ("flight" in heading) == (width >= 100)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("+", {"member": "10.0.0.1:1", "level": 64}),
        ("-", {"member": "10.0.0.1:1", "level": 0}),
        ("j+", {"member": "10.0.0.2:2", "level": 448}),
        ("\x1b[B\x1b[B\x1b[B\x1b[Aa", {"member": "10.0.0.2:2", "rate": None, "level": None}),
        ("l2.5\r", {"member": "10.0.0.1:1", "level": 640}),
        ("b2M\x7fk\n", {"member": "10.0.0.1:1", "rate": 2_000}),
        ("bautomatic\r", {"member": "10.0.0.1:1", "rate": None}),
        ("b0\r", {"member": "10.0.0.1:1", "rate": 0}),
        ("b7\x1b", None),
        ("l9\r", None),
        ("\x1b[15~\x1b[1;5Cx\x00", None),
    ],
)
def test_keys_set_limits(typed, expected):
    made, said = screen(), []
    for key in keys(typed):
        if (wanted := made.press(key)) is not None:
            said.append(wanted)
    assert said == ([expected] if expected else [])
    assert not made.done


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"rate": None, "level": None}, "automatic"),
        ({"rate": 250_000}, "rate 250k"),
        ({"rate": 0}, "no limit"),
        ({"rate": None}, "automatic rate"),
        ({"level": 384}, "level 1.5"),
        ({"level": None}, "automatic level"),
    ],
)
def test_what_the_relay_was_told_is_said(wanted, words):
    assert told_words({"member": "10.0.0.1:1", **wanted}) == f"10.0.0.1:1: {words}"


def test_keys_sort_and_turn_round():
    made = screen()
    for key in (Key.RIGHT, "r"):
        made.press(key)
    assert (made.sort, made.reverse) == ("rtt", False)
    assert made.members[-1].member == "10.0.0.3:3"
    made.press("r")
    assert made.members[0].member == "10.0.0.3:3"
    made.press("q")
    assert made.done


def test_what_is_wrong_is_said_and_what_is_typed_is_seen():
    made = screen()
    for key in "b2x":
        made.press(key)
    assert "rate of 10.0.0.1:1" in drawn(made)
    assert "2x_" in drawn(made)
    made.press(Key.ENTER)
    assert "is no rate" in drawn(made)


def test_a_chosen_member_that_leaves_is_not_followed():
    made = screen()
    made.press("j")
    made.update([member for member in found() if member.member != "10.0.0.2:2"])
    assert made.chosen == "10.0.0.1:1"
    made.update([])
    assert made.press("+") is made.press("l") is made.press("a") is None
    drawn(made)


def test_more_members_than_lines():
    made = Screen(sort="member", reverse=False)
    page = document(*(session(f"10.0.1.{n}:1") for n in range(100, 200)))
    made.update(members(page))
    for _ in range(60):
        made.press(Key.DOWN)
    shown_lines = drawn(made, height=20)
    assert len(shown_lines.splitlines()) <= 20
    assert "10.0.1.160:1" in shown_lines
    assert "86 more" in shown_lines


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("250k", 250_000), ("2M", 2_000_000), ("1.5Mi", 1_572_864), ("automatic", None)],
)
def test_rates(text, value):
    assert automatic_or_rate(text) == value


@pytest.mark.parametrize("text", ["", "2m", "-1", "1e6", "M", "nan", "2 M", "1" * 40])
def test_no_rates(text):
    with pytest.raises(ValueError, match="no rate"):
        automatic_or_rate(text)


@pytest.mark.parametrize("text", ["", "4.1", "5", "-1", "1e0", "nan", "10"])
def test_no_levels(text):
    with pytest.raises(ValueError, match="no level"):
        automatic_or_level(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (999, "999"), (999.6, "1.0k"), (12_345, "12.3k"), (99_960, "100k"),
     (1.5e6, "1.5M"), (999_600, "1.0M"), (3e15, "3000T")],
)  # fmt: skip
def test_amounts(number, text):
    assert shown(number) == text


@pytest.fixture
def relay(tmp_path):
    """The control socket of something like a relay, and what it was told."""
    told, pages = [], [BEFORE, AFTER]

    class Handler(BaseHTTPRequestHandler):
        def address_string(self):
            return ""

        def log_message(self, *_):
            pass

        def answer(self, status, body):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_GET(self):
            self.answer(200, pages.pop(0) if len(pages) > 1 else pages[0])

        def do_POST(self):
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append(wanted)
            known = wanted["member"] != "nobody"
            body = {"changed": [wanted["member"]]} if known else {"error": "there is no such"}
            self.answer(200 if known else 404, body)

    path = tmp_path / "control.sock"
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield str(path), told
        server.shutdown()
        thread.join()


def run(*arguments):
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, list(arguments))


def test_programs_get_members(relay):
    got = json.loads(run("top", relay[0], "--json", "--interval", "0.1").stdout)
    assert [each["member"] for each in got] == ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]
    assert got[0]["delivery_rate"] == 1_000_000


def test_without_a_terminal_there_is_one_table(relay):
    lines = run("top", relay[0], "--interval", "0.1", "--sort", "rtt").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "member", "10.0.0.3:3", "10.0.0.1:1", "10.0.0.2:2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        (["--rate", "2M", "--level", "1.5"], {"rate": 2_000_000, "level": 384}),
        (["--automatic"], {"rate": None, "level": None}),
        (["--level", "automatic"], {"level": None}),
        (["--automatic", "--rate", "0"], {"rate": 0, "level": None}),
    ],
)
def test_scripts_set_limits(relay, options, limits):
    done = run("limit", "10.0.0.1:1", "--relay", relay[0], *options)
    assert (done.exit_code, done.stdout) == (0, "10.0.0.1:1\n")
    assert relay[1] == [{"member": "10.0.0.1:1", **limits}]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["limit", "a"], 2, "--rate, --level or --automatic"),
        (["limit", "a", "--rate", "fast"], 2, "no rate"),
        (["limit", "a", "--level", "7"], 2, "no level"),
        (["limit", "nobody", "--level", "1", "--relay", "{path}"], 1, "there is no such"),
        (["limit", "a", "--level", "1", "--relay", "http://127.0.0.1:1"], 2, "control socket"),
        (["limit", "a", "--level", "1", "--relay", "nostack"], 69, "is not up"),
        (["limit", "a", "--level", "1", "--relay", "/nowhere/a.sock"], 69, "is the relay running"),
        (["top", "/nowhere/a.sock"], 69, "is the relay running"),
        (["top", "{path}", "--sort", "colour"], 2, "no column"),
    ],
)
def test_what_cannot_be_is_told(relay, arguments, code, words):
    done = run(*(argument.format(path=relay[0]) for argument in arguments))
    assert done.exit_code == code
    assert words in done.stderr
    assert relay[1] in ([], [{"member": "nobody", "level": 256}])


def test_members_complete(relay):
    line = f"fastrelay limit --relay {relay[0]} 10.0.0.1"
    done = CliRunner().invoke(
        app,
        [],
        prog_name="fastrelay",
        env={
            "_FASTRELAY_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        },
    )
    assert done.output.split() == ["10.0.0.1:1"]


def test_on_a_terminal(relay):
    """Typed at a real one: a level is raised, and the terminal is as it was when it ends."""
    path, told = relay
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "24"}
    command = [sys.executable, "-m", "fastrelay.cli", "top", path, "--sort", "member"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = ""

    def until(pattern):
        nonlocal seen
        deadline = time.monotonic() + 120
        while not re.search(pattern, seen):
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536).decode(errors="replace")

    try:
        until("10.0.0.2:2")
        os.write(ours, b"+")
        until("10.0.0.1:1: level 0.25")
        assert told == [{"member": "10.0.0.1:1", "level": 64}]
        os.write(ours, b"q")
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            until("never")
        assert process.wait(120) == 0
        assert "\x1b[?1049l" in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_pages_are_left_alone():
    before = deepcopy(AFTER)
    found()
    assert before == AFTER
