"""Codes that drafts number differently, and names."""

from __future__ import annotations

import pytest

from fastrelay.moqt.codes import PublishDoneStatus, RequestErrorCode, StreamError
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, DRAFTS, Draft


def test_the_order_of_preference() -> None:
    assert [str(draft) for draft in DRAFTS.values()] == ["moqt-18", "moqt-22", "moqt-16"]


# Draft, our code, the wire's code, what a receiver makes of it.
STREAM = [
    (DRAFT_16, StreamError.CANCELLED, 1, StreamError.CANCELLED),
    (DRAFT_16, StreamError.UNKNOWN_OBJECT_STATUS, 4, StreamError.UNKNOWN_OBJECT_STATUS),
    (DRAFT_16, StreamError.MALFORMED_TRACK, 0x12, StreamError.MALFORMED_TRACK),
    (DRAFT_16, StreamError.GOING_AWAY, 0, StreamError.INTERNAL_ERROR),
    (DRAFT_16, StreamError.TOO_FAR_BEHIND, 0, StreamError.INTERNAL_ERROR),
    (DRAFT_18, StreamError.GOING_AWAY, 4, StreamError.GOING_AWAY),
    (DRAFT_18, StreamError.UNKNOWN_OBJECT_STATUS, 6, StreamError.UNKNOWN_OBJECT_STATUS),
    (DRAFT_22, StreamError.TOO_FAR_BEHIND, 5, StreamError.TOO_FAR_BEHIND),
    (DRAFT_16, 0x9D, 0x9D, 0x9D),
]


@pytest.mark.parametrize(("draft", "ours", "wire", "received"), STREAM)
def test_stream_errors(draft: Draft, ours: int, wire: int, received: int) -> None:
    assert draft.stream_error_to_wire(ours) == wire
    assert draft.stream_error_from_wire(wire) == received


DONE = [
    (DRAFT_16, PublishDoneStatus.TOO_FAR_BEHIND, 6, PublishDoneStatus.TOO_FAR_BEHIND),
    (DRAFT_16, PublishDoneStatus.EXPIRED, 5, PublishDoneStatus.EXPIRED),
    (DRAFT_16, PublishDoneStatus.EXCESSIVE_LOAD, 0, PublishDoneStatus.INTERNAL_ERROR),
    (DRAFT_18, PublishDoneStatus.TOO_FAR_BEHIND, 5, PublishDoneStatus.TOO_FAR_BEHIND),
    (DRAFT_18, PublishDoneStatus.SUBSCRIPTION_ENDED, 3, PublishDoneStatus.SUBSCRIPTION_ENDED),
    (DRAFT_22, PublishDoneStatus.SUBSCRIPTION_ENDED, 0, PublishDoneStatus.INTERNAL_ERROR),
]


@pytest.mark.parametrize(("draft", "ours", "wire", "received"), DONE)
def test_publish_done(draft: Draft, ours: int, wire: int, received: int) -> None:
    assert draft.publish_done_to_wire(ours) == wire
    assert draft.publish_done_from_wire(wire) == received


def test_request_errors() -> None:
    code = RequestErrorCode.EXCESSIVE_LOAD
    assert [draft.request_error_to_wire(code) for draft in (DRAFT_16, DRAFT_18)] == [0, 9]
