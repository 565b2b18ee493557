"""Subscribers in a pod: each gets all tracks of a namespace, checks every object and notes it as it
comes::

    -m integration.fastpath.layers_watcher URL SHA256 NAMESPACE TRACK[,...] DRAFT CLIENTS FILE

A line for each object (``third_party/content.py``); for each stream that was reset one that has
``reset`` and ``0`` in the place of bytes and seconds.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO

from fastrelay.client import Client, ReceivedObject, connect
from fastrelay.moqt.drafts import DRAFTS
from fastrelay.moqt.names import FullTrackName, ObjectStatus, parse_namespace
from fastrelay.quic.options import QuicOptions
from integration.third_party.content import layer_line


async def _watch(client: Client, place: int, name: FullTrackName, notes: TextIO) -> None:
    track = name.name.decode()
    async for item in await client.subscribe(name):
        if not isinstance(item, ReceivedObject):
            if item.reset is not None:
                notes.write(f"{place} {track} {item.group_id} 0 reset 0\n")
        elif item.status is ObjectStatus.NORMAL and item.payload:
            group, number = item.location
            notes.write(layer_line(track, group, number, item.payload, item.received_at, place))


async def _subscriber(
    url: str, pin: str, namespace: str, tracks: str, draft: str, place: int, notes: TextIO
) -> None:
    options = QuicOptions(certificate_sha256=bytes.fromhex(pin), handshake_timeout=60)
    drafts = (DRAFTS[int(draft)],)
    async with connect(url, drafts=drafts, options=options, connect_timeout=60) as client:
        names = [
            FullTrackName(parse_namespace(namespace), track.encode()) for track in tracks.split(",")
        ]
        await asyncio.gather(*(_watch(client, place, name, notes) for name in names))


async def main(clients: int, *where: str, notes: TextIO) -> None:
    url, pin, namespace, tracks, draft = where
    await asyncio.gather(
        *(_subscriber(url, pin, namespace, tracks, draft, place, notes) for place in range(clients))
    )


if __name__ == "__main__":
    *words, number, file = sys.argv[1:]
    with Path(file).open("w", buffering=1) as opened:
        asyncio.run(main(int(number), *words, notes=opened))
