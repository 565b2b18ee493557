"""The quota at a device: the same verdicts as at the veth, for the relay's packets alone."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections import Counter
from dataclasses import dataclass

import pytest

from bpf.harness import Datapath
from bpf.packets import Path, packet
from bpf.scenario import RELAY_IPV4, RELAY_IPV6, RELAY_PORT
from bpf.test_quota import FAMILIES, ID, NEVER, NONE, PLENTY, Door, initial
from fastrelay.agent import programs
from fastrelay.agent.programs import ProgramKind
from fastrelay.fastpath.layout import Reason

XDP_DROP, XDP_PASS = 1, 2
VLAN = b"\x81\x00\x00\x07"


@dataclass
class DeviceDoor(Door):
    """Packets that come to a device of the node."""

    datapath: Datapath

    def __post_init__(self) -> None:
        super().__init__(self.datapath)
        site = self.datapath.view("quota_site")[0]
        site["ipv4"] = int.from_bytes(ipaddress.ip_address(RELAY_IPV4).packed, "little")
        site["ipv6"] = struct.unpack("<QQ", ipaddress.ip_address(RELAY_IPV6).packed)

    def run(
        self, host: str, payload: bytes | None = None, *, port: int = RELAY_PORT, gso_size: int = 0
    ) -> bool:
        relay = RELAY_IPV6 if ":" in host else RELAY_IPV4
        return self.arrives(packet(Path(host, relay, 4000, port), payload or initial()))

    def arrives(self, frame: bytes) -> bool:
        """Whether it went on, and that it is as it was."""
        result = programs.run(self.datapath.programs["device_ingress"], frame)
        assert result.result in (XDP_PASS, XDP_DROP)
        assert result.data == frame
        return result.result == XDP_PASS


@pytest.fixture(scope="module", autouse=True)
def loaded(datapath: Datapath) -> None:
    datapath.load("device_ingress.c", kind=ProgramKind.XDP)
    datapath.load("server_ingress.c")


@pytest.fixture
def door(datapath: Datapath) -> DeviceDoor:
    return DeviceDoor(datapath)


def dropped(reason: Reason) -> tuple[bool, list[Reason]]:
    return False, [reason, Reason.C_QUOTA_AT_DEVICE]


@FAMILIES
def test_who_has_his_fill_is_refused(door: DeviceDoor, host: str) -> None:
    assert door.send(host) == (True, [])  # it is counted where it comes next
    door.refuse(host)
    assert door.send(host) == dropped(Reason.C_QUOTA_ADDRESS)
    address = ipaddress.ip_address(host)
    assert door.send(str(address + 1)) == (True, [])
    assert door.refused_packets(host) == 1
    door.tables.refuse_all(NEVER)
    assert door.send(str(address + 1)) == dropped(Reason.C_QUOTA_TOTAL)
    assert door.tables.know(ID)
    assert door.send(host) == (True, [])
    door.tables.close()
    assert door.send(host, initial(b"other")) == (True, [])


@pytest.mark.parametrize("length", [0, 1, 8, 15, 16, 17, 20])
def test_a_connection_that_there_is_goes_on(door: DeviceDoor, length: int) -> None:
    known = bytes(range(1, length + 1))
    door.tables.know(known)
    door.tables.refuse_all(NEVER)
    for host in ("192.0.2.7", "2001:db8::7"):
        assert door.run(host, initial(known))
        assert not door.run(host, initial(known + b"x"))


def test_each_hook_counts_first_packets_for_itself(door: DeviceDoor) -> None:
    """Those that pass here come to the veth, and must find room there."""
    door.terms(attempts=NONE)
    assert door.send("192.0.2.7") == (True, [])
    assert door.send("192.0.2.7") == dropped(Reason.C_QUOTA_ATTEMPTS)
    assert Door.run(door, "192.0.2.7")
    assert not Door.run(door, "192.0.2.7")


def test_prefixes_have_their_attempts(door: DeviceDoor) -> None:
    door.terms(prefix_attempts=NONE)
    sent = [door.send("192.0.2.7") for _ in range(4)]
    assert sent == [(True, [])] * 2 + [dropped(Reason.C_QUOTA_PREFIX_ATTEMPTS)] * 2
    assert all(door.run(f"198.51.{number}.1") for number in range(20))


def test_who_is_to_be_told_passes(door: DeviceDoor) -> None:
    door.terms(answer=True, answers=NONE)
    door.refuse("192.0.2.7")
    assert door.send("192.0.2.7") == (True, [])
    assert door.refused_packets("192.0.2.7") == 0  # it counts where it comes next
    assert Door.run(door, "192.0.2.7")
    assert door.refused_packets("192.0.2.7") == 1
    assert door.send("192.0.2.7") == dropped(Reason.C_QUOTA_ADDRESS)
    assert door.refused_packets("192.0.2.7") == 2


def test_exempt_blocks(door: DeviceDoor) -> None:
    door.terms(exempt=(ipaddress.ip_network("10.0.0.0/8"),), answers=PLENTY)
    door.tables.refuse_all(NEVER)
    assert door.run("10.1.2.3")
    assert not door.run("11.1.2.3")


def test_packets_of_others_are_nobodys_business(door: DeviceDoor) -> None:
    door.tables.refuse_all(NEVER)
    for client, relay in (("192.0.2.7", "192.0.2.200"), ("2001:db8::7", "2001:db8::200")):
        assert door.arrives(packet(Path(client, relay, 4000, RELAY_PORT), initial()))
    assert door.run("192.0.2.7", port=RELAY_PORT + 1)
    for host, relay in (("192.0.2.7", RELAY_IPV4), ("2001:db8::7", RELAY_IPV6)):
        made = packet(Path(host, relay, 4000, RELAY_PORT), initial())
        assert not door.arrives(made)
        assert door.arrives(made[:12] + VLAN + made[12:])
        protocol = 23 if relay == RELAY_IPV4 else 20
        assert door.arrives(made[:protocol] + b"\x06" + made[protocol + 1 :])  # TCP
        assert door.arrives(made[:12] + b"\x08\x06" + made[14:])  # ARP
        assert not any(not door.arrives(made[:size]) for size in range(14, 48))
    fragment = bytearray(packet(Path("192.0.2.7", RELAY_IPV4, 4000, RELAY_PORT), initial()))
    fragment[20] = 0x20
    assert door.arrives(bytes(fragment))
    assert not door.datapath.view("quota_rows")["refused"].any()


def test_without_addresses_it_refuses_nothing(door: DeviceDoor) -> None:
    door.datapath.view("quota_site")[0] = (0, (0, 0))
    door.tables.refuse_all(NEVER)
    assert door.run("192.0.2.7")
    assert door.run("2001:db8::7")


def test_the_same_verdicts_as_at_the_veth(door: DeviceDoor) -> None:
    """Any header, cut anywhere: what is dropped at the one would be dropped at the other."""
    numbers = random.Random(13)
    hosts = ["192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1"]
    door.refuse("192.0.2.7")
    door.refuse("2001:db8::", prefix=64)
    ids = [numbers.randbytes(length) for length in (0, 4, 8, 20, 21)]
    for each in ids[:3]:
        assert door.tables.know(each)
    verdicts: Counter[bool] = Counter()
    for _ in range(1000):
        version = numbers.choice([0, 1, 1, 0x6B3343CF, 0x0A0A0A0A, numbers.getrandbits(32)])
        payload = initial(
            numbers.choice(ids), first=numbers.getrandbits(8), version=version, size=64
        )
        payload, host = payload[: numbers.randrange(10, 65)], numbers.choice(hosts)
        verdict = door.run(host, payload)
        assert verdict == Door.run(door, host, payload), (host, payload)
        verdicts[verdict] += 1
    assert min(verdicts[True], verdicts[False]) > 20
