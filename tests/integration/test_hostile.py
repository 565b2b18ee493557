"""Malformed, truncated and out-of-order input: each gets its code, and nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from fastrelay.moqt import codec
from fastrelay.moqt.codes import SessionError as Code
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.messages import (
    GoAway,
    MaxRequestId,
    Parameters,
    Publish,
    PublishNamespace,
    Setup,
    Subscribe,
    SubscribeOk,
    Token,
    TokenAction,
)
from fastrelay.moqt.names import FullTrackName
from fastrelay.quic.options import QuicOptions
from integration.bystanders import bystanders
from integration.harness import Certificate, RelayProcess
from integration.hostile import Hostile, hostile

NAME = FullTrackName((b"hostile",), b"track")
Attack = Callable[[Hostile], None]
ATTACKS: list[tuple[str, Draft, Code, Attack]] = []


def attack(code: Code, *drafts: Draft) -> Callable[[Attack], Attack]:
    """The function writes something for which the session is closed with this code."""

    def register(function: Attack) -> Attack:
        name = function.__name__.replace("_", "-")
        ATTACKS.extend((f"{draft}-{name}", draft, code, function) for draft in drafts)
        return function

    return register


NEW = (DRAFT_18, DRAFT_22)
ALL = (DRAFT_18, DRAFT_22, DRAFT_16)


def request(peer: Hostile, data: bytes, control: int) -> None:
    """Bytes of a request where the draft wants them."""
    if peer.draft.request_streams:
        peer.bidi(data)
    else:
        peer.transport.send(control, data)


def encoded(peer: Hostile, message: object) -> bytes:
    return codec.encode(message, peer.draft, is_client=True)  # type: ignore[arg-type]


def subscribe_body(peer: Hostile, parameters: bytes, request_id: int = 0) -> bytes:
    """SUBSCRIBE of ("hostile",) / "track" with these bytes as its parameters."""
    start = peer.draft.varints.encode(request_id)
    return start + b"\x01\x07hostile\x05track" + parameters


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def unknown_stream_type(peer: Hostile) -> None:
    peer.setup()
    peer.uni(b"\x3f" + bytes(8))


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def unknown_message_type(peer: Hostile) -> None:
    control = peer.setup()
    peer.transport.send(control, peer.message(0x3E, b"\0\0"))


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def setup_twice(peer: Hostile) -> None:
    control = peer.setup()
    setup = Setup(max_request_id=100 if not peer.draft.request_streams else None)
    peer.transport.send(control, encoded(peer, setup))


@attack(Code.PROTOCOL_VIOLATION, *NEW)
def second_control_stream(peer: Hostile) -> None:
    peer.setup()
    peer.setup()


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def control_stream_ends(peer: Hostile) -> None:
    peer.transport.send(peer.setup(), b"", True)


@attack(Code.PROTOCOL_VIOLATION, DRAFT_16)
def something_before_setup(peer: Hostile) -> None:
    peer.bidi(encoded(peer, Subscribe(0, NAME)))


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def length_too_long(peer: Hostile) -> None:
    control = peer.setup()
    request(peer, peer.message(0x03, subscribe_body(peer, b"\0") + b"\0\0\0"), control)


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def length_too_short(peer: Hostile) -> None:
    control = peer.setup()
    request(peer, peer.message(0x03, subscribe_body(peer, b"\0"), length=6), control)


@attack(Code.PROTOCOL_VIOLATION, *NEW)
def request_stream_ends_early(peer: Hostile) -> None:
    peer.setup()
    peer.bidi(encoded(peer, Subscribe(0, NAME))[:-3], True)


@attack(Code.PROTOCOL_VIOLATION, *NEW)
def request_stream_begins_with_an_answer(peer: Hostile) -> None:
    peer.setup()
    peer.bidi(encoded(peer, SubscribeOk(0, 1)))


@attack(Code.INVALID_REQUEST_ID, *ALL)
def wrong_parity(peer: Hostile) -> None:
    request(peer, encoded(peer, Subscribe(1, NAME)), peer.setup())


@attack(Code.INVALID_REQUEST_ID, *ALL)
def request_id_again(peer: Hostile) -> None:
    control = peer.setup()
    request(peer, encoded(peer, PublishNamespace(0, (b"hostile", b"a"))), control)
    request(peer, encoded(peer, PublishNamespace(0, (b"hostile", b"b"))), control)


@attack(Code.TOO_MANY_REQUESTS, DRAFT_16)
def beyond_the_request_credit(peer: Hostile) -> None:
    request(peer, encoded(peer, Subscribe(1 << 40, NAME)), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, DRAFT_16)
def request_credit_shrinks(peer: Hostile) -> None:
    peer.transport.send(peer.setup(), encoded(peer, MaxRequestId(2)))


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def thirty_three_namespace_fields(peer: Hostile) -> None:
    body = b"\0" + b"\x21" + b"\x01a" * 33 + b"\x01t" + b"\0"
    request(peer, peer.message(0x03, body), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def track_name_too_long(peer: Hostile) -> None:
    length = peer.draft.varints.encode(5000)
    body = b"\0" + b"\x01\x01a" + length + bytes(5000) + b"\0"
    request(peer, peer.message(0x03, body), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *NEW)
def unknown_parameter(peer: Hostile) -> None:
    request(peer, peer.message(0x03, subscribe_body(peer, b"\x01\x3d\x00")), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def forward_is_two(peer: Hostile) -> None:
    request(peer, peer.message(0x03, subscribe_body(peer, b"\x01\x10\x02")), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def group_order_is_three(peer: Hostile) -> None:
    request(peer, peer.message(0x03, subscribe_body(peer, b"\x01\x22\x03")), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def parameter_twice(peer: Hostile) -> None:
    parameters = b"\x02\x10\x01\x00\x01"
    request(peer, peer.message(0x03, subscribe_body(peer, parameters)), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, DRAFT_22)
def filter_type_nine(peer: Hostile) -> None:
    request(peer, peer.message(0x03, subscribe_body(peer, b"\x01\x21\x09")), peer.setup())


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def client_goaway_with_uri(peer: Hostile) -> None:
    new = peer.draft.request_streams
    message = GoAway("moqt://elsewhere.example/", 0, request_id=1 if new else None)
    peer.transport.send(peer.setup(), encoded(peer, message))


@attack(Code.DUPLICATE_TRACK_ALIAS, *ALL)
def two_tracks_one_alias(peer: Hostile) -> None:
    control = peer.setup()
    for request_id, name in ((0, b"one"), (2, b"two")):
        publish = Publish(request_id, FullTrackName((b"hostile",), name), 7)
        request(peer, encoded(peer, publish), control)


@attack(Code.UNKNOWN_AUTH_TOKEN_ALIAS, *ALL)
def token_alias_never_registered(peer: Hostile) -> None:
    token = Token(TokenAction.USE_ALIAS, alias=5)
    subscribe = Subscribe(0, NAME, Parameters(tokens=(token,)))
    request(peer, encoded(peer, subscribe), peer.setup())


@attack(Code.DUPLICATE_AUTH_TOKEN_ALIAS, *ALL)
def token_alias_registered_twice(peer: Hostile) -> None:
    control = peer.setup()
    for request_id, value in ((0, b"one"), (2, b"two")):
        token = Token(TokenAction.REGISTER, alias=1, type=0, value=value)
        message = PublishNamespace(request_id, (b"hostile", value), Parameters(tokens=(token,)))
        request(peer, encoded(peer, message), control)


@attack(Code.AUTH_TOKEN_CACHE_OVERFLOW, *ALL)
def token_cache_overflow(peer: Hostile) -> None:
    control = peer.setup()
    for number in range(3):
        token = Token(TokenAction.REGISTER, alias=number, type=0, value=bytes([number]) * 8000)
        message = PublishNamespace(
            2 * number, (b"hostile", bytes([65 + number])), Parameters(tokens=(token,))
        )
        request(peer, encoded(peer, message), control)


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def subgroup_id_mode_three(peer: Hostile) -> None:
    peer.setup()
    peer.uni(b"\x16\x01\x00\x00\x80")


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def datagram_of_unknown_type(peer: Hostile) -> None:
    peer.setup()
    assert peer.transport.send_datagram(b"\x13\x01\x00\x00\x80x")


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def datagram_status_with_end_of_group(peer: Hostile) -> None:
    peer.setup()
    assert peer.transport.send_datagram(b"\x22\x01\x00\x00\x80\x03")


@attack(Code.PROTOCOL_VIOLATION, *ALL)
def fetch_stream_for_nothing(peer: Hostile) -> None:
    peer.setup()
    peer.uni(b"\x05\x01" + b"\x1c\x00\x00\x00\x80\x00")


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize(
    ("draft", "code", "function"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS]
)
async def test_closed_with_its_code(
    draft: Draft,
    code: Code,
    function: Attack,
    webtransport: bool,
    shared_relay: RelayProcess,
    certificate: Certificate,
) -> None:
    url = shared_relay.url(webtransport=webtransport)
    async with hostile(url, draft, certificate.client_options) as peer:
        function(peer)
        assert Code(await peer.closed()) is code


@pytest.mark.parametrize("draft", ALL, ids=str)
async def test_control_stream_reset(
    draft: Draft, shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """Only once the relay has read from it: a reset overtakes what was not sent before."""
    async with hostile(shared_relay.url(), draft, certificate.client_options) as peer:
        control = peer.setup()
        message = encoded(peer, PublishNamespace(0, (b"hostile", b"reset")))
        if draft.request_streams:
            await peer.until(peer.bidi(message), 1)
        else:
            answered = len(await peer.until(control, 1))
            peer.transport.send(control, message)
            await peer.until(control, answered + 1)
        peer.transport.reset(control, 0)
        assert Code(await peer.closed()) is Code.PROTOCOL_VIOLATION


@pytest.mark.parametrize("draft", ALL, ids=str)
async def test_path_over_webtransport(
    draft: Draft, shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """SETUP's PATH belongs to raw QUIC only."""
    url = shared_relay.url(webtransport=True)
    async with hostile(url, draft, certificate.client_options) as peer:
        peer.setup(Setup(path="/x", max_request_id=None if draft.request_streams else 8))
        assert Code(await peer.closed()) is Code.INVALID_PATH


async def test_everything_at_once_disturbs_nobody(
    shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """All attacks, many times, from many connections, while two others go on with their work."""
    async with bystanders(shared_relay, certificate) as watched:
        gate = asyncio.Semaphore(16)

        async def one(draft: Draft, function: Attack, webtransport: bool) -> None:
            async with gate:
                url = shared_relay.url(webtransport=webtransport)
                async with hostile(url, draft, certificate.client_options) as peer:
                    function(peer)
                    await peer.closed()

        work = [(a[1], a[3], bool(i & 1)) for i, a in enumerate(ATTACKS)]
        await asyncio.gather(*(one(*parts) for parts in work))
        await watched.undisturbed()
    await until_sessions(shared_relay, 0)


@pytest.mark.parametrize("draft", ALL, ids=str)
async def test_random_streams_disturb_nobody(
    draft: Draft, shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """Whatever bytes come, on whatever stream: the session ends or goes on, the others go on."""
    chance = random.Random(draft.number)
    async with bystanders(shared_relay, certificate) as watched:
        for _ in range(20):
            async with hostile(shared_relay.url(), draft, certificate.client_options) as peer:
                peer.setup()
                for _ in range(chance.randrange(1, 20)):
                    send = chance.choice((peer.uni, peer.bidi))
                    kind = chance.choice((0x03, 0x05, 0x06, 0x10, 0x16, 0x1D, 0x14, 0x50, 0x51))
                    noise = chance.randbytes(chance.randrange(1, 200))
                    send(bytes([kind]) + noise, chance.random() < 0.5)
        await watched.undisturbed()


async def test_garbage_datagrams_disturb_nobody(
    shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """UDP that is no QUIC, or only looks like it."""
    chance = random.Random(1)
    async with bystanders(shared_relay, certificate) as watched:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((shared_relay.host, shared_relay.port))
            for number in range(3000):
                first = chance.choice((0xC0, 0xC3, 0xD0, 0xE0, 0xF0, 0x40, 0x00, 0xFF))
                version = chance.choice(
                    (b"\0\0\0\1", b"\0\0\0\0", b"\x6b\x33\x43\xcf", b"\xff" * 4)
                )
                size = chance.choice((0, 1, 5, 20, 40, 1199, 1200, 1400))
                sock.send((bytes([first]) + version + chance.randbytes(size))[:size])
                if number % 100 == 0:
                    await asyncio.sleep(0.002)
        await watched.undisturbed()


async def test_silent_handshakes_disturb_nobody(
    shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """Connections that never say SETUP, and requests that never end."""
    async with bystanders(shared_relay, certificate) as watched:
        silent = [
            hostile(shared_relay.url(), draft, certificate.client_options)
            for draft in ALL
            for _ in range(10)
        ]
        peers = [await manager.__aenter__() for manager in silent]
        for peer in peers[::2]:
            peer.bidi(b"\x03")
            peer.uni(b"\x10")
        await watched.undisturbed()
        for manager in silent:
            await manager.__aexit__(None, None, None)
    await until_sessions(shared_relay, 0)


@pytest.mark.parametrize("draft", ALL, ids=str)
async def test_tokens_come_and_go(
    draft: Draft, shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """An alias is registered and deleted with each request, each time with half of what the cache
    holds: what was deleted does not count any more."""
    value = bytes(8000)
    register = Token(TokenAction.REGISTER, alias=1, type=0, value=value)
    delete = Token(TokenAction.DELETE, alias=1)
    async with hostile(shared_relay.url(), draft, certificate.client_options) as peer:
        control = peer.setup()
        if not draft.request_streams:
            await peer.until(control, 1)
        for number in range(40):
            parameters = Parameters(tokens=(register, delete))
            answered = len(peer.received.get(control, b""))
            data = encoded(
                peer, PublishNamespace(2 * number, (b"churn", b"%d" % number), parameters)
            )
            if draft.request_streams:
                await peer.until(peer.bidi(data), 1)
            else:
                peer.transport.send(control, data)
                await peer.until(control, answered + 1)


# Instructions of QPACK (RFC 9204 section 4.3) that no decoder takes.
QPACK = {
    "too large a table": b"\x3f\xff\xff\xff\x7f",
    "a copy of nothing": b"\x00",
    "a name that is not there": b"\x80\x01x",
    "an entry larger than the table": b"\x5f\xff\xff\x03" + bytes(6000),
}


@pytest.mark.parametrize("name", QPACK)
async def test_qpack(name: str, shared_relay: RelayProcess, certificate: Certificate) -> None:
    """On the encoder's stream, behind a request that was in order."""
    url = shared_relay.url(webtransport=True)
    async with bystanders(shared_relay, certificate) as watched:
        async with hostile(url, DRAFT_18, certificate.client_options) as peer:
            peer.setup()
            peer.encoder_stream(QPACK[name])
            await peer.closed()
        await watched.undisturbed()


async def test_a_flood_of_first_packets(
    shared_relay: RelayProcess, certificate: Certificate
) -> None:
    """Proper ones, of clients of which nothing more is heard: some handshakes begin, then
    everybody has to show that he can be reached, and an honest client does."""
    options = QuicConfiguration(
        alpn_protocols=[DRAFT_18.alpn], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    address = shared_relay.host, shared_relay.port
    async with bystanders(shared_relay, certificate) as watched:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(150):
                client = QuicConnection(configuration=options)
                client.connect(address, 0.0)
                for datagram, _address in client.datagrams_to_send(0.0):
                    sock.sendto(datagram, address)
                await asyncio.sleep(0)
        await watched.undisturbed()
        unfinished = shared_relay.status()["process"]["handshakes_unfinished"]
        assert unfinished <= QuicOptions().retry_threshold
        async with hostile(shared_relay.url(), DRAFT_18, certificate.client_options) as peer:
            peer.setup()
            await peer.until(peer.bidi(encoded(peer, PublishNamespace(0, (b"late",)))), 1)


async def until_sessions(relay: RelayProcess, count: int) -> None:
    """Wait until the relay has no more sessions than these."""
    deadline = time.monotonic() + 60
    while len(relay.status()["sessions"]) > count:
        assert time.monotonic() < deadline, relay.status()["sessions"]
        await asyncio.sleep(0.05)
