"""What the relay itself reads: the catalogs of contents of which somebody wants the right
rendition."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from fastrelay.catalog import MSF_TRACK, Catalog, CatalogError, update_msf
from fastrelay.moqt.names import FullTrackName, Namespace, ObjectStatus
from fastrelay.relay.subgroup import State

if TYPE_CHECKING:
    from fastrelay.relay.store import Group
    from fastrelay.relay.tracks import Track

_NOTHING = Catalog(())


class Listener(Protocol):
    """A reader of a track within the relay; ``hops``: of the request that it serves."""

    hops: bytes

    def more(self) -> None:
        """There may be new objects."""

    def refused(self, code: int, reason: str) -> None:
        """No publisher could be won."""


class CatalogReader:
    """Follows the MSF catalog of a namespace. ``catalog`` None: it has not come yet; ``why``: or
    never will. ``changed`` is called when either is another."""

    def __init__(self, track: Track, hops: bytes, changed: Callable[[], None]) -> None:
        self.hops = hops
        self.catalog: Catalog | None = None
        self.why = ""
        self._track = track
        self._changed = changed
        self._read: tuple[bytes, ...] = ()
        """The objects that the catalog was made of."""

    def begin(self) -> None:
        self._track.listen(self)

    def close(self) -> None:
        self._track.unlisten(self)

    def refused(self, code: int, reason: str) -> None:
        if self.catalog is None:
            self.why = reason
            self._changed()

    def more(self) -> None:
        group = self._track.store.current
        if group is None:
            return
        for subgroup in group.subgroups:
            if subgroup.state is State.OPEN and self not in subgroup.wakers:
                subgroup.wakers.append(self)
        documents = _documents(group)
        if documents in ((), self._read):
            return
        self._read = documents
        try:
            catalog = _parsed(documents)
        except CatalogError as error:
            if self.catalog is None:
                self.why = str(error)
                self._changed()
            return
        if catalog != self.catalog:
            self.catalog, self.why = catalog, ""
            self._changed()


@lru_cache(maxsize=64)
def _parsed(documents: tuple[bytes, ...]) -> Catalog:
    """The same for everybody who reads it.

    :raises CatalogError: one of them cannot be read.
    """
    catalog = _NOTHING
    for document in documents:
        catalog = update_msf(document, catalog)
    return catalog


def name_of(namespace: Namespace) -> FullTrackName:
    """The catalog's track."""
    return FullTrackName(namespace, MSF_TRACK)


def _documents(group: Group) -> tuple[bytes, ...]:
    """The payloads of a group from its first object on, as far as they are there."""
    found: dict[int, bytes] = {}
    for subgroup in group.subgroups:
        body = subgroup.body
        for header in body.objects:
            size = header.end - header.payload_start
            whole = header.end <= body.length and header.status is ObjectStatus.NORMAL
            if whole and size and body.holds(header.payload_start):
                found[header.location.object] = body.slice(header.payload_start, header.end)
    for number, datagram in group.datagrams.items():
        if datagram.event.payload:
            found[number] = datagram.event.payload
    documents: list[bytes] = []
    while len(documents) in found:
        documents.append(found[len(documents)])
    return tuple(documents)
