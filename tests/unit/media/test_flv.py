"""The FLV demuxer on what ffmpeg writes, in pieces of any size, and on what it never writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.catalog import Kind
from fastrelay.media.flv import FlvConfig, FlvDemuxer, FlvFrame
from fastrelay.media.formats import MediaError
from unit.media.golden import AUDIO, FRAMES, GOP, VIDEO, frames, items


def tag(kind: int, body: bytes, time: int = 0) -> bytes:
    head = bytes([kind]) + len(body).to_bytes(3) + (time & 0xFFFFFF).to_bytes(3)
    head += bytes([time >> 24 & 0xFF]) + bytes(3)
    return head + body + (len(body) + 11).to_bytes(4)


HEADER = b"FLV\x01\x05" + (9).to_bytes(4) + bytes(4)


def test_reads_every_frame_of_a_recording() -> None:
    video = frames(VIDEO)
    assert len(video) == FRAMES
    assert [frame.milliseconds for frame in video] == [100 * n for n in range(FRAMES)]
    assert [n for n, frame in enumerate(video) if frame.key] == list(range(0, FRAMES, GOP))
    assert all(frame.offset == 0 and frame.kind is Kind.VIDEO for frame in video)


def test_first_audio_frame_lies_before_time_zero_of_the_input() -> None:
    audio = frames(AUDIO)
    assert audio[0].milliseconds == 1000 - 21
    assert audio[1].milliseconds == 1000
    assert {frame.kind for frame in audio} == {Kind.AUDIO}


def test_configuration_comes_first() -> None:
    assert isinstance(items(VIDEO)[0], FlvConfig)
    assert isinstance(items(AUDIO)[0], FlvConfig)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_pieces_of_any_size_make_the_same_items(sizes: list[int]) -> None:
    demuxer = FlvDemuxer()
    found: list[FlvConfig | FlvFrame] = []
    position, turn = 0, 0
    while position < len(VIDEO):
        size = sizes[turn % len(sizes)]
        found += demuxer.feed(VIDEO[position : position + size])
        position, turn = position + size, turn + 1
    assert found == items(VIDEO)
    assert demuxer.pending == 0


def test_a_truncated_stream_leaves_bytes_pending() -> None:
    demuxer = FlvDemuxer()
    demuxer.feed(VIDEO[:-1])
    assert demuxer.pending > 0


def test_times_are_signed_and_have_eight_more_bits() -> None:
    stream = HEADER + tag(9, b"\x17\x01\0\0\0x", -40) + tag(9, b"\x27\x01\xff\xff\xd8y", 1 << 24)
    first, second = FlvDemuxer().feed(stream)
    assert isinstance(first, FlvFrame)
    assert isinstance(second, FlvFrame)
    assert (first.milliseconds, first.key) == (-40, True)
    assert (second.milliseconds, second.key, second.offset) == (1 << 24, False, -40)


def test_scripts_ends_of_sequence_and_empty_tags_are_passed_over() -> None:
    stream = HEADER + tag(18, b"onMetaData") + tag(9, b"\x17\x02\0\0\0") + tag(8, b"")
    assert FlvDemuxer().feed(stream) == []


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"RIFF", "not FLV"),
        (b"FLV\x01\x05\0\0\0\x0a" + bytes(8), "header"),
        (HEADER + tag(9, b"\x12\x00\0\0\0"), "not H.264"),
        (HEADER + tag(9, b"\x17\x00"), "not H.264"),
        (HEADER + tag(8, b"\x2f\x00"), "not AAC"),
        (HEADER + tag(8, b"\xaf\x01x")[:-1] + b"\x07", "damaged"),
    ],
)
def test_other_streams_are_refused(stream: bytes, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        FlvDemuxer().feed(stream)
