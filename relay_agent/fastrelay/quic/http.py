"""The small pieces of HTTP that WebTransport needs: header lists, capsules, error codes."""

from __future__ import annotations

import re

from fastrelay.moqt.varint import IncompleteError, decode_quic, encode_quic

CLOSE_SESSION = 0x2843
"""CLOSE_WEBTRANSPORT_SESSION: code of 32 bits, then a reason of up to 1024 bytes."""
DRAIN_SESSION = 0x78AE
"""DRAIN_WEBTRANSPORT_SESSION: please finish; no content."""

_MAX_CAPSULE = 4096
_MAX_REASON = 1024
_FIRST_CODE = 0x52E4A40FA8DB
_LAST_CODE = 0x52E5AC983162

_MEMBER = re.compile(
    r"""\s*(?: "((?:[^"\\]|\\["\\])*)" | ([^\s,;"]+) )   # a quoted string, or a token
        ((?: \s*;\s*[^,;]* )*) \s*                       # parameters, not looked at
        (?:,|$)""",
    re.VERBOSE,
)


def parse_list(value: str) -> list[str]:
    """The members of a structured-field list of strings (RFC 9651 section 3.1).

    Parameters are dropped, tokens are taken for strings. A malformed list is an empty one,
    as RFC 9651 section 4.2 has it.
    """
    members: list[str] = []
    position = 0
    while position < len(value):
        match = _MEMBER.match(value, position)
        if match is None:
            return []
        quoted, token = match[1], match[2]
        members.append(token if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        position = match.end()
    return members


def format_list(members: list[str]) -> str:
    """The opposite of :func:`parse_list`, for names without quotes and backslashes."""
    return ", ".join(f'"{member}"' for member in members)


def code_to_http(code: int) -> int:
    """A WebTransport application error code in HTTP/3's space of codes.

    Every 31st number there is reserved (draft-ietf-webtrans-http3 section 4.4).
    """
    return _FIRST_CODE + code + code // 0x1E


def code_from_http(code: int) -> int | None:
    """The opposite; None: the code is HTTP/3's or QUIC's own."""
    if not _FIRST_CODE <= code <= _LAST_CODE or (code - 0x21) % 0x1F == 0:
        return None
    shifted = code - _FIRST_CODE
    return shifted - shifted // 0x1F


def encode_capsule(kind: int, content: bytes = b"") -> bytes:
    return encode_quic(kind) + encode_quic(len(content)) + content


def encode_close(code: int, reason: str) -> bytes:
    """CLOSE_WEBTRANSPORT_SESSION, the reason cut at a character's end where it is too long."""
    text = reason.encode()[:_MAX_REASON].decode(errors="ignore").encode()
    return encode_capsule(CLOSE_SESSION, (code & 0xFFFFFFFF).to_bytes(4, "big") + text)


def decode_close(content: bytes) -> tuple[int, str]:
    """Code and reason.

    :raises ValueError: the capsule is too short or its reason too long.
    """
    if not 4 <= len(content) <= 4 + _MAX_REASON:
        raise ValueError("CLOSE_WEBTRANSPORT_SESSION has a wrong length")
    return int.from_bytes(content[:4], "big"), content[4:].decode(errors="replace")


class CapsuleReader:
    """Takes a capsule stream apart (RFC 9297 section 3.2), in pieces as they arrive.

    Only capsules of interest are kept; others, of any length, are skipped as they come.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The capsules that are complete now: type and content.

        :raises ValueError: a capsule of interest is larger than any valid one.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        capsules: list[tuple[int, bytes]] = []
        while self._buffer:
            try:
                kind, position = decode_quic(self._buffer, 0)
                length, start = decode_quic(self._buffer, position)
            except IncompleteError:
                break
            end = start + length
            if kind not in (CLOSE_SESSION, DRAIN_SESSION):
                self._skip = max(0, end - len(self._buffer))
                self._buffer = self._buffer[end:]
                continue
            if length > _MAX_CAPSULE:
                raise ValueError("the capsule is too large")
            if end > len(self._buffer):
                break
            capsules.append((kind, self._buffer[start:end]))
            self._buffer = self._buffer[end:]
        return capsules
