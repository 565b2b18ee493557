"""What kopf shows us, and of which of it a relay is told."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from fastrelay_operator import handlers
from fastrelay_operator.objects import RELAY, Object
from fastrelay_operator.store import RelayKey, Store
from unit.operator.world import relay

KEY = RelayKey("media", "live")


class Watched:
    """``told``: relays that have to be looked at, in order."""

    def __init__(self) -> None:
        self.store, self.told = Store(), list[RelayKey]()
        self._handlers = handlers.Watching(self.store, self.told.append)

    def seen(self, found: Object) -> None:
        """While lists are still being read."""
        self._handlers.seen(RELAY, found)

    def happened(self, event: str | None, found: Object) -> None:
        self._handlers.happened(RELAY, event, found)


def version(number: int, **more: Any) -> Object:
    found = relay()
    found["metadata"]["resourceVersion"] = str(number)
    return {**found, **more}


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.parametrize("event", [None, "ADDED"])
def test_what_was_there_is_looked_at_once_all_has_been_seen(
    watched: Watched, event: str | None
) -> None:
    """Also what a watch showed while lists of other kinds were still being read."""
    watched.seen(version(1))
    assert watched.store.relay(KEY) is not None
    assert watched.told == []
    watched.happened(event, version(1))
    assert watched.told == [KEY]


def test_no_echo(watched: Watched) -> None:
    watched.happened("ADDED", version(1))
    watched.store.put(RELAY, version(2, status={"replicas": 0}))
    watched.happened("MODIFIED", version(2, status={"replicas": 0}))
    assert watched.told == [KEY]
    watched.happened("MODIFIED", version(3, status={"replicas": 1}))
    assert watched.told == [KEY, KEY]


def test_what_is_gone(watched: Watched) -> None:
    watched.happened("ADDED", version(1))
    watched.happened("DELETED", version(2))
    assert watched.told == [KEY, KEY]
    assert watched.store.relay(KEY) is None


def test_indices_are_idle_once_all_has_been_seen(watched: Watched) -> None:
    registry = kopf.OperatorRegistry()
    watching = handlers.Watching(watched.store, watched.told.append)
    watching.register(registry, RELAY)
    assert watching.incomplete()
    watching.happened(RELAY, None, version(1))
    assert not watching.incomplete()
