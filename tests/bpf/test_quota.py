"""The quota: what becomes of each first packet, and that nothing else is ever refused."""

from __future__ import annotations

import ipaddress
import random
import subprocess
import time
from collections import Counter
from dataclasses import replace
from struct import pack

import pytest

from bpf.harness import TC_ACT_SHOT, TC_ACT_UNSPEC, Datapath
from bpf.packets import Path, packet
from bpf.scenario import RELAY_IPV4, RELAY_IPV6, RELAY_PORT, Scenario
from fastrelay.fastpath.layout import QUOTA_ROWS, QuotaMeter, Reason
from fastrelay.fastpath.quota import QuotaTables, QuotaTerms
from fastrelay.fastpath.siphash import siphash
from fastrelay.fastpath.tables import REST

pytestmark = pytest.mark.usefixtures("program_a")

S = 1_000_000_000
NEVER = (1 << 64) - 1
PLENTY = (1, S)
NONE = (3600 * S, 0)
"""One, and then none for an hour."""
TERMS = QuotaTerms(
    port=RELAY_PORT,
    ipv4_prefix_length=24,
    ipv6_prefix_length=64,
    attempts=PLENTY,
    prefix_attempts=PLENTY,
    answers=NONE,
    answer=False,
)
MAPS = ("quota", "quota_exempt", "quota_refused", "quota_rows", "quota_known", "quota_meters")
FAMILIES = pytest.mark.parametrize(
    "host", [pytest.param("192.0.2.7", marks=pytest.mark.kernels), "2001:db8:1:2::7"]
)
ID = bytes(range(1, 9))
KINDS = [
    Reason.C_LONG_INITIAL,
    Reason.C_LONG_OTHER,
    Reason.C_SHORT_KNOWN,
    Reason.C_SHORT_UNKNOWN,
]


def initial(
    destination: bytes = ID, *, first: int = 0xC3, version: int = 1, size: int = 1200
) -> bytes:
    """A UDP payload with a long header."""
    head = pack("!BIB", first, version, len(destination)) + destination + b"\x04four\0"
    return head + bytes(max(0, size - len(head)))


class Door:
    """The relay's side, and packets from anywhere."""

    def __init__(self, datapath: Datapath) -> None:
        Scenario(datapath)
        self.datapath = datapath
        self.maps = datapath.relay_maps(*MAPS)
        self.tables = QuotaTables(self.maps, TERMS)

    def terms(self, **terms: object) -> QuotaTables:
        self.tables = QuotaTables(self.maps, replace(TERMS, **terms))
        return self.tables

    def send(
        self, host: str, payload: bytes | None = None, *, port: int = RELAY_PORT, gso_size: int = 0
    ) -> tuple[bool, list[Reason | int]]:
        """Whether it went on, and what was counted but kinds."""
        before = self.datapath.counters()
        passed = self.run(host, payload, port=port, gso_size=gso_size)
        grown = Counter(self.datapath.counters())
        grown.subtract(before)
        return passed, [reason for reason in (+grown).elements() if reason not in KINDS]

    def run(
        self, host: str, payload: bytes | None = None, *, port: int = RELAY_PORT, gso_size: int = 0
    ) -> bool:
        """Whether it went on, and that it is as it was."""
        relay = RELAY_IPV6 if ":" in host else RELAY_IPV4
        made = packet(Path(host, relay, 4000, port), initial() if payload is None else payload)
        result = self.datapath.run("server_ingress", made, gso_size=gso_size)
        assert result.action in (TC_ACT_UNSPEC, TC_ACT_SHOT)
        assert result.data == made
        return result.action == TC_ACT_UNSPEC

    def refuse(self, host: str, until: int = NEVER, *, prefix: int = 0) -> bool:
        """``prefix``: its length; 0: the address."""
        address = ipaddress.ip_interface(f"{host}/{prefix}" if prefix else host).network
        packed = address.network_address.packed.ljust(16, b"\0")
        now = time.monotonic_ns()
        return self.tables.refuse(packed, address.version, bool(prefix), until, now)

    def refused_packets(self, host: str) -> int:
        address = ipaddress.ip_address(host)
        return self.tables.refused_packets(address.packed.ljust(16, b"\0"), address.version, False)


@pytest.fixture
def door(datapath: Datapath) -> Door:
    return Door(datapath)


def test_the_hash_is_siphash() -> None:
    numbers = random.Random(3)
    for _ in range(5):
        key, message = numbers.randbytes(16), numbers.randbytes(24)
        words = [int.from_bytes(message[at : at + 8], "little") for at in (0, 8, 16)]
        halves = [int.from_bytes(key[at : at + 8], "little") for at in (0, 8)]
        options = f"hexkey:{key.hex()}", "size:8", "c-rounds:1", "d-rounds:3"
        command = ["openssl", "mac", *(word for each in options for word in ("-macopt", each))]
        done = subprocess.run([*command, "SIPHASH"], input=message, capture_output=True, check=True)
        assert siphash(halves, words).to_bytes(8, "little") == bytes.fromhex(done.stdout.decode())


@FAMILIES
def test_who_is_within_passes(door: Door, host: str) -> None:
    assert door.send(host) == (True, [Reason.C_QUOTA_PASSED])


@FAMILIES
def test_an_address_that_has_its_fill(door: Door, host: str) -> None:
    assert door.refuse(host)
    assert door.send(host) == (False, [Reason.C_QUOTA_ADDRESS])
    neighbour = str(ipaddress.ip_address(host) + 1)
    assert door.send(neighbour) == (True, [Reason.C_QUOTA_PASSED])
    assert door.refused_packets(host) == 1
    packed, family = ipaddress.ip_address(host).packed.ljust(16, b"\0"), 6 if ":" in host else 4
    door.tables.allow(packed, family, False)
    assert door.send(host) == (True, [Reason.C_QUOTA_PASSED])


def test_it_ends_by_itself(door: Door) -> None:
    assert door.refuse("192.0.2.7", time.monotonic_ns() + 3600 * S)
    assert door.send("192.0.2.7") == (False, [Reason.C_QUOTA_ADDRESS])
    assert door.refuse("192.0.2.7", time.monotonic_ns())
    assert door.send("192.0.2.7") == (True, [Reason.C_QUOTA_PASSED])


@pytest.mark.parametrize(
    ("prefix", "outside"),
    [
        ("192.0.2.0/24", "192.0.3.0"),
        ("192.0.2.7/32", "192.0.2.6"),
        ("128.0.0.0/8", "127.255.255.255"),
        ("192.0.0.0/17", "192.0.128.0"),
        ("2001:db8::/64", "2001:db8:0:1::"),
        ("2001:db8::/16", "2002::"),
        ("2001:db8::/56", "2001:db8:0:100::"),
        ("2001:db8::/65", "2001:db8:0:0:8000::"),
        ("2001:db8::7/128", "2001:db8::6"),
    ],
)
def test_prefixes_of_any_length(door: Door, prefix: str, outside: str) -> None:
    network = ipaddress.ip_network(prefix, strict=False)
    door.terms(**{f"ipv{network.version}_prefix_length": network.prefixlen})
    assert door.refuse(str(network[0]), prefix=network.prefixlen)
    for address in (network[0], network[-1]):
        assert door.send(str(address)) == (False, [Reason.C_QUOTA_PREFIX])
    assert door.send(outside) == (True, [Reason.C_QUOTA_PASSED])


@FAMILIES
def test_all_are_taken(door: Door, host: str) -> None:
    door.tables.refuse_all(NEVER)
    assert door.send(host) == (False, [Reason.C_QUOTA_TOTAL])
    door.tables.refuse_all(0)
    assert door.send(host) == (True, [Reason.C_QUOTA_PASSED])


@FAMILIES
def test_a_flood_in_the_name_of_a_prefix(door: Door, host: str) -> None:
    """Two cells, one for now each; other prefixes have theirs."""
    door.terms(prefix_attempts=NONE)
    sent = [door.send(host) for _ in range(4)]
    assert (
        sent
        == [(True, [Reason.C_QUOTA_PASSED])] * 2 + [(False, [Reason.C_QUOTA_PREFIX_ATTEMPTS])] * 2
    )
    for number in range(20):
        assert door.send(f"198.51.{number}.1") == (True, [Reason.C_QUOTA_PASSED])


def test_a_flood_from_everywhere(door: Door) -> None:
    door.terms(attempts=(3600 * S, 4 * 3600 * S))
    sent = [door.send(str(ipaddress.ip_address(number << 8))) for number in range(1, 9)]
    assert sent == [(True, [Reason.C_QUOTA_PASSED])] * 5 + [(False, [Reason.C_QUOTA_ATTEMPTS])] * 3


def test_time_gives_attempts_back(door: Door) -> None:
    door.terms(attempts=NONE)
    door.send("192.0.2.7")
    assert door.send("192.0.2.7") == (False, [Reason.C_QUOTA_ATTEMPTS])
    meters = door.datapath.view("quota_meters")
    assert meters[QuotaMeter.ATTEMPTS]["empty_at"] > time.monotonic_ns()
    meters[QuotaMeter.ATTEMPTS]["empty_at"] -= 3600 * S
    assert door.send("192.0.2.7") == (True, [Reason.C_QUOTA_PASSED])


def test_some_of_the_refused_are_answered(door: Door) -> None:
    door.terms(answer=True)
    door.refuse("192.0.2.7")
    answered = [Reason.C_QUOTA_ANSWERED, Reason.C_QUOTA_ADDRESS]
    passed, counted = door.send("192.0.2.7")
    assert (passed, sorted(counted)) == (True, sorted(answered))
    assert door.send("192.0.2.7") == (False, [Reason.C_QUOTA_ADDRESS])


def test_who_writes_anothers_address_is_never_answered(door: Door) -> None:
    door.terms(answer=True, answers=PLENTY, attempts=NONE)
    door.send("192.0.2.7")
    assert door.send("192.0.2.7") == (False, [Reason.C_QUOTA_ATTEMPTS])


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 17, 19, 20])
def test_a_connection_that_there_is_goes_on(door: Door, length: int) -> None:
    """Whatever is refused. And it takes none of the attempts."""
    known = bytes(range(1, length + 1))
    door.terms(attempts=NONE, prefix_attempts=NONE)
    assert door.tables.know(known)
    door.refuse("192.0.2.7")
    door.tables.refuse_all(NEVER)
    for _ in range(3):
        assert door.send("192.0.2.7", initial(known)) == (True, [Reason.C_QUOTA_KNOWN])
    for other in (known + b"\0", known + b"x", known[:-1] if known else b"z"):
        assert door.send("192.0.2.7", initial(other)) == (False, [Reason.C_QUOTA_TOTAL])
    door.tables.forget(known)
    assert door.send("192.0.2.7", initial(known)) == (False, [Reason.C_QUOTA_TOTAL])


def test_exempt_blocks(door: Door) -> None:
    blocks = ["10.0.0.0/8", "192.0.2.128/25", "2001:db8::/32", "fd00::/8", "::1/128"]
    given = [*blocks, "10.1.0.0/16"]
    door.terms(exempt=tuple(map(ipaddress.ip_network, given)), attempts=NONE)
    door.tables.refuse_all(NEVER)
    for block in map(ipaddress.ip_network, blocks):
        for address in (block[0], block[-1]):
            assert door.send(str(address)) == (True, [Reason.C_QUOTA_EXEMPT])
        for address in (block[0] - 1, block[-1] + 1):
            assert door.send(str(address)) == (False, [Reason.C_QUOTA_TOTAL])


def test_as_many_exempt_blocks_as_there_may_be(door: Door) -> None:
    blocks = tuple(ipaddress.ip_network(f"10.{number}.0.0/24") for number in range(256))
    door.terms(exempt=blocks)
    for block in blocks:
        assert door.run(str(block[9]))
        assert door.run(str(block[0] + 256))
    counted = door.datapath.counters()
    assert counted[Reason.C_QUOTA_EXEMPT] == counted[Reason.C_QUOTA_PASSED] == len(blocks)


@pytest.mark.parametrize(
    "payload",
    [
        initial(first=0xD3),  # 0-RTT
        initial(first=0xE3),  # Handshake
        initial(first=0xF3),  # Retry
        initial(first=0xC3, version=0x6B3343CF),  # Retry of version 2
        initial(first=0xE3, version=0x6B3343CF),
        initial(version=0),  # Version Negotiation
        initial(first=0x43),
        initial(first=0x00),
        b"\x40" + bytes(1199),
        bytes(3),
    ],
)
def test_nothing_else_is_refused(door: Door, payload: bytes) -> None:
    door.tables.refuse_all(NEVER)
    door.refuse("192.0.2.7")
    passed, counted = door.send("192.0.2.7", payload)
    assert passed
    assert all(reason < Reason.C_QUOTA_PASSED for reason in counted)


@pytest.mark.parametrize(
    "payload",
    [
        initial(first=0x83),  # without the fixed bit, which nobody may rely on
        initial(first=0xD3, version=0x6B3343CF),
        initial(first=0xF3, version=0xFACEB00C),  # any packet of a version that we do not know
        initial(version=0x0A0A0A0A),
        initial(bytes(21)),
        initial(bytes(255)),
        initial(size=40),
        b"\xc3\0\0\0\1\x14\1\2\3",  # its id is cut short
    ],
)
def test_all_first_packets_are(door: Door, payload: bytes) -> None:
    assert door.send("192.0.2.7", payload) == (True, [Reason.C_QUOTA_PASSED])
    door.tables.refuse_all(NEVER)
    assert door.send("192.0.2.7", payload) == (False, [Reason.C_QUOTA_TOTAL])


def test_a_relay_of_another_port_or_without_a_quota(door: Door) -> None:
    door.tables.refuse_all(NEVER)
    assert door.send("192.0.2.7", port=RELAY_PORT + 1) == (True, [])
    door.tables.close()
    assert door.send("192.0.2.7") == (True, [])


def test_segments_together(door: Door) -> None:
    """Only if each of them would open a connection. One of somebody else's among them: all pass."""
    door.tables.refuse_all(NEVER)
    first, handshake = initial(size=300), initial(first=0xE3, size=300)
    short = b"\x40" + bytes(299)
    for payload in (first * 2, first * 4, first * 3 + first[:100]):
        assert door.send("192.0.2.7", payload, gso_size=300) == (False, [Reason.C_QUOTA_TOTAL])
    for payload in (first + short, first * 3 + handshake, first + short + first, first + first[:6]):
        assert door.send("192.0.2.7", payload, gso_size=300) == (True, [Reason.C_QUOTA_MIXED])


def test_packets_in_one_datagram(door: Door) -> None:
    """The first one decides: all of a datagram are for one connection (RFC 9000 section 12.2)."""
    known, other = b"known-id", b"other-id"
    assert door.tables.know(known)
    door.tables.refuse_all(NEVER)
    handshake, short = initial(known, first=0xE3, size=300), b"\x40" + known + bytes(100)
    for first, rest, passes, reasons in (
        (initial(known, size=900), handshake + short, True, [Reason.C_QUOTA_KNOWN]),
        (handshake, initial(other, size=900), True, []),
        (initial(known, size=900), initial(other, size=300), True, [Reason.C_QUOTA_KNOWN]),
        (initial(other, size=900), handshake + short, False, [Reason.C_QUOTA_TOTAL]),
    ):
        assert door.send("192.0.2.7", first + rest) == (passes, reasons)


def test_a_full_table_refuses_nobody_else(door: Door) -> None:
    """Who finds no room is user space's; all others are as before. Whose time is over goes."""
    soon = time.monotonic_ns() + 3600 * S
    told = [door.refuse(str(ipaddress.ip_address(number)), soon) for number in range(1, 10_000)]
    assert 0 < told.count(False) < 10_000 - QUOTA_ROWS * 0.9
    numbers = random.Random(7)
    for number in numbers.sample(range(1, 10_000), 200):
        assert door.run(str(ipaddress.ip_address(number))) is not told[number - 1]
    assert door.run("192.0.2.7")
    door.datapath.view("quota_rows")["until"] = 1
    door.tables._swept = 0
    # A quarter of the places: so few are all found room (of a half, once in 40 times not all).
    hosts = [str(ipaddress.ip_address(20_000 + number)) for number in range(QUOTA_ROWS // 4)]
    found = next(at for at, host in enumerate(hosts) if not door.refuse(host) or door.tables._swept)
    assert door.tables._swept
    # What was swept away rests; who found nothing else is told so this once.
    swept = time.monotonic()
    while time.monotonic() < swept + REST:
        pass
    assert all(door.refuse(host) for host in hosts[found:])


def test_a_new_relay_begins_anew(door: Door) -> None:
    door.refuse("192.0.2.7")
    door.tables.know(ID)
    door.tables.refuse_all(NEVER)
    door.terms()
    assert door.send("192.0.2.7") == (True, [Reason.C_QUOTA_PASSED])


def test_random_headers_against_the_rules(door: Door) -> None:
    """Lengths, versions, types, cut anywhere, from refused and other addresses."""
    numbers = random.Random(11)
    hosts = ["192.0.2.7", "192.0.2.8", "198.51.100.1", "2001:db8::1", "2001:db8:0:1::1"]
    ids = [numbers.randbytes(length) for length in (0, 4, 8, 8, 20)]
    door.refuse("192.0.2.7")
    door.refuse("2001:db8::", prefix=64)
    for each in ids[:4]:
        assert door.tables.know(each)
    refused = {"192.0.2.7": Reason.C_QUOTA_ADDRESS, "2001:db8::1": Reason.C_QUOTA_PREFIX}
    expected: Counter[Reason | int] = Counter()
    for _ in range(3000):
        host, destination = numbers.choice(hosts), numbers.choice(ids)
        version = numbers.choice([0, 1, 1, 1, 0x6B3343CF, 0x0A0A0A0A, numbers.getrandbits(32)])
        payload = initial(destination, first=numbers.getrandbits(8), version=version, size=64)
        payload = payload[: numbers.randrange(10, 65)]
        kind = payload[0] >> 4 & 3
        opens = {0: False, 1: kind == 0, 0x6B3343CF: kind == 1}.get(version, True)
        verdict: Reason | None = None
        if payload[0] >= 0x80 and opens:
            known = len(payload) >= 6 + len(destination) and destination in ids[:4]
            passed = Reason.C_QUOTA_KNOWN if known else Reason.C_QUOTA_PASSED
            verdict = passed if known else refused.get(host, passed)
            expected[verdict] += 1
        went_on = door.run(host, payload)
        assert went_on == (verdict not in refused.values()), (host, payload)
    counted = door.datapath.counters()
    assert {each: n for each, n in counted.items() if each >= Reason.C_QUOTA_PASSED} == expected
