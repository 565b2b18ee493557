"""How connections ended, as the relays tell in their logs and our own clients by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from fastrelay.moqt.codes import SessionError
from fastrelay.quic.raw import QuicTransport

LOGS: list[Path] = []
"""Of all relays that were started."""
_CLOSED = re.compile(r"session closed +code=(\S+) peer=(\S+) reason=(.*)$")
_NO_ERRORS = ("Idle timeout", "the relay stops")
"""Reasons: somebody was not heard of any more; a relay stops before everybody has left it (who
was killed a moment ago may not be missed yet), which it says with GOAWAY_TIMEOUT."""


@contextmanager
def protocol_errors() -> Iterator[list[str]]:
    """Filled in at the end of the block: connections that ended since with an error."""
    errors: list[str] = []
    seen = {log: log.stat().st_size for log in LOGS if log.exists()}
    closed = QuicTransport._closed

    def noting(transport: QuicTransport, code: int, reason: str) -> None:
        if code != SessionError.NO_ERROR and not _is_no_error(reason):
            errors.append(f"a client's: {code} {reason}")
        closed(transport, code, reason)

    with mock.patch.object(QuicTransport, "_closed", noting):
        yield errors
    for log in LOGS:
        if log.exists():
            errors += _told(log, seen.get(log, 0))


def _told(log: Path, since: int) -> Iterator[str]:
    with log.open("rb") as file:
        file.seek(since)
        for line in file.read().decode(errors="replace").splitlines():
            found = _CLOSED.search(line)
            if found and found[1] != SessionError.NO_ERROR.name and not _is_no_error(found[3]):
                yield f"{log.parent.name}: {found[2]}: {found[1]} {found[3]}"


def _is_no_error(reason: str) -> bool:
    return any(words in reason for words in _NO_ERRORS)
