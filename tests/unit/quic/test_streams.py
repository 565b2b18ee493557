"""SendBuffer does what aioquic's QuicStreamSender does, whatever happens to its frames."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStreamSender
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.quic.aioquic_private.streams import SendBuffer


class Owner:
    def __init__(self) -> None:
        self.wanted: list[bool] = []
        self.finished = 0

    def sending_wanted(self, _stream_id: int, *, reset: bool) -> None:
        self.wanted.append(reset)

    def sending_finished(self, _stream_id: int) -> None:
        self.finished += 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=40)),
        st.tuples(st.just("fin"), st.just(b"")),
        st.tuples(st.just("send"), st.integers(-1, 30), st.integers(0, 120)),
        st.tuples(st.just("ack"), st.integers(0, 50)),
        st.tuples(st.just("lose"), st.integers(0, 50)),
        st.tuples(st.just("reset"), st.integers(0, 5)),
        st.tuples(st.just("reset sent"), st.booleans()),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(STEPS)
def test_same_as_aioquic(steps: list[tuple[Any, ...]]) -> None:
    owner = Owner()
    ours, theirs = SendBuffer(4, owner), QuicStreamSender(4, True)
    flying: list[tuple[int, int, bool]] = []
    over = False
    for step in steps:
        if step[0] in ("write", "fin"):
            if not over:
                over = step[0] == "fin"
                for sender in (ours, theirs):
                    sender.write(step[1], end_stream=over)
            else:
                for sender in (ours, theirs):
                    with pytest.raises(RuntimeError):
                        sender.write(step[1])
        elif step[0] == "send" and theirs._reset_error_code is None:
            frames = [sender.get_frame(step[1], step[2]) for sender in (ours, theirs)]
            assert frames[0] == frames[1]
            if frames[0] is not None:
                offset = frames[0].offset
                flying.append((offset, offset + len(frames[0].data), frames[0].fin))
        elif step[0] in ("ack", "lose") and flying:
            start, stop, fin = flying.pop(step[1] % len(flying))
            state = QuicDeliveryState.ACKED if step[0] == "ack" else QuicDeliveryState.LOST
            for sender in (ours, theirs):
                sender.on_data_delivery(state, start, stop, fin)
        elif step[0] == "reset":
            for sender in (ours, theirs):
                sender.reset(step[1])
            over = over or not ours.is_finished
        elif step[0] == "reset sent" and ours.reset_pending:
            assert ours.get_reset_frame() == theirs.get_reset_frame()
            state = QuicDeliveryState.ACKED if step[1] else QuicDeliveryState.LOST
            for sender in (ours, theirs):
                sender.on_reset_delivery(state)
        assert ours.is_finished == theirs.is_finished
        assert ours.reset_pending == theirs.reset_pending
        assert ours.highest_offset == theirs.highest_offset
        if not theirs.buffer_is_empty and theirs._reset_error_code is None:
            # aioquic notices an empty buffer one call later.
            assert not ours.buffer_is_empty or (
                not len(theirs._pending) and not theirs._pending_eof
            )
    assert owner.finished == ours.is_finished


def test_one_object_is_not_copied() -> None:
    sender = SendBuffer(2, Owner())
    data = bytes(1100)
    sender.write(data, end_stream=True)
    frame = sender.get_frame(1150)
    assert frame is not None
    assert frame.data is data


def test_what_a_reset_throws_away_is_told_once() -> None:
    sender = SendBuffer(2, Owner())
    sender.write(bytes(100))
    sender.get_frame(30)
    sender.reset(1)
    assert sender.discard_unsent() == 70
    assert sender.discard_unsent() == 0
