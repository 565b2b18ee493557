"""The relay's end of the connection to the node agent: it comes and goes with the agent."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fastrelay.fastpath import handing
from fastrelay.fastpath.handing import HandingError, Offer, Statement
from fastrelay.fastpath.maps import Maps, MapsError, maps_of


class Guest(Protocol):
    """Who uses the maps."""

    def offered(self, offer: Offer, maps: Maps | None) -> None:
        """``maps``: those that came with the offer, for good."""

    def unusable(self, offer: Offer, error: MapsError) -> None:
        """Those that came with the offer cannot be used, and are given back."""

    def lost(self, why: str) -> None:
        """There is no connection. Whoever has maps keeps them."""


class Reception:
    """``path``: of the agent's socket. Nothing here waits for anybody."""

    def __init__(self, path: Path, guest: Guest) -> None:
        self._path, self._guest = path, guest
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._said: Statement | None = None

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def connect(self) -> None:
        """:raises OSError: there is no agent, or it does not want to see us."""
        self._socket = connect(self._path)
        self._loop.add_reader(self._socket, self._read)

    def say(self, statement: Statement) -> None:
        """Tell the agent, if there is one, and if it does not know yet."""
        if self._socket is None or statement == self._said:
            return
        try:
            handing.send(self._socket, statement)
        except OSError as error:
            self._lose(str(error))
        else:
            self._said = statement

    def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self._socket = self._said = None

    def _lose(self, why: str) -> None:
        self.close()
        self._guest.lost(why)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data, descriptors = handing.receive_with_descriptors(self._socket)
        except BlockingIOError:
            return
        except (OSError, HandingError) as error:
            self._lose(str(error))
            return
        try:
            if not data:
                raise HandingError("the node agent has gone")
            offer = handing.decode(Offer, data)
            if len(descriptors) != (len(offer.names) + 1 if offer.names else 0):
                raise HandingError("descriptors and their names do not fit")
        except HandingError as error:
            for each in descriptors:
                os.close(each)
            self._lose(str(error))
            return
        if not offer.names:
            self._guest.offered(offer, None)
            return
        lock = descriptors.pop()
        try:
            maps = maps_of(dict(zip(offer.names, descriptors, strict=True)), lock)
        except MapsError as error:
            self._guest.unusable(offer, error)
        else:
            self._guest.offered(offer, maps)


def connect(path: Path) -> socket.socket:
    """A connection to a socket.

    :raises OSError: nobody listens there.
    """
    made = handing.new_socket()
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made.connect(handing.address(directory, path.name))
        finally:
            os.close(directory)
    except OSError as error:
        made.close()
        with suppress(AttributeError):
            error.filename = str(path)
        raise
    return made
