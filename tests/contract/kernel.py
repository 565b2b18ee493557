"""A kernel in Python: sends on a server's connection from outside of its engine.

It has what the real one has (shared counters, keys, credit, legs, a ring of reports) and keeps
the same rules, and it plays the relay's part too: what is lost is sent again by user space, from
the very bytes the kernel had.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_ack_frame
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from contract.wire import Wire
from fastrelay.fastpath.layout import REPORT
from fastrelay.moqt.varint import encode_quic
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.lease import Heard, ReceiveState, Row, SendState
from fastrelay.quic.ledger import Account, Ledger
from ring_records import in_ring

_TAG = 16


@dataclass
class Leg:
    """A stream that the kernel began: its bytes, and how far they were sent by whom."""

    stream_id: int
    limit: int
    data: bytes = b""
    ended: bool = False
    """All of ``data`` is there."""
    highest: int = 0
    fin_sent: bool = False
    users: bool = False
    closed: bool = False

    def read(self, start: int, stop: int) -> bytes | None:
        return self.data[start:stop]


@dataclass
class Refused:
    """How often credit was lacking, by kind."""

    counts: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str) -> bool:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return False


class Kernel:
    """Lease of one engine, and helper of its wire."""

    account: Account

    def __init__(self, wire: Wire, *, index: int = 3) -> None:
        assert isinstance(wire.server, Engine)
        self.wire = wire
        self.engine = wire.server
        self.ledger = Ledger(8)
        self.ledger.catch_up = self.catch_up
        self.account = self.ledger.open(index)
        self.index = index
        self.legs: dict[int, Leg] = {}
        self.refused = Refused()
        self.suspended = 0
        self.suspensions = 0
        self.resumptions = 0
        self.credits = 0
        self.lost: list[Row] = []
        self.stopped: list[tuple[int, int]] = []
        self.sent: dict[int, tuple[int, int, int, bool]] = {}
        """By sequence: stream, start, stop, fin."""
        self.numbers: list[int] = []
        self.packet_size = 0
        self.hold_reports = False
        self.drained = 0
        self.lets = False
        self.acknowledgements = 0
        """That were taken."""
        self._taken: list[tuple[int, int, int, int, float]] = []
        """Acknowledgements that were read here: number, first, largest, delay, when."""
        self._outgoing: list[tuple[int, bytes]] = []
        self._reports: list[tuple[int, int, int, int]] = []
        self._sequence = 0xFFFFFF00  # so that its low half wraps
        self._random = random.Random(1)
        credit = self.engine.credit()
        self._packet_number = credit.next_packet_number
        self._stream_number = credit.next_stream_number
        self._data_used = credit.data_used
        self._bytes_limit = self._ack_bytes = 0
        self.send_state: SendState | None = None
        self.receive_state: ReceiveState | None = None
        assert self.engine.fast_reason == ""
        self.engine.lend(self)
        self._refresh()
        wire.helper = self

    # -- Lease

    def take_packet_number(self) -> int:
        self._packet_number += 1
        self.numbers.append(self._packet_number - 1)
        return self._packet_number - 1

    def next_packet_number(self) -> int:
        return self._packet_number

    def take_stream_number(self) -> int:
        self._stream_number += 1
        return self._stream_number - 1

    def next_stream_number(self) -> int:
        return self._stream_number

    def take_data(self, size: int) -> int:
        taken = max(0, min(size, self.engine.credit().data_limit - self._data_used))
        self._data_used += taken
        return taken

    def give_data(self, size: int) -> None:
        assert size >= 0
        self._data_used -= size

    def stream_limit(self, stream_id: int) -> int:
        return self.legs[stream_id].limit

    def drain(self) -> None:
        self.drained += 1
        self.hold_reports = False
        self.collect()

    def suspend(self) -> None:
        self.suspended += 1
        self.suspensions += 1
        self.collect()

    def resume(self) -> None:
        self.suspended -= 1
        self.resumptions += 1
        assert self.suspended >= 0
        if not self.suspended:
            self._refresh()

    def _refresh(self) -> None:
        self.send_state = self.engine.send_state()
        self.receive_state = self.engine.receive_state()
        self.credit_changed()

    def credit_changed(self) -> None:
        self.credits += 1
        credit = self.engine.credit()
        assert credit.own_in_flight >= 0
        self.window_changed(max(0, credit.congestion_window - credit.own_in_flight))
        self.packet_size = credit.packet_size

    def window_changed(self, room: int) -> None:
        self._bytes_limit = self.account.bytes_gone + room
        self._ack_bytes = self.account.bytes_gone + room // 2

    def let_acknowledgements(self, taken: bool) -> None:
        self.lets = taken
        if not taken:
            self.catch_up()

    def catch_up(self) -> None:
        taken, self._taken = self._taken, []
        if taken:
            self.hold_reports = False
            self._collect()
        for number, first, largest, delay, at in taken:
            oldest = self.account.oldest()
            size, newest, sent = self.account.acknowledge(first, largest + 1) or (0, -1, 0.0)
            assert not size or (oldest is not None and oldest[0] >= first)
            self.engine.on_acknowledgements(
                Heard(
                    first_number=number,
                    last_number=number,
                    largest=largest,
                    delay=delay,
                    time=at,
                    size=size,
                    oldest_sent=oldest[1] if size and oldest is not None else math.inf,
                    newest=newest,
                    newest_sent=sent,
                )
            )
            credit = self.engine.credit()
            self.window_changed(max(0, credit.congestion_window - credit.own_in_flight))

    def stream_limit_raised(self, stream_id: int, limit: int) -> None:
        leg = self.legs.get(stream_id)
        if leg is not None:
            leg.limit = max(leg.limit, limit)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        leg = self.legs.get(stream_id)
        if leg is None:
            return
        self.stopped.append((stream_id, code))
        leg.closed = leg.users = True
        self.engine.adopt(stream_id, leg, leg.highest, continued=True)
        self.engine.reset_stream(stream_id, code)

    def packets_lost(self, rows: Sequence[Row]) -> None:
        self.lost += rows
        for sequence, position in rows:
            assert position == 5
            stream_id, start, stop, fin = self.sent[sequence]
            leg = self.legs[stream_id]
            if stream_id and not leg.closed:
                self.engine.adopt(stream_id, leg, leg.highest, continued=False)
                self.engine.send_range(stream_id, start, stop, fin)

    # -- wire.Helper

    def collect(self) -> None:
        if self.hold_reports:
            return
        if self._random.random() < 0.2:
            self.catch_up()
        self._collect()

    def _collect(self) -> None:
        reports, self._reports = self._reports, []
        records = np.zeros(len(reports), REPORT.dtype)
        self._random.shuffle(reports)
        for record, (number, time, sequence, size) in zip(records, reports, strict=True):
            record["packet_number"], record["time"], record["size"] = number, time, size
            record["sequence"], record["connection"] = sequence, self.index
            record["position"] = 5
        assert self.ledger.record(in_ring(records)) == len(records)
        for account in self.ledger.overdue(self.wire.now):
            account.on_due(self.wire.now)
        assert self.ledger.overwritten == 0

    def flight(self, own: list[bytes], now: float) -> list[bytes]:
        flight = own + [data for _, data in self._outgoing]
        self._outgoing.clear()
        return flight

    def takes(self, data: bytes, now: float) -> bool:
        """As program A: an acknowledgement alone, and nothing in it that is urgent."""
        state = self.receive_state
        if not self.lets or state is None or data[1:9] != state.cid:
            return False
        try:
            opened = open_packet(state, data)
        except InvalidTag:
            return False
        if opened is None:
            return False
        first_byte, number, plain = opened
        if plain[:1] != b"\x02" or (first_byte >> 2 & 1) != state.phase:
            return False
        buf = Buffer(data=plain[1:])
        ranges, delay = pull_ack_frame(buf)
        if any(buf.pull_bytes(buf.capacity - buf.tell())) or number < state.phase_start:
            return False
        first, largest = ranges[-1].start, ranges[-1].stop - 1
        if largest >= self._packet_number or first > self.account.low:
            return False
        if self.account.bytes_sent + self._unreported > self._ack_bytes:
            return False
        if self._random.random() < 0.1:
            return False  # for want of room
        self.acknowledgements += 1
        self._taken.append((number, first, largest, delay, now))
        return True

    # -- what the programs do

    def begin(self) -> Leg | None:
        """A new stream, if there is a number for it."""
        if self.suspended or self.send_state is None:
            return None
        if self._stream_number >= self.engine.credit().stream_number_limit:
            self.refused.note("stream")
            return None
        number = self.take_stream_number()
        stream_id = number * 4 + self.send_state.stream_bits
        leg = self.legs[stream_id] = Leg(stream_id, self.send_state.stream_data_limit)
        return leg

    def send(self, leg: Leg, size: int) -> bool:
        """The next bytes of a stream, in one packet; with the last ones its end."""
        state = self.send_state
        if self.suspended or state is None or leg.users:
            return False
        start, stop = leg.highest, min(leg.highest + size, len(leg.data))
        fin = leg.ended and stop == len(leg.data)
        frame = (
            encode_quic(0x0A | (4 if start else 0) | fin)
            + encode_quic(leg.stream_id)
            + (encode_quic(start) if start else b"")
            + encode_quic(stop - start)
            + leg.data[start:stop]
        )
        packet_size = 1 + len(state.dcid) + 2 + max(2, len(frame)) + _TAG
        if packet_size > self.packet_size:
            return self.refused.note("size")
        if stop > leg.limit:
            return self.refused.note("stream data")
        if self.account.bytes_sent + self._unreported + packet_size > self._bytes_limit:
            return self.refused.note("window")
        if self._packet_number >= self.account.packet_number_limit:
            return self.refused.note("number")
        taken = self.take_data(stop - start)
        if taken < stop - start:
            self.give_data(taken)
            return self.refused.note("data")
        self._emit(state, frame, (leg.stream_id, start, stop, fin))
        leg.highest, leg.fin_sent = stop, fin
        return True

    @property
    def _unreported(self) -> int:
        return sum(size for *_, size in self._reports)

    def _emit(self, state: SendState, frame: bytes, what: tuple[int, int, int, bool]) -> None:
        number = self.take_packet_number()
        packet = seal(state, number, frame)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self.sent[self._sequence] = what
        self._reports.append((number, int(self.wire.now * 1e9), self._sequence, len(packet)))
        self._outgoing.append((number, packet))

    # -- what the relay does

    def take_over(self, leg: Leg) -> None:
        """User space goes on with what is left of the stream."""
        leg.users = True
        self.engine.adopt(leg.stream_id, leg, leg.highest, continued=True)
        if not leg.fin_sent:
            assert self.engine.write(leg.stream_id, leg.data[leg.highest :], leg.ended)


def seal(state: SendState, number: int, payload: bytes) -> bytes:
    """A packet with a number of two bytes (RFC 9001 sections 5.3, 5.4)."""
    payload = payload.ljust(2, b"\x00")
    header = bytes([0x41 | state.phase << 2]) + state.dcid + (number & 0xFFFF).to_bytes(2, "big")
    nonce = (int.from_bytes(state.keys.iv, "big") ^ number).to_bytes(12, "big")
    sealed = ChaCha20Poly1305(state.keys.key).encrypt(nonce, payload, header)
    mask = Cipher(ChaCha20(state.hp, sealed[2:18]), None).encryptor().update(bytes(5))
    masked = bytes([header[-2] ^ mask[1], header[-1] ^ mask[2]])
    return bytes([header[0] ^ mask[0] & 0x1F]) + header[1:-2] + masked + sealed


def opens(state: ReceiveState, data: bytes) -> bytes | None:
    """What program A would read of a packet; None: not authentic with any of its keys."""
    opened = open_packet(state, data)
    return None if opened is None else opened[2]


def open_packet(state: ReceiveState, data: bytes) -> tuple[int, int, bytes] | None:
    """First byte, packet number, text; None: there is no key for it.

    :raises InvalidTag: it is not authentic.
    """
    if not any(data[1 : 1 + len(cid)] == cid for cid in state.cids):
        return None
    start = 1 + len(state.cids[0])
    sample = data[start + 4 : start + 20]
    mask = Cipher(ChaCha20(state.hp, sample), None).encryptor().update(bytes(5))
    first = data[0] ^ mask[0] & 0x1F
    length = (first & 3) + 1
    raw = bytes(a ^ b for a, b in zip(data[start : start + length], mask[1:], strict=False))
    bits = 8 * length
    expected = state.largest + 1
    number = expected & -1 << bits | int.from_bytes(raw, "big")
    for candidate in (number - (1 << bits), number + (1 << bits)):
        if candidate >= 0 and abs(candidate - expected) < abs(number - expected):
            number = candidate
    if first >> 2 & 1 == state.phase:
        keys = state.current
    elif number < state.phase_start:
        keys = state.previous
    else:
        keys = state.following
    if keys is None:
        return None
    nonce = (int.from_bytes(keys.iv, "big") ^ number).to_bytes(12, "big")
    header = bytes([first]) + data[1:start] + raw
    return first, number, ChaCha20Poly1305(keys.key).decrypt(nonce, data[start + length :], header)


def lent_wire(client: type[QuicConnection] = Engine, **arguments: object) -> tuple[Wire, Kernel]:
    """A connection after its handshake, lent to a kernel."""
    from aioquic.tls import CipherSuite

    wire = Wire(
        client,
        Engine,
        cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256],
        **arguments,  # type: ignore[arg-type]
    )
    wire.handshake()
    return wire, Kernel(wire)


def set_window(kernel: Kernel, size: int) -> None:
    """The congestion window, from which on it hardly grows."""
    controller: Any = kernel.engine._recovery._cc
    rule = controller._rule
    rule._window = rule._largest = rule.threshold = float(size)
    rule._epoch = None
    controller._tell()
    kernel.credit_changed()
