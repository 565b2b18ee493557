"""What may happen to the codec whatever comes in: a value, or one of its own errors.

Each target takes raw bytes, the first of which picks the draft, and raises only if the
codec has a fault: another exception, or a value that does not survive being written and
read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fastrelay.moqt import codec, feedback
from fastrelay.moqt.codes import MalformedTrackError, MoqtError
from fastrelay.moqt.datagrams import decode_datagram, rewrite_datagram
from fastrelay.moqt.drafts import DRAFTS, Draft
from fastrelay.moqt.fetches import FetchParser, decode_fetch_header
from fastrelay.moqt.objects import SubgroupParser, decode_subgroup_header, rewrite_subgroup_header
from fastrelay.moqt.transcode import SubgroupTranscoder
from fastrelay.moqt.varint import IncompleteError

_DRAFTS = tuple(DRAFTS.values())
_VECTORS = Path(__file__).parents[1] / "vectors" / "vectors.json"
_REQUEST_ID = 2


def _control(data: bytes, draft: Draft) -> None:
    position = 0
    while (found := codec.split(data, position, draft)) is not None:
        message_type, body, position = found
        message = codec.decode(message_type, body, draft, request_id=_REQUEST_ID, from_client=False)
        try:
            first = codec.encode(message, draft, is_client=False, publish_ok=message_type == 0x1E)
        except ValueError:
            continue  # A range that ends before it begins is the request's fault.
        split = codec.split(first, 0, draft)
        assert split is not None
        again = codec.decode(*split[:2], draft, request_id=_REQUEST_ID, from_client=False)
        second = codec.encode(again, draft, is_client=False, publish_ok=split[0] == 0x1E)
        assert first == second, (message, again)


def _subgroup(data: bytes, draft: Draft) -> None:
    header, start = decode_subgroup_header(data, draft)
    middle = (start + len(data)) // 2
    parser, pieces = SubgroupParser(header, draft), (data[:middle], data[middle:])
    fed = [parser.feed(pieces[0], start=start), parser.feed(pieces[1])]
    whole = SubgroupParser(header, draft).feed(data, start=start)
    assert (fed[0][0] + fed[1][0], fed[0][1] + fed[1][1]) == whole
    for target in _DRAFTS:
        try:
            rewrite_subgroup_header(header, draft, target, 5)
            body, objects = SubgroupTranscoder(draft.varints, target.varints).feed(*whole)
        except ValueError as error:
            if "does not fit" not in str(error):
                raise
            continue
        assert SubgroupParser(header, target).feed(body) == (body, objects)


def _fetch(data: bytes, draft: Draft) -> None:
    descending, data = bool(data[:1] > b"\x7f"), data[1:]
    _, start = decode_fetch_header(data, draft)
    body, _ = FetchParser(draft, descending).feed(data, start=start)
    assert data[start:].startswith(body)
    parser = FetchParser(draft, descending)
    assert b"".join(parser.feed(body[i : i + 1])[0] for i in range(len(body))) == body


def _datagram(data: bytes, draft: Draft) -> None:
    datagram = decode_datagram(data, draft)
    for target in _DRAFTS:
        try:
            other = decode_datagram(rewrite_datagram(datagram, draft, target, 5), target)
        except ValueError as error:
            if "does not fit" not in str(error):
                raise
            continue
        assert (other.location, other.payload) == (datagram.location, datagram.payload)


def _feedback(data: bytes, draft: Draft) -> None:
    try:
        arrivals = feedback.decode(data)
    except ValueError:
        return
    again = feedback.decode(feedback.encode(arrivals))
    assert [arrival[:3] for arrival in again] == [arrival[:3] for arrival in arrivals]


def _target(run: Callable[[bytes, Draft], None]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        if not data:
            return
        try:
            run(data[1:], _DRAFTS[data[0] % len(_DRAFTS)])
        except (MoqtError, MalformedTrackError, IncompleteError):
            return

    return target


TARGETS: dict[str, Callable[[bytes], None]] = {
    "control": _target(_control),
    "subgroup": _target(_subgroup),
    "fetch": _target(_fetch),
    "datagram": _target(_datagram),
    "feedback": _target(_feedback),
}


def seeds() -> list[tuple[str, bytes]]:
    """Inputs to begin with, by target: every vector that the tests have."""
    found = [("feedback", bytes([0]) + feedback.encode([feedback.Arrival(1, 2, 3, 4.0)] * 3))]
    for name, entry in json.loads(_VECTORS.read_text()).items():
        for number, data in entry.items():
            first = bytes([_DRAFTS.index(DRAFTS[int(number)])])
            kind = name.partition("-")[0]
            if name.startswith("fetch-stream"):
                order = b"\xff" if name.endswith("descending") else b"\0"
                found.append(("fetch", first + order + bytes.fromhex(data)))
            else:
                target = kind if kind in ("subgroup", "datagram") else "control"
                found.append((target, first + bytes.fromhex(data)))
    return found
