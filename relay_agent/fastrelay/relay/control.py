"""The control socket of a relay: its pages, and what a person may change by hand.

A Unix socket, so that file permissions say who may: the relay's own user, and root. There is no
way to it through a network.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastrelay.fastpath.bands import MAX_LEVEL, MIN_RATE
from fastrelay.relay.logs import get_logger
from fastrelay.relay.pages import Handler, Page, Pages
from fastrelay.relay.peer import Peer

EVERYBODY = "all"
MAX_RATE = 1 << 40

log = get_logger(__name__)

Members = Callable[[], Iterable[tuple[str, Peer]]]
"""Sessions, each with the address that its peer has now."""


class Control:
    """``POST /limits`` on a Unix socket, beside all that the HTTP port has."""

    def __init__(self, handlers: Mapping[str, Handler], members: Members) -> None:
        self._members = members
        self._pages = Pages(handlers, {"/limits": self._limits})
        self._path: Path | None = None

    async def listen(self, path: Path) -> None:
        """:raises OSError: the path cannot be had."""
        await self._pages.listen_on(path)
        self._path = path

    async def close(self) -> None:
        await self._pages.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _limits(self, body: bytes) -> Page:
        try:
            member, changes = _read(body)
        except ValueError as error:
            return _said(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        found = [
            (address, peer)
            for address, peer in self._members()
            if member in (address, peer.info.address)
            or (member == EVERYBODY and peer.subscriptions)
        ]
        if not found and member != EVERYBODY:
            return _said(HTTPStatus.NOT_FOUND, {"error": f"there is no session of {member}"})
        for _, peer in found:
            limiter = peer.limiter
            limiter.set_by_hand(
                rate=changes.get("rate", limiter.rate_by_hand),
                level=changes.get("level", limiter.level_by_hand),
            )
        log.info("limits set by hand", member=member, sessions=len(found), **changes)
        return _said(HTTPStatus.OK, {"changed": [address for address, _ in found]})


def _read(body: bytes) -> tuple[str, dict[str, int | None]]:
    """Whom, and which of its limits become what.

    :raises ValueError: the message says what to write instead.
    """
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(wanted, dict) or not isinstance(wanted.get("member"), str):
        raise ValueError('write {"member": ADDRESS, "rate": BYTES, "level": LEVEL}')
    member = wanted.pop("member")
    most = {"rate": MAX_RATE, "level": MAX_LEVEL}
    if not wanted or wanted.keys() - most.keys():
        raise ValueError("give rate, level, or both")
    for name, value in wanted.items():
        if value is not None and (type(value) is not int or not 0 <= value <= most[name]):
            raise ValueError(f"{name} is null or a whole number from 0 to {most[name]}")
    if 0 < (wanted.get("rate") or 0) < MIN_RATE:
        raise ValueError(f"rate is at least {MIN_RATE} bytes a second, or 0 for no limit")
    return member, wanted


def _said(status: HTTPStatus, document: dict[str, Any]) -> Page:
    return Page(json.dumps(document).encode() + b"\n", "application/json", status)
