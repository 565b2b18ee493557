"""What cannot be found again from the pins: filters and qdiscs of clsact. A file per relay.

Written, whole, before what it tells of is done; so a crash leaves nothing unknown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fastrelay.agent.hooks import Direction

DEFAULT_DIRECTORY = Path("/run/fastrelay/agent")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something on a device: a program's filter, or (``role`` empty) the clsact qdisc itself.

    ``namespace``: the file of the device's network namespace; empty: ours.
    """

    role: str
    ifindex: int
    direction: str
    namespace: str

    @classmethod
    def of_filter(cls, role: str, ifindex: int, direction: Direction, namespace: str) -> Entry:
        return cls(role, ifindex, direction.value, namespace)

    @classmethod
    def of_qdisc(cls, ifindex: int, namespace: str) -> Entry:
        return cls("", ifindex, "", namespace)


@dataclass(frozen=True, slots=True)
class Record:
    """The entries of one relay."""

    path: Path

    def entries(self) -> frozenset[Entry]:
        """:raises ValueError: the file is damaged."""
        try:
            return frozenset(Entry(**each) for each in json.loads(self.path.read_text()))
        except FileNotFoundError:
            return frozenset()
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error

    def add(self, *entries: Entry) -> None:
        self._write(self.entries() | set(entries))

    def discard(self, *entries: Entry) -> None:
        self._write(self.entries() - set(entries))

    def _write(self, entries: Iterable[Entry]) -> None:
        if frozenset(entries) == self.entries():
            return
        if not entries:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps([asdict(entry) for entry in entries]) + "\n")
        os.replace(draft, self.path)


def names(directory: Path) -> list[str]:
    """Relays of which something is recorded."""
    return sorted(path.stem for path in directory.glob("*.json"))
