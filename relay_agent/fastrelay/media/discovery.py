"""Finding a broadcast's catalog, whoever publishes it and through whatever relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from dataclasses import dataclass

from fastrelay.catalog import HANG_TRACK, MSF_TRACK, Catalog, CatalogError, parse_hang, update_msf
from fastrelay.client import Client, ClientError, ReceivedObject, SubgroupEnd
from fastrelay.media.formats import MediaError, namespace_text
from fastrelay.media.tasks import first_of
from fastrelay.moqt.events import FetchRange
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Location, Namespace

_REFRESH_TIMEOUT = 6.0
"""Seconds for a catalog on a track that was accepted: publishers repeat theirs every 5."""
_RETRY_INTERVAL = 0.5

_LIVE = LocationFilter(FilterKind.NEXT_OBJECT)
_CURRENT_GROUP = Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=0))

_NOTHING = Catalog(())
_CATALOGS: tuple[tuple[bytes, Callable[[bytes, Catalog], Catalog]], ...] = (
    (MSF_TRACK, update_msf),
    (HANG_TRACK, lambda document, _: parse_hang(document)),
)


@dataclass(frozen=True, slots=True)
class FoundCatalog:
    """A catalog, the track that it came on, and how to read what else comes there:
    ``parse(document, the catalog before it)``."""

    catalog: Catalog
    track: FullTrackName
    parse: Callable[[bytes, Catalog], Catalog]


async def find_catalog(client: Client, namespace: Namespace, patience: float) -> FoundCatalog:
    """The first catalog that names tracks: MSF's, otherwise moq-dev's.

    :param patience: seconds to go on trying while nobody publishes.
    :raises MediaError: there is none, or it cannot be read.
    :raises ClientError: the session was lost.
    """
    deadline = time.monotonic() + patience
    while True:
        reason = "nothing was received on its track"
        for name, parse in _CATALOGS:
            try:
                track = FullTrackName(namespace, name)
                document = await _newest(client, track)
                if document is None:
                    continue
                catalog = parse(document, _NOTHING)
                if catalog.tracks:
                    return FoundCatalog(catalog, track, parse)
                reason = "it is over" if catalog.complete else "its catalog names no tracks"
            except CatalogError as error:
                reason = str(error)
            except ClientError as error:
                if client.closed:
                    raise
                reason = str(error)
        if time.monotonic() >= deadline:
            raise MediaError(f"no broadcast {namespace_text(namespace)}: {reason}")
        await asyncio.sleep(_RETRY_INTERVAL)


async def _newest(client: Client, track: FullTrackName) -> bytes | None:
    """The first object of the newest group: fetched if it is there, otherwise the next one.

    :raises ClientError: the subscription was refused.
    """
    fill = _CURRENT_GROUP if client.draft.fill else None
    subscription = await client.subscribe(track, Parameters(filter=_LIVE, fill=fill))
    found: list[bytes] = []

    async def look(items: AsyncIterable[ReceivedObject | SubgroupEnd | FetchRange]) -> None:
        async for item in items:
            if isinstance(item, ReceivedObject) and item.location.object == 0 and item.payload:
                found.append(item.payload)
                return

    async def look_back() -> None:
        """A relay that has nothing, or no fetch, leaves the live subscription."""
        with suppress(ClientError):
            fetch = subscription.fill or await subscription.joining_fetch(0)
            try:
                await look(fetch)
            finally:
                fetch.close()
        if not found:
            await asyncio.Event().wait()

    async with subscription:
        with suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH_TIMEOUT):
                await first_of(look(subscription), look_back())
    return found[0] if found else None


async def follow_catalog(client: Client, found: FoundCatalog) -> AsyncGenerator[Catalog, None]:
    """Every catalog after the one that was found, until its track ends.

    What cannot be read is passed over: the catalog before it stays.

    :raises ClientError: the subscription was refused or is lost.
    """
    catalog = found.catalog
    newest = Location(0, 0)
    async with await client.subscribe(found.track, Parameters(filter=_LIVE)) as subscription:
        async for item in subscription:
            if not isinstance(item, ReceivedObject) or not item.payload or item.location < newest:
                continue
            newest = item.location
            try:
                catalog = found.parse(item.payload, catalog)
            except CatalogError:
                continue
            yield catalog
