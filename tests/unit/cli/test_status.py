"""`fastrelay status` against a status page."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from fastrelay.cli import app

TRACK = "live/demo [video]"
FULL = "the kernel serves 2 subscribers of a track at most"


def session(address, fast_path="", packets=(0, 0), subscriptions=("",), now=None):
    """``subscriptions``: why the kernel does not serve them."""
    return {
        "address": address,
        "upstream": None,
        "draft": 18,
        "transport": "quic",
        "publishes": [],
        "subscriptions": [{"track": TRACK, "fast_path": reason} for reason in subscriptions],
        "path": {"address": now or address, "rtt_ms": 1.25, "packets_lost": 3},
        "kernel_packets": packets[0],
        "user_packets": packets[1],
        "fast_path": fast_path,
    }


DOCUMENT = {
    "process": {
        "version": "0.1.0",
        "uptime_seconds": 12.3,
        "ready": True,
        "reason": None,
        "listen": ["::", 4443],
    },
    "relay": {"id": "00ff"},
    "fast_path": {"state": "On", "reason": "", "kernel_packets": 950, "user_packets": 50},
    "sessions": [
        session("10.0.0.3:1", packets=(950, 50)),
        session("10.0.0.4:2", "cipher AES_128_GCM", subscriptions=("cipher AES_128_GCM",)),
        session("[fd80:0:b:6::2]:51089", subscriptions=("", FULL, "it is behind")),
        session("10.0.0.5:3", subscriptions=(FULL, FULL)),
        session("10.0.0.6:4", subscriptions=(), now="10.0.0.6:5"),
    ],
    "tracks": [
        {
            "track": TRACK,
            "publishers": [{}],
            "subscribers": 7,
            "groups": 3,
            "bytes": 4096,
            "fast_path": "",
        }
    ],
}


@pytest.fixture
def page():
    """The address of a server with that page alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/statusz"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(DOCUMENT).encode() if found else b"nothing")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def status(*arguments, columns=200):
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["status", *arguments])


def test_who_sends_is_told_for_each_session_and_track(page):
    lines = status(page).stdout.splitlines()
    assert "950 by the kernel, 50 by user space" in lines[1]
    rows = {line.split()[0]: line.split() for line in lines[2:]}
    assert rows["10.0.0.3:1"][1:] == ["18", "quic", "0", "1", "1.2", "3", "1000", "95.0%", "kernel"]
    served = {peer: " ".join(words[9:]) for peer, words in rows.items()}
    assert served["10.0.0.4:2"] == served["10.0.0.5:3"] == "user"
    assert rows["10.0.0.4:2"][7:9] == ["0", "-"]
    assert served["[fd80:0:b:6::2]:51089"] == "kernel 1 of 3"
    assert served["10.0.0.6:5"] == "kernel", "where it is now"
    assert "user space, as cipher AES_128_GCM: 10.0.0.4:2" in lines
    assert f"user space, as {FULL}: [fd80:0:b:6::2]:51089, 10.0.0.5:3" in lines
    assert "user space, as it is behind: [fd80:0:b:6::2]:51089" in lines
    assert rows["live/demo"][1] == "[video]"
    assert "kernel: to 2 of 7 subscribers" in lines[-1]


def test_a_narrow_terminal_has_room_for_all_of_it(page):
    lines = status(page, columns=80).stdout.splitlines()
    assert "…" not in "".join(lines)
    assert lines[2].split()[-2:] == ["kernel", "by"]
    assert FULL in " ".join(lines)


def test_programs_get_the_page_itself(page):
    assert json.loads(status(page, "--json").stdout) == DOCUMENT


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("ftp://127.0.0.1", 2, "http://10.0.0.2:9464"),
        ("{page}/metrics", 69, "Not Found"),
        ("http://127.0.0.1:1", 69, "refused"),
        ("nobody", 69, "is not up"),
    ],
)
def test_what_cannot_be_asked_is_told(page, where, code, words):
    done = status(where.format(page=page))
    assert done.exit_code == code
    assert words in done.stderr
