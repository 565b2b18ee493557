"""First packets: who comes in, who is answered, who is ignored."""

from __future__ import annotations

import random

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header

from fastrelay.quic.admission import Admission, Admitted
from fastrelay.quic.counters import EndpointCounters
from fastrelay.quic.door import Door, OpenDoor, Verdict
from fastrelay.quic.options import Retry
from fastrelay.quic.udp import Address

ADDRESS = ("192.0.2.7", 4433)
VERSIONS = [int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)]


def initial(
    token: bytes = b"",
    *,
    destination: bytes = b"destinat",
    version: int = 1,
    first: int = 0xC0,
    size: int = 1200,
) -> bytes:
    head = bytes([first]) + version.to_bytes(4, "big")
    head += bytes([len(destination)]) + destination + b"\x06source"
    if first & 0x30 == 0 and version == 1:
        head += Buffer(data=b"").data + (len(token) | 0x4000).to_bytes(2, "big") + token
    rest = size - len(head) - 2
    return head + (rest | 0x4000).to_bytes(2, "big") + bytes(rest)


class Judge:
    def __init__(self, retry: Retry = Retry.AUTO, door: Door | None = None) -> None:
        self.counters = EndpointCounters()
        self._admission = Admission(retry, 10, VERSIONS, self.counters, door or OpenDoor())

    def __call__(
        self, data: bytes, *, half_open: int = 0, full: bool = False, now: float = 1.0
    ) -> Admitted | bytes | None:
        return self._admission.judge(data, ADDRESS, now, half_open=half_open, full=full)


def token_of(answer: object) -> tuple[bytes, bytes]:
    """Token and new connection id of a Retry."""
    assert isinstance(answer, bytes)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type == QuicPacketType.RETRY
    assert header.destination_cid == b"source"
    return header.token, header.source_cid


def test_a_client_comes_in() -> None:
    assert Judge()(initial()) == Admitted(b"destinat", b"destinat", None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        initial(size=1199),
        initial(first=0xE0),  # Handshake
        initial(first=0x80),  # no fixed bit
        initial(version=0),  # Version Negotiation
        b"\xc0\x00\x00\x00\x01\xff" + bytes(1300),  # connection id too long
    ],
)
def test_what_is_ignored(data: bytes) -> None:
    judge = Judge(Retry.ALWAYS)
    assert judge(data, full=True) is None
    assert judge.counters == EndpointCounters()


def test_an_unknown_version_is_negotiated() -> None:
    judge = Judge()
    answer = judge(initial(version=0x1A2A3A4A))
    assert isinstance(answer, bytes)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type == QuicPacketType.VERSION_NEGOTIATION
    assert header.supported_versions == VERSIONS
    assert judge.counters.versions_negotiated == 1


def test_a_full_server_refuses() -> None:
    judge = Judge()
    assert isinstance(judge(initial(), full=True), bytes)
    assert judge.counters.connections_refused == 1


def test_retry_and_the_way_back_in() -> None:
    judge = Judge(Retry.ALWAYS)
    token, own = token_of(judge(initial()))
    again = judge(initial(token, destination=own), now=2.0)
    assert again == Admitted(own, b"destinat", own)
    assert judge.counters.retries_sent == 1


def test_retry_begins_at_the_threshold() -> None:
    judge = Judge(Retry.AUTO)
    assert isinstance(judge(initial(), half_open=9), Admitted)
    token_of(judge(initial(), half_open=10))
    assert isinstance(Judge(Retry.NEVER)(initial(), half_open=10_000), Admitted)


def test_what_comes_to_nothing_counts_too() -> None:
    """A packet that is none leaves no handshake, but a connection was made for it."""
    judge = Judge(Retry.AUTO)
    for _ in range(10):
        assert isinstance(judge(initial()), Admitted)
    token, own = token_of(judge(initial(), now=1.9))
    assert isinstance(judge(initial(token, destination=own), now=1.9), Admitted)
    assert isinstance(judge(initial(), now=2.1), Admitted)


def test_bad_tokens() -> None:
    judge = Judge(Retry.AUTO)
    token, own = token_of(judge(initial(), half_open=10))
    expired = initial(token, destination=own)
    elsewhere = initial(token, destination=b"otheraim")
    foreign = initial(b"a token of another server", destination=own)
    for data, now in ((expired, 100.0), (elsewhere, 2.0), (foreign, 2.0), (initial(b"x"), 2.0)):
        assert isinstance(judge(data, half_open=10, now=now), bytes)
        calm = judge(data, half_open=0, now=now)
        assert isinstance(calm, Admitted)
        assert calm.retry_source is None
    assert judge.counters.connections_refused == 4


def test_tokens_mean_nothing_without_retry() -> None:
    assert Judge(Retry.NEVER)(initial(b"x" * 50)) == Admitted(b"destinat", b"destinat", None)


@pytest.mark.parametrize("retry", list(Retry))
def test_any_long_header(retry: Retry) -> None:
    """Lengths, versions, types, tokens, cut or coalesced anywhere: an answer is never larger than
    what it answers, and nobody comes in with an id that is none."""
    judge, numbers = Judge(retry), random.Random(retry.value)
    for _ in range(1000):
        length = numbers.choice([0, 7, 8, 20, 21, 255, numbers.randrange(256)])
        made = bytearray(
            initial(
                numbers.randbytes(numbers.choice([0, 0, 16, 300])),
                destination=numbers.randbytes(min(length, 20)),
                first=numbers.choice([0xC0, 0xC3, numbers.randrange(256)]),
                version=numbers.choice([1, 1, VERSIONS[1], 0, 0x1A2A3A4A, numbers.getrandbits(32)]),
            )
        )
        made[5] = length
        if numbers.random() < 0.3:
            made[numbers.randrange(40)] = numbers.randrange(256)
        if numbers.random() < 0.2:
            made += initial(first=numbers.choice([0xC0, 0xE0, 0x40]), size=200)
        data = bytes(made[: numbers.choice([len(made), len(made), numbers.randrange(len(made))])])
        found = judge(data, half_open=numbers.choice([0, 100]), full=numbers.random() < 0.1)
        if isinstance(found, bytes):
            assert len(found) <= len(data)
        if found is not None:
            assert len(data) >= 1200
        if isinstance(found, Admitted):
            assert len(found.destination) == data[5] <= 20


class Strict(OpenDoor):
    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.judged: list[tuple[object, float]] = []

    def judge(self, address: Address, now: float) -> Verdict:
        self.judged.append((address, now))
        return self.verdict


def test_the_door_decides_before_tokens_are_looked_at() -> None:
    door = Strict(Verdict.REFUSE)
    judge = Judge(Retry.ALWAYS, door)
    assert isinstance(judge(initial(b"any token")), bytes)
    assert (judge.counters.connections_refused, judge.counters.retries_sent) == (1, 0)
    door.verdict = Verdict.IGNORE
    assert judge(initial()) is None
    assert (judge.counters.connections_refused, judge.counters.retries_sent) == (1, 0)
    door.verdict = Verdict.ADMIT
    token_of(judge(initial()))
    assert door.judged == [(ADDRESS, 1.0)] * 3


def test_the_door_is_not_asked_for_what_opens_nothing() -> None:
    door = Strict(Verdict.REFUSE)
    judge = Judge(door=door)
    for data in (initial(size=1199), initial(first=0xE0), initial(version=7)):
        judge(data)
    judge(initial(), full=True)
    assert not door.judged
