"""Packets as a test wants them, right or wrong: link to UDP, QUIC 1-RTT, frames, MoQT's data.

Nothing here is shared with the code under test; crypto is that of ``cryptography``.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

HOST_MAC = bytes.fromhex("02000000000a")
POD_MAC = bytes.fromhex("02000000000b")

# Variable-length integers


def varint(value: int, size: int | None = None) -> bytes:
    """QUIC's (RFC 9000 section 16), in 1, 2, 4 or 8 bytes; None: as few as do."""
    if size is None:
        size = next(each for each in (1, 2, 4, 8) if value < 1 << (8 * each - 2))
    prefix = (1, 2, 4, 8).index(size)
    assert value < 1 << (8 * size - 2)
    return (prefix << (8 * size - 2) | value).to_bytes(size, "big")


def moqt_varint(value: int, size: int | None = None) -> bytes:
    """MoQT's (drafts 17 and later): a leading one for each further byte; 1 to 9 bytes."""
    bits = {each: 7 * each for each in range(1, 9)} | {9: 64}
    if size is None:
        size = next(each for each, room in bits.items() if value < 1 << room)
    assert value < 1 << bits[size]
    if size == 9:
        return b"\xff" + value.to_bytes(8, "big")
    prefix = 0x100 - (1 << (9 - size))
    return (prefix << (8 * size - 8) | value).to_bytes(size, "big")


VARINTS = {0: varint, 1: moqt_varint}
"""By ``connection.variant``."""

# Protection (RFC 9001 sections 5.3, 5.4.4, 6)


@dataclass(frozen=True)
class Keys:
    """One direction's. ``ring``: key and iv of the key phases that are known, by generation.

    ``plaintext``: packets have no protection at all; so the keys are not used.
    """

    hp: bytes
    ring: tuple[tuple[bytes, bytes], ...]
    plaintext: bool = False

    def mask(self, sample: bytes) -> bytes:
        return Cipher(ChaCha20(self.hp, sample), mode=None).encryptor().update(bytes(5))


def make_keys(seed: int, generations: int = 4, *, plaintext: bool = False) -> Keys:
    """Deterministic, and no two seeds alike."""

    def stretch(label: int, size: int) -> bytes:
        nonce = struct.pack("<QQ", label, seed)
        return (
            Cipher(ChaCha20(b"fastrelay tests of the programs ", nonce), mode=None)
            .encryptor()
            .update(bytes(size))
        )

    ring = tuple((stretch(2 + 2 * g, 32), stretch(3 + 2 * g, 12)) for g in range(generations))
    return Keys(stretch(1, 32), ring, plaintext)


def nonce(iv: bytes, packet_number: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ packet_number).to_bytes(12, "big")


def protect(
    keys: Keys,
    dcid: bytes,
    packet_number: int,
    payload: bytes,
    *,
    generation: int = 0,
    number_length: int = 2,
    first_bits: int = 0x40,
) -> bytes:
    """A short header packet. ``first_bits``: fixed bit, spin, reserved bits; the key phase bit
    and the length of the number are added. Payload and number shorter than 4 bytes together
    cannot be protected: that is an assertion here."""
    assert len(payload) + number_length >= 4
    first = first_bits | (generation & 1) << 2 | number_length - 1
    number = (packet_number & (1 << 8 * number_length) - 1).to_bytes(number_length, "big")
    header = bytes([first]) + dcid + number
    if keys.plaintext:
        return header + payload
    key, iv = keys.ring[generation]
    sealed = ChaCha20Poly1305(key).encrypt(nonce(iv, packet_number), payload, header)
    mask = keys.mask(sealed[4 - number_length : 20 - number_length])
    masked = bytes(a ^ b for a, b in zip(number, mask[1:], strict=False))
    return bytes([first ^ (mask[0] & 0x1F)]) + dcid + masked + sealed


@dataclass(frozen=True)
class Opened:
    first: int
    packet_number: int
    number_length: int
    payload: bytes


def unprotect(
    keys: Keys, packet: bytes, dcid_length: int, expected: int, *, generation: int = 0
) -> Opened:
    """The reverse. ``expected``: the packet number after the largest (RFC 9000 A.3).

    :raises InvalidTag: it is none of ours.
    """
    at = 1 + dcid_length
    if len(packet) < at + (4 if keys.plaintext else 20):
        raise InvalidTag
    mask = bytes(5) if keys.plaintext else keys.mask(packet[at + 4 : at + 20])
    first = packet[0] ^ (mask[0] & 0x1F)
    length = (first & 3) + 1
    truncated = bytes(a ^ b for a, b in zip(packet[at : at + length], mask[1:], strict=False))
    number = decode_number(int.from_bytes(truncated, "big"), length, expected)
    if keys.plaintext:
        return Opened(first, number, length, packet[at + length :])
    key, iv = keys.ring[generation]
    header = bytes([first]) + packet[1:at] + truncated
    payload = ChaCha20Poly1305(key).decrypt(nonce(iv, number), packet[at + length :], header)
    return Opened(first, number, length, payload)


def decode_number(truncated: int, length: int, expected: int) -> int:
    """RFC 9000 appendix A.3."""
    window = 1 << (8 * length)
    candidate = (expected & ~(window - 1)) | truncated
    if candidate + window // 2 <= expected and candidate + window < 1 << 62:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


# Frames (RFC 9000 section 19, RFC 9221)


def stream_frame(
    stream_id: int,
    data: bytes,
    offset: int = 0,
    *,
    fin: bool = False,
    with_length: bool = True,
    with_offset: bool | None = None,
    sizes: tuple[int | None, int | None, int | None] = (None, None, None),
) -> bytes:
    """``sizes``: bytes of the varints of id, offset and length."""
    with_offset = offset > 0 if with_offset is None else with_offset
    frame = bytes([0x08 | with_offset << 2 | with_length << 1 | fin]) + varint(stream_id, sizes[0])
    if with_offset:
        frame += varint(offset, sizes[1])
    if with_length:
        frame += varint(len(data), sizes[2])
    return frame + data


def datagram_frame(data: bytes, *, with_length: bool = True, size: int | None = None) -> bytes:
    return bytes([0x30 | with_length]) + (varint(len(data), size) if with_length else b"") + data


def ack_frame(
    largest: int,
    delay: int = 0,
    ranges: tuple[tuple[int, int], ...] = (),
    first: int = 0,
    ecn: tuple[int, int, int] | None = None,
) -> bytes:
    """``ranges``: gap and length of each further range, as on the wire."""
    frame = (b"\x03" if ecn else b"\x02") + varint(largest) + varint(delay)
    frame += varint(len(ranges)) + varint(first)
    for gap, length in ranges:
        frame += varint(gap) + varint(length)
    for count in ecn or ():
        frame += varint(count)
    return frame


OTHER_FRAMES = {
    "PADDING": bytes(3),
    "PING": b"\x01",
    "ACK": ack_frame(1000, 25, ((2, 3), (70, 5000)), 4),
    "ACK_ECN": ack_frame(1000, 25, ((2, 3),), 4, ecn=(1, 2, 70000)),
    "RESET_STREAM": b"\x04" + varint(14) + varint(77) + varint(1 << 20),
    "STOP_SENDING": b"\x05" + varint(15) + varint(1),
    "CRYPTO": b"\x06" + varint(0) + varint(5) + b"hello",
    "NEW_TOKEN": b"\x07" + varint(300) + bytes(300),
    "MAX_DATA": b"\x10" + varint(1 << 30),
    "MAX_STREAM_DATA": b"\x11" + varint(3) + varint(1 << 20),
    "MAX_STREAMS_BIDI": b"\x12" + varint(100),
    "MAX_STREAMS_UNI": b"\x13" + varint(100000),
    "DATA_BLOCKED": b"\x14" + varint(1 << 16),
    "STREAM_DATA_BLOCKED": b"\x15" + varint(2) + varint(1 << 16),
    "STREAMS_BLOCKED_BIDI": b"\x16" + varint(8),
    "STREAMS_BLOCKED_UNI": b"\x17" + varint(8),
    "NEW_CONNECTION_ID": b"\x18" + varint(5) + varint(2) + b"\x08" + bytes(8) + bytes(16),
    "RETIRE_CONNECTION_ID": b"\x19" + varint(3),
    "PATH_CHALLENGE": b"\x1a" + bytes(range(8)),
    "PATH_RESPONSE": b"\x1b" + bytes(range(8)),
    "HANDSHAKE_DONE": b"\x1e",
    "IMMEDIATE_ACK": b"\x1f",
    "IMMEDIATE_ACK of earlier drafts": varint(0xAC),
    "ACK_FREQUENCY": varint(0xAF) + varint(7) + varint(9) + varint(25_000) + varint(1),
    "STREAM of a bidirectional stream": stream_frame(0, b"control", 9),
}
"""What is no media and has to be stepped over, one of each kind."""

# MoQT data (draft 18 sections 11.3, 11.4; draft 16 writes QUIC's varints)


def subgroup_header(
    alias: int,
    group: int,
    subgroup: int | None = 0,
    priority: int | None = 128,
    *,
    variant: int = 1,
    type_bits: int = 0,
    sizes: tuple[int | None, int | None, int | None] = (None, None, None),
) -> bytes:
    """``subgroup``: None: not written (mode 0 of ``type_bits``). ``priority`` None: default.
    ``sizes``: bytes of alias, group and subgroup."""
    write = VARINTS[variant]
    kind = 0x10 | type_bits | (0x04 if subgroup is not None else 0)
    kind |= 0x20 if priority is None else 0
    head = write(kind) + write(alias, sizes[0]) + write(group, sizes[1])
    if subgroup is not None:
        head += write(subgroup, sizes[2])
    return head + (b"" if priority is None else bytes([priority]))


def object_datagram(
    alias: int,
    group: int,
    number: int | None = 1,
    payload: bytes = b"payload",
    priority: int | None = 128,
    *,
    variant: int = 1,
    type_bits: int = 0,
    sizes: tuple[int | None, int | None, int | None] = (None, None, None),
) -> bytes:
    """``number``: the object's id; None: 0, not written."""
    write = VARINTS[variant]
    kind = type_bits | (0x04 if number is None else 0) | (0x08 if priority is None else 0)
    head = write(kind) + write(alias, sizes[0]) + write(group, sizes[1])
    if number is not None:
        head += write(number, sizes[2])
    return head + (b"" if priority is None else bytes([priority])) + payload


def webtransport_stream_prefix(session_id: int) -> bytes:
    """WEBTRANSPORT_STREAM, unidirectional (draft-ietf-webtrans-http3 section 4.2)."""
    return varint(0x54) + varint(session_id)


def webtransport_datagram_prefix(session_id: int) -> bytes:
    """Quarter stream id (RFC 9297 section 2.1)."""
    return varint(session_id // 4)


# Link, network, UDP


@dataclass(frozen=True)
class Path:
    """Two ends of UDP packets. IPv4 or IPv6 by the addresses."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    family: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", ipaddress.ip_address(self.source).version)

    def reverse(self) -> Path:
        return Path(self.destination, self.source, self.destination_port, self.source_port)


@functools.cache
def packed(address: str) -> bytes:
    """An address as in a packet, in network order."""
    return ipaddress.ip_address(address).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def udp(path: Path, payload: bytes, *, length: int | None = None) -> bytes:
    """UDP header and payload. ``length``: what the header says; default: the truth."""
    said = 8 + len(payload) if length is None else length
    header = struct.pack("!4H", path.source_port, path.destination_port, said, 0)
    pseudo = packed(path.source) + packed(path.destination)
    pseudo += struct.pack("!BBH" if path.family == 4 else "!xxxxBBH", 0, 17, said)
    value = checksum(pseudo + header + payload) or 0xFFFF
    return header[:6] + struct.pack("!H", value) + payload


def ip(
    path: Path,
    content: bytes,
    *,
    protocol: int = 17,
    options: bytes = b"",
    fragment: int = 0,
    length: int | None = None,
    tos: int = 0,
    ttl: int = 63,
    identification: int = 0x1234,
) -> bytes:
    """``fragment``: IPv4's flags and offset. ``options``: IPv4's, or an IPv6 extension header,
    whose kind is then ``protocol``. ``length``: what the header says."""
    source, destination = packed(path.source), packed(path.destination)
    if path.family == 6:
        said = len(options) + len(content) if length is None else length
        return (
            struct.pack("!IHBB", 6 << 28 | tos << 20, said, protocol, ttl)
            + source
            + destination
            + options
            + content
        )
    words = 5 + len(options) // 4
    said = 4 * words + len(content) if length is None else length
    header = struct.pack(
        "!BBHHHBBH", 4 << 4 | words, tos, said, identification, fragment, ttl, protocol, 0
    )
    header += source + destination + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + content


def ethernet(content: bytes, family: int = 4, *, tags: tuple[int, ...] = ()) -> bytes:
    """``tags``: VLAN ids, in the packet itself."""
    kind = {4: 0x0800, 6: 0x86DD}[family]
    vlan = b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags)
    return POD_MAC + HOST_MAC + vlan + struct.pack("!H", kind) + content


def packet(path: Path, payload: bytes) -> bytes:
    """From Ethernet to UDP, nothing unusual."""
    return ethernet(ip(path, udp(path, payload)), path.family)
