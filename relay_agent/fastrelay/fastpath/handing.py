"""What the node agent and a relay say to each other, and how the maps change hands.

A Unix socket of whole messages (SOCK_SEQPACKET), each one JSON object. The relay speaks first: a
:class:`Statement`, all that is so on its side, and another one whenever that changes. The agent
answers with an :class:`Offer`, and with another one whenever that changes. An offer that has
``names`` comes with descriptors (SCM_RIGHTS): of the maps, in that order, and last of a file
that is locked (``flock``). Whoever has that one open has the maps for himself; the kernel frees
the lock with the last descriptor of it, however its holder ends, whatever becomes of the agent.

The relay needs nothing of bpf(2) for this: it maps what it was given.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastrelay.fastpath import layout

VERSION = 1
"""Of the messages."""
MAX_MESSAGE = 4096
NAMES = tuple(each.name for each in layout.MAPS if each.relay)
"""The relay's maps, in the order in which they are handed over."""
_MAX_DESCRIPTORS = 64

Word = Annotated[str, Field(pattern=r"^[A-Za-z]{0,63}$")]
Words = Annotated[str, Field(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
Number = Annotated[int, Field(ge=0, lt=1 << 32)]


class Cause(StrEnum):
    """Why a relay does not forward in the kernel, as one word. CamelCase, for conditions."""

    NO_MAPS = "NoMaps"
    """It has asked for them, and was not given any."""
    MAPS_NOT_OPENED = "MapsNotOpened"
    """It was given maps and cannot use them."""
    STOPPED = "ForwardingStopped"
    """It has given the maps back, as something was wrong with what they held."""
    NOT_CONNECTED = "RelayNotConnected"
    """Nobody has asked for the maps."""


class Refusal(StrEnum):
    """Why an agent has no maps to give at this moment; or the reason of the relay's status."""

    OTHER_VERSION = "OtherVersion"
    IN_USE = "InUse"
    REMOVED = "Removed"


class HandingError(Exception):
    """That is not what the other side may say."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    version: Number = VERSION


class Statement(_Message):
    """The relay's side. What a later version adds is not looked at."""

    maps: Number = 0
    """The maps that it has, see :class:`Offer`; 0: none."""
    wants: bool = False
    """To be given maps."""
    forwarding: bool = False
    """Whether the kernel forwards for it."""
    reason: Word = ""
    """Why not: a :class:`Cause`."""
    message: Words = ""
    """The same in words."""
    kernel: Number = 0
    """Connections that the kernel has."""
    user: Number = 0
    """Connections that user space serves alone."""


class Offer(_Message):
    """The agent's side."""

    maps: Number = 0
    """The kernel's id of ``shared`` of the maps that are in use now; 0: there are none."""
    names: list[Annotated[str, Field(max_length=32)]] = Field(default=[], max_length=32)
    """Of the maps that come with this message."""
    reason: Word = ""
    """Why there are none: a :class:`Refusal`, or the reason of the agent's status."""
    message: Words = ""


M = TypeVar("M", bound=_Message)


def new_socket() -> socket.socket:
    """One that carries messages, and never waits."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)


def address(directory: int, name: str) -> str:
    """Of a socket in an open directory, however long its path is: there is room for 107 bytes."""
    return f"/proc/self/fd/{directory}/{name}"


def encode(message: _Message) -> bytes:
    return message.model_dump_json(exclude_defaults=True).encode()


def decode(kind: type[M], data: bytes) -> M:
    """:raises HandingError: it is no such message."""
    if len(data) > MAX_MESSAGE:
        raise HandingError(f"more than {MAX_MESSAGE} bytes")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise HandingError(f"{where}: {first['msg']}") from None


def words(text: str) -> str:
    """As much of a text as fits into a message."""
    return "".join(c if c.isprintable() else " " for c in text)[:512]


def send(connection: socket.socket, message: _Message, descriptors: Sequence[int] = ()) -> None:
    """Never waits.

    :raises OSError: the other side has gone, or does not read.
    """
    # socket.send_fds() and recv_fds() forget their flags.
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    connection.sendmsg([encode(message)], [rights] if descriptors else [], flags)


def receive(connection: socket.socket) -> bytes:
    """A message, without descriptors: the kernel closes those that come with it. Never waits.

    Empty: the other side has gone.
    """
    return connection.recv(MAX_MESSAGE + 1, socket.MSG_DONTWAIT)


def receive_with_descriptors(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A message, and what came with it, for the caller to close. Never waits.

    :raises HandingError: more came than anybody would send; all of it is closed.
    """
    room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array("i").itemsize)
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    data, ancillary, seen, _ = connection.recvmsg(MAX_MESSAGE + 1, room, flags)
    found = array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    if seen & socket.MSG_CTRUNC:
        for each in found:
            os.close(each)
        raise HandingError("too many descriptors")
    return data, list(found)
