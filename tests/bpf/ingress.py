"""Program A on a scenario: what one packet led to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpf.harness import TC_ACT_UNSPEC, Captured, Datapath
from bpf.scenario import Peer, Scenario
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import FrameKind, Reason
from streams import StreamIndex

MARK, CB = 0x00C0FFEE, (1, 2, 3, 4, 5)
"""Of the original packet: a guest's, to be left as they were."""


@dataclass(frozen=True)
class Seen:
    """``counted``: counters that grew, by how much; not those about kinds of packets (C_)."""

    intents: np.ndarray[Any, Any]
    clones: list[Captured]
    counted: dict[Reason | int, int]

    def positions(self, intent: int = 0) -> list[int]:
        """Of the clones of an intent, in the order in which they came."""
        sequence = int(self.intents[intent]["sequence"]) & 0xFFFFFFFF
        return [clone.cb[2] for clone in self.clones if clone.cb[1] == sequence]


class Ingress:
    """Gives packets to program A. Whatever it does, the packet itself goes on unaltered."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.datapath: Datapath = scenario.datapath
        self._counted: dict[Reason | int, int] = {}
        self.seen_last: Seen | None = None

    def packet(self, packet: bytes, gso_size: int = 0) -> Seen:
        result = self.datapath.run("server_ingress", packet, mark=MARK, cb=CB, gso_size=gso_size)
        assert result.action == TC_ACT_UNSPEC
        assert result.data == packet
        assert (result.mark, result.cb) == (MARK, CB)
        counted = self.datapath.counters()
        grown = {
            reason: number - self._counted.get(reason, 0)
            for reason, number in counted.items()
            if number != self._counted.get(reason, 0) and reason < Reason.C_LONG_INITIAL
        }
        self._counted = counted
        seen = Seen(self.datapath.intents(), self.datapath.captured(), grown)
        self._check(seen)
        self.seen_last = seen
        return seen

    def frames(self, peer: Peer, *frames: bytes, **how: Any) -> Seen:
        """A packet of the peer's with these frames."""
        return self.packet(peer.packet(b"".join(frames), **how))

    def slot(self, intent: np.void) -> np.void:
        found: np.void = self.datapath.view("slots")[int(intent["sequence"]) % layout.SLOTS]
        return found

    def data(self, intent: np.void, index: int) -> bytes:
        """The plaintext of a frame of a slot."""
        slot = self.slot(intent)
        frame = slot["frames"][index]
        return bytes(slot["data"][frame["at"] : frame["at"] + frame["length"]])

    def stream(self, peer: Peer, stream_id: int) -> np.void | None:
        keys = self.datapath.view("stream_index")["keys"].reshape(-1)
        row = StreamIndex(keys.tolist()).find(peer.index, stream_id)
        if row is None:
            return None
        entry: np.void = self.datapath.view("streams")[row]
        assert entry["sequence"] % layout.STREAMS == row
        return entry

    def _check(self, seen: Seen) -> None:
        """What holds for every intent, its slot, and its clones."""
        for intent in seen.intents:
            slot = self.slot(intent)
            low = int(intent["sequence"]) & 0xFFFFFFFF
            assert slot["sequence"] == intent["sequence"]
            assert slot["done"] == low << 32
            words = -(-int(intent["members"]) // 32)
            assert (slot["claims"][:words] == low << 32).all()
            for name in ("array", "packet_number", "connection", "members", "frame_count"):
                assert slot[name] == intent[name], name
            count = self.datapath.view("arrays")[intent["array"]]["count"]
            assert intent["members"] == (count if intent["frame_count"] else 0)
            _check_frames(slot, intent)
        numbers = [(clone.cb[1], clone.cb[2]) for clone in seen.clones]
        assert len(numbers) == len(set(numbers)), "a member has two clones of a slot"
        for clone in seen.clones:
            assert clone.cb[0] == layout.CLONE_MAGIC
            assert clone.mark & layout.CLONE_MARK_MASK == layout.CLONE_MARK
            assert clone.hash == self._hash(seen.intents, clone)

    def _hash(self, intents: np.ndarray[Any, Any], clone: Captured) -> int:
        intent = next(each for each in intents if int(each["sequence"]) & 0xFFFFFFFF == clone.cb[1])
        member = self.datapath.view("arrays")[intent["array"]]["members"][clone.cb[2]]
        connection = self.datapath.view("members")[member]["connection"]
        return int(self.datapath.view("connections")[connection]["hash"])


def _check_frames(slot: np.void, intent: np.void) -> None:
    for at in range(int(intent["frame_count"])):
        frame, told = slot["frames"][at], intent["frames"][at]
        for name in ("stream", "offset", "ordinal", "length", "kind", "fin"):
            assert frame[name] == told[name], name
        assert frame["at"] + frame["length"] <= slot["data_length"] <= layout.DATA_SIZE
        if told["kind"] == FrameKind.DATAGRAM:
            assert (told["stream"], told["offset"], told["fin"]) == (0, 0, 0)


def told(intent: np.void) -> list[tuple[int, int, int, int, bool]]:
    """Frames of an intent: kind, upstream stream id, offset, length, fin."""
    return [
        (
            int(frame["kind"]),
            int(frame["stream_id"]),
            int(frame["offset"]),
            int(frame["length"]),
            bool(frame["fin"]),
        )
        for frame in intent["frames"][: int(intent["frame_count"])]
    ]


def stream_told(
    stream_id: int, offset: int, length: int, fin: bool = False
) -> tuple[int, int, int, int, bool]:
    """What :func:`told` gives for a STREAM frame."""
    return (FrameKind.STREAM, stream_id, offset, length, fin)


def lengths(parts: Sequence[bytes]) -> list[int]:
    return [len(part) for part in parts]
