"""What the release's accounts asked the API server for: its audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.places import LOGS

FORBIDDEN = 403
_LOG = LOGS / "audit.log"
_DECISION = "authorization.k8s.io/decision"


@dataclass(frozen=True, slots=True)
class Request:
    """One that was answered; a watch: when it ended."""

    who: str
    verb: str
    what: str
    code: int
    allowed: bool
    """Whether its rights suffice. Much else is forbidden, too, as in a namespace that goes."""


def here(log: Path = _LOG) -> int:
    """Where the log ends now."""
    return log.stat().st_size if log.exists() else 0


def since(begin: int, log: Path = _LOG) -> list[Request]:
    """All from there on."""
    with log.open() as lines:
        lines.seek(begin)
        return [_read(json.loads(line)) for line in lines if line.endswith("\n")]


def _read(event: dict[str, object]) -> Request:
    user, status = event["user"], event.get("responseStatus") or {}
    notes = event.get("annotations") or {}
    assert isinstance(user, dict)
    assert isinstance(status, dict)
    assert isinstance(notes, dict)
    return Request(
        who=str(user["username"]).rpartition(":")[2],
        verb=str(event["verb"]),
        what=str(event["requestURI"]),
        code=int(status.get("code", 0)),
        allowed=notes.get(_DECISION) != "forbid",
    )
