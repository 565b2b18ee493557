"""The demo's rule about who forwarded."""

import pytest

from fastrelay.local.demo.samples import Forwarded, PodSample, Sample, Session, sessions_of
from fastrelay.local.demo.verdict import SERVED_SECONDS, forwarded, judge_forwarding

ANEW = "video: a stream that user space has begun"


def session(seconds, kernel, user, reason="", subscriptions=2, falls=0, lost=0):
    return Session(seconds, Forwarded(kernel, user), lost, subscriptions, falls, reason)


def history(*sessions):
    """One sample for each: of ``viewer-1``."""
    return [
        Sample(
            number / 2,
            {"viewer-1": PodSample("running", 0, 0, 0, 0, 0, 0, None, None, 0, each)},
            *(None, None, None),
        )
        for number, each in enumerate(sessions)
    ]


def test_a_viewer_counts_from_when_the_kernel_serves_it():
    samples = history(
        None,
        session(0.2, 0, 100, subscriptions=1),
        session(0.4, 0, 200, "it has not begun"),
        session(0.9, 10, 500, ANEW),
        session(1.4, 60, 600),
        session(1.9, 160, 605, "it is behind"),
        session(2.4, 160, 605, subscriptions=1),
        None,
    )
    assert forwarded(samples, "viewer-1") == Forwarded(100, 5)


def test_who_falls_behind_is_not_counted_until_the_kernel_serves_it_again():
    samples = history(
        session(1.0, 0, 100),
        session(1.5, 50, 100),
        session(2.0, 60, 130, "it is behind", falls=1),
        session(2.5, 60, 200, ANEW, falls=1),
        session(3.0, 65, 220, falls=1),
        session(3.5, 125, 221, ANEW, falls=1),
        session(4.0, 125, 230, falls=1),
    )
    assert forwarded(samples, "viewer-1") == Forwarded(50 + 60, 0 + 1 + 9)


def test_repairs_of_losses_do_not_count():
    samples = history(
        session(1.0, 50, 100, lost=2),
        session(1.5, 100, 104, lost=5),
        session(2.0, 150, 104, lost=9),
    )
    assert forwarded(samples, "viewer-1") == Forwarded(100, 1)


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        (session(3.0, 950, 150), None),
        (session(3.0, 949, 151), "51 of 1000 media packets came from user space"),
        (session(3.0, 949, 151, "it is behind"), "51 of 1000 media packets came from user space"),
        (session(3.0, 0, 199), None),  # too few to say anything
        (session(3.0, 0, 200), "100 of 100"),
    ],
)
def test_less_than_its_share_is_a_fault(last, fault):
    faults = judge_forwarding(history(session(1.0, 0, 100), last), "viewer-1")
    assert [fault] == [fault and words[: len(fault)] for words in faults or [None]]


@pytest.mark.parametrize(
    ("seconds", "faults"),
    [(SERVED_SECONDS - 0.1, []), (SERVED_SECONDS, [f"the kernel never served it: {ANEW}"])],
)
def test_a_viewer_that_the_kernel_never_serves_is_a_fault_after_a_while(seconds, faults):
    samples = history(session(1.0, 0, 9, "it has not begun"), session(seconds, 0, 900, ANEW))
    assert judge_forwarding(samples, "viewer-1") == faults


@pytest.mark.parametrize(
    "last",
    [session(60, 0, 900, ANEW, falls=1), session(60, 0, 900, "video: it is behind")],
)
def test_a_viewer_that_takes_no_more_is_not_the_kernels_fault(last):
    assert judge_forwarding(history(session(1.0, 0, 9, ANEW), last), "viewer-1") == []


def test_who_was_not_there_has_no_fault():
    assert forwarded(history(None, None), "viewer-1") is None
    assert judge_forwarding(history(None, None), "viewer-1") == []


def subscription(reason="", open_streams=0, track="video"):
    return {"track": track, "fast_path": reason, "open_streams": open_streams, "falls_behind": 1}


@pytest.mark.parametrize(
    ("subscriptions", "backlog", "reason"),
    [
        ([subscription()], 0, ""),
        ([], 0, "it has not subscribed"),
        ([subscription(), subscription("forward is off")], 0, "video: forward is off"),
        ([subscription(open_streams=1), subscription()], 0, ANEW),
        ([subscription(open_streams=1, track="demo--catalog"), subscription()], 0, ""),
        ([subscription(track="demo--catalog")], 0, "it has not subscribed"),
        ([subscription()], 1200, "packets that wait in user space"),
    ],
)
def test_what_the_relay_says_of_a_viewer(subscriptions, backlog, reason):
    page = {
        "sessions": [
            {
                "address": "[fd00::3]:4444",
                "seconds": 1.5,
                "kernel_packets": 20,
                "user_packets": 10,
                "path": {"packets_lost": 3},
                "subscriptions": subscriptions,
                "backlog": backlog,
            }
        ]
    }
    media = sum(each["track"] == "video" for each in subscriptions)
    told = Session(1.5, Forwarded(20, 10), 3, media, media, reason)
    assert sessions_of(page) == {"fd00::3": told}
    assert sessions_of(None) == {}
