"""Program B as docs/dataplane.md says, in plain Python: what becomes of a clone."""

from __future__ import annotations

from dataclasses import dataclass

from bpf.model_state import Connection, Frame, Leg, Member, Slot, State, Template
from bpf.packets import ip, protect, udp, varint
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import Verdict
from fastrelay.fastpath.layout import KEYSTREAMS_AHEAD, LegState, Outcome, Reason

TAG = 16
PACKET_NUMBER = 2
LEAST = 4
"""Bytes of frames at least, for the sample of header protection."""


@dataclass(frozen=True)
class Report:
    sequence: int
    position: int
    connection: int
    outcome: Outcome
    packet_number: int
    size: int | None
    """None: of a copy that was not sent; it may be anything."""
    dropped: int = 0
    """A bit for each frame of the slot."""


@dataclass(frozen=True)
class Passed:
    """It is no clone of ours: it goes on as it is."""


@dataclass(frozen=True)
class Dropped:
    report: Report | None


@dataclass(frozen=True)
class Sent:
    """``packet``: from Ethernet on."""

    report: Report
    packet: bytes


class FailError(Exception):
    """The copy cannot be sent by the kernel."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def egress(
    state: State, packet: bytes, magic: int, low: int, position: int
) -> Passed | Dropped | Sent:
    """A packet with our mark; ``low``: the low half of a slot's sequence."""
    age = (state.slot_next - low) % (1 << 32)
    if magic != layout.CLONE_MAGIC or position >= layout.ARRAY_MEMBERS or not 1 <= age <= 1 << 31:
        state.count(Reason.B_FORGED)
        return Passed()
    slot = state.slots.get(low % layout.SLOTS)
    if slot is None or slot.sequence % (1 << 32) != low:
        return _drop(state, Reason.B_STALE)
    members = state.arrays[slot.array] if slot.frames else []
    if position >= len(members):
        return _drop(state, Reason.B_STALE)
    if position in slot.claimed:
        return _drop(state, Reason.B_CLAIMED)
    slot.claimed.add(position)
    slot.done += 1
    member = state.members[members[position]]
    connection = state.connections[member.connection]
    dropped: list[int] = []
    try:
        made = _send(state, slot, position, member, connection, dropped)
        if made is None and dropped:
            raise FailError(Outcome.DROPPED)
    except FailError as error:
        state.count(Reason.B_OUTCOME + error.outcome)
        report = Report(low, position, connection.index, error.outcome, 0, None, _bits(dropped))
        return Dropped(report)
    if made is None:
        return _drop(state, Reason.B_SKIPPED)
    number, datagram = made
    state.count(Reason.B_OUTCOME + Outcome.SENT)
    member.packets += 1
    member.bytes += len(datagram)
    report = Report(
        low, position, connection.index, Outcome.SENT, number, len(datagram), _bits(dropped)
    )
    return Sent(report, _wire(packet, connection, datagram))


def _bits(dropped: list[int]) -> int:
    return sum(1 << index for index in dropped)


def _drop(state: State, reason: Reason) -> Dropped:
    state.count(reason)
    return Dropped(None)


def _send(
    state: State,
    slot: Slot,
    position: int,
    member: Member,
    connection: Connection,
    dropped: list[int],
) -> tuple[int, bytes] | None:
    """Packet number and UDP payload; None: nothing of the slot is for the member.

    :param dropped: gets the places of frames that are dropped.
    :raises FailError: see there; what was taken has been given back.
    """
    if not connection.send:
        raise FailError(Outcome.CONNECTION_OFF)
    if not member.on:
        raise FailError(Outcome.MEMBER_OFF)
    undo: list[tuple[Leg, int]] = []
    frames = []
    charged = 0
    try:
        for index, frame in enumerate(slot.frames):
            if not member.first_ordinal <= frame.ordinal <= member.last_ordinal:
                continue
            if _is_over(state, position, frame):
                continue
            band = connection.bands.band(frame.priority, member.priority)
            if _is_dropped(state, position, connection, frame, band):
                dropped.append(index)
                continue
            if not frames:
                charged = band
            frames.append(_frame(state, position, member, connection, frame, undo))
        if not frames:
            return None
        payload = b"".join(frames).ljust(LEAST, b"\0")
        tag = 0 if connection.plaintext else TAG
        size = 1 + len(connection.dcid) + PACKET_NUMBER + len(payload) + tag
        _take_window(connection, size)
    except FailError:
        _give_back(connection, undo)
        raise
    if connection.packet_number >= connection.packet_number_limit:
        connection.bytes_sent -= size
        _give_back(connection, undo)
        raise FailError(Outcome.NO_NUMBER)
    number = connection.packet_number
    connection.packet_number += 1
    made = connection.ahead.get(number % KEYSTREAMS_AHEAD)
    if made == (number, connection.tx_generation):
        state.count(Reason.B_AHEAD)
    datagram = protect(
        connection.from_relay,
        connection.dcid,
        number,
        payload,
        generation=connection.tx_generation,
        number_length=PACKET_NUMBER,
    )
    connection.bands.charge(charged, size, 0)
    return number, datagram


def _is_dropped(
    state: State, position: int, connection: Connection, frame: Frame, band: int
) -> bool:
    """Whether a frame that begins something is not to be sent, and nothing that follows it."""
    stream = state.streams.get(frame.stream % layout.STREAMS) if frame.stream else None
    if frame.stream:
        if stream is None or stream.sequence != frame.stream:
            return False
        if frame.offset or position in stream.legs:
            return False
    if connection.bands.judge(band, frame.ordinal, 0) is Verdict.ADMITTED:
        return False
    state.count(Reason.B_DROPPED_LEVEL)
    connection.bands.drop(band)
    if stream is not None:
        stream.legs[position] = Leg(LegState.DROPPED, 0, 0, 0)
    return True


def _take_window(connection: Connection, size: int) -> None:
    if connection.bytes_sent + size > connection.bytes_limit:
        raise FailError(Outcome.NO_WINDOW)
    if size > min(connection.packet_size_limit, layout.MAX_DATAGRAM):
        raise FailError(Outcome.TOO_LARGE)
    connection.bytes_sent += size


def _give_back(connection: Connection, undo: list[tuple[Leg, int]]) -> None:
    for leg, before in reversed(undo):
        connection.data_used -= leg.highest - before
        leg.highest = before


def _is_over(state: State, position: int, frame: Frame) -> bool:
    """Whether the kernel has no part any more in the frame's stream towards the member."""
    stream = state.streams.get(frame.stream % layout.STREAMS) if frame.stream else None
    if stream is None or stream.sequence != frame.stream:
        return False
    leg = stream.legs.get(position)
    return leg is not None and leg.state is not LegState.KERNEL


def _frame(
    state: State,
    position: int,
    member: Member,
    connection: Connection,
    frame: Frame,
    undo: list[tuple[Leg, int]],
) -> bytes:
    """A frame as the member gets it."""
    if not frame.stream:
        data = frame.data
        if member.datagram is not None:
            data = _rewritten(member.datagram, data, frame.cut, frame.keep_at, frame.keep_length)
        made = b"\x31" + varint(len(data), 2) + data
        if len(made) > connection.datagram_limit:
            raise FailError(Outcome.TOO_LARGE)
        return made
    stream = state.streams.get(frame.stream % layout.STREAMS)
    if stream is None or stream.sequence != frame.stream:
        raise FailError(Outcome.NO_LEG)
    offset, data = frame.offset, frame.data
    if member.stream is not None:
        before, after = member.stream
        if offset == 0:
            data = _rewritten(member.stream, data, stream.cut, stream.keep_at, stream.keep_length)
        else:
            offset += len(before) + stream.keep_length + len(after) - stream.cut
    leg = stream.legs.get(position)
    if leg is None:
        if frame.offset:
            raise FailError(Outcome.NO_LEG)
        leg = _begin_leg(connection, member)
        stream.legs[position] = leg
    _take_data(connection, leg, offset + len(data), undo)
    kind = 0x0A | (4 if offset else 0) | frame.fin
    head = bytes([kind]) + varint(leg.stream_id)
    if offset:
        head += varint(offset)
    return head + varint(len(data), 2) + data


def _rewritten(template: Template, data: bytes, cut: int, keep_at: int, keep: int) -> bytes:
    if cut > len(data):
        raise FailError(Outcome.FAILED)
    before, after = template
    return before + data[keep_at : keep_at + keep] + after + data[cut:]


def _begin_leg(connection: Connection, member: Member) -> Leg:
    if connection.stream_number >= connection.stream_number_limit:
        raise FailError(Outcome.NO_STREAM)
    stream_id = connection.stream_number << 2 | connection.stream_bits
    connection.stream_number += 1
    member.streams += 1
    return Leg(LegState.KERNEL, stream_id, 0, connection.stream_data_limit)


def _take_data(connection: Connection, leg: Leg, end: int, undo: list[tuple[Leg, int]]) -> None:
    if end > leg.limit:
        raise FailError(Outcome.NO_STREAM_DATA)
    if end <= leg.highest:
        return
    growth = end - leg.highest
    if connection.data_used + growth > connection.data_limit:
        raise FailError(Outcome.NO_DATA)
    connection.data_used += growth
    undo.append((leg, leg.highest))
    leg.highest = end


def _wire(original: bytes, connection: Connection, datagram: bytes) -> bytes:
    """Back to where the original came from; IPv4 with DF and no id."""
    path = connection.path.reverse()
    content = udp(path, datagram)
    family = path.family
    header = ip(path, content, fragment=0x4000, ttl=64, identification=0)
    kind = b"\x08\x00" if family == 4 else b"\x86\xdd"
    return original[6:12] + original[:6] + kind + header
