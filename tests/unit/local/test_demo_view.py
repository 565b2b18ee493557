import io

from rich.console import Console

from fastrelay.local.demo.samples import Forwarded, PodSample, Sample, Session
from fastrelay.local.demo.view import View

LABELS = {"relay": "fastrelay relay", "publisher": "p", "viewer-1": "one", "viewer-2": "two"}


def sample(elapsed, forwarded=None):
    said = Session(12.0, Forwarded(750, 250), 2, 3, 0, "")
    busy = PodSample("running", 2.5e6, 7.5e6, 0.25, 50_000_000, 100, 25.0, 0.042, 0.061, 1, said)
    idle = PodSample("waiting", 0, 0, 0, 0, 0, 0, None, None, 0, None)
    pods = {"relay": busy, "publisher": busy, "viewer-1": busy, "viewer-2": idle}
    return Sample(elapsed, pods, 3, 4, forwarded)


def shown(*samples, terminal):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=140)
    with View(console, LABELS, 30) as view:
        view.event(1.0, "viewer-1 joins")
        for each in samples:
            view.show(each)
    return output.getvalue()


def test_without_a_terminal_there_is_a_line_now_and_then():
    lines = shown(sample(1.0), sample(1.5), terminal=False).splitlines()
    assert lines == [
        "  1.0 s  viewer-1 joins",
        "  1.0 s  user space in 2.50 out 7.50 Mbit/s, CPU 25 %, 50 MB; "
        "viewer-1 25 frames/s 42/61 ms 1 stalls 2 lost",
    ]


def test_who_forwards_is_told_over_the_last_second():
    samples = [
        sample(0.0, Forwarded(0, 100)),
        sample(1.0, Forwarded(50, 150)),
        sample(3.0, Forwarded(450, 160)),
    ]
    line = shown(*samples, terminal=False).splitlines()[-1]
    assert "media packets/s: 200 kernel, 5 user space (97.6 % kernel)" in line


def test_on_a_terminal_there_is_a_table():
    screen = shown(sample(1.0), sample(1.5), terminal=True)
    for word in ("viewer-2", "waiting", "3 sessions", "4 tracks", "viewer-1 joins", "75.0%"):
        assert word in screen
