"""Finding a broadcast's catalog, whoever publishes it and through whatever relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from contextlib import suppress

from fastrelay.client import Client, ClientError, ReceivedObject, SubgroupEnd
from fastrelay.media.catalog import HANG_TRACK, MSF_TRACK, Catalog, parse_hang, parse_msf
from fastrelay.media.formats import MediaError, namespace_text
from fastrelay.media.tasks import first_of
from fastrelay.moqt.events import FetchRange
from fastrelay.moqt.messages import FilterKind, LocationFilter, Parameters
from fastrelay.moqt.names import FullTrackName, Namespace

_REFRESH_TIMEOUT = 6.0
"""Seconds for a catalog on a track that was accepted: publishers repeat theirs every 5."""
_RETRY_INTERVAL = 0.5

_LIVE = LocationFilter(FilterKind.NEXT_OBJECT)
_CURRENT_GROUP = Parameters(filter=LocationFilter(FilterKind.RELATIVE, groups_back=0))

_CATALOGS: tuple[tuple[bytes, Callable[[bytes], Catalog]], ...] = (
    (MSF_TRACK, parse_msf),
    (HANG_TRACK, parse_hang),
)


async def find_catalog(client: Client, namespace: Namespace, patience: float) -> Catalog:
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
                document = await _newest(client, FullTrackName(namespace, name))
                if document is None:
                    continue
                catalog = parse(document)
                if catalog.tracks:
                    return catalog
                reason = "it is over" if catalog.complete else "its catalog names no tracks"
            except MediaError as error:
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
