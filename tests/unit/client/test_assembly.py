"""Stream bodies in pieces of any size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastrelay.client.assembly import Assembler
from fastrelay.moqt.events import ObjectHeader
from fastrelay.moqt.names import Location, ObjectStatus


@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(1, 15), min_size=1))
def test_payloads_come_out_whole(payloads: list[bytes], sizes: list[int]) -> None:
    body, headers = b"", []
    for number, payload in enumerate(payloads):
        start = len(body)
        body += b"head" + payload
        headers.append(
            ObjectHeader(
                Location(0, number), 0, None, None, ObjectStatus.NORMAL, start, start + 4, len(body)
            )
        )
    assembler = Assembler()
    got, position, turn = [], 0, 0
    while position < len(body):
        # As a session does it: a piece never ends within a header.
        end = min(len(body), position + sizes[turn % len(sizes)])
        for header in headers:
            if header.start < end < header.payload_start:
                end = header.payload_start
        complete = [h for h in headers if position < h.payload_start <= end]
        got += [
            (h, data)
            for h, data, at in assembler.feed(body[position:end], complete, turn)
            if at >= 0
        ]
        position, turn = end, turn + 1
    assert [data for _, data in got] == payloads
    assert assembler.held == 0
