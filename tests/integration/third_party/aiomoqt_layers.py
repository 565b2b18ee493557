"""Notes what comes of some tracks, until it is killed. With aiomoqt.

usage: aiomoqt_layers.py URL DRAFT NAMESPACE TRACK[,TRACK...] FILE
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import TextIO

from aiomoqt.client import MOQTClient
from aiomoqt.track import SubscribedTrack
from aiomoqt.utils.url import parse_relay_url
from content import layer_line
from lifetime import KEEP_ALIVE


class Noting:
    def __init__(self, name: str, notes: TextIO) -> None:
        self._name = name
        self._notes = notes

    def on_object(self, message, size, received_at, group_id=None, subgroup_id=None) -> None:
        if message.payload:
            data, group = bytes(message.payload), group_id
            if group is None:
                group = message.group_id
            line = layer_line(self._name, group, message.object_id, data, time.monotonic())
            self._notes.write(line)


async def main(url: str, draft: str, namespace: str, names: str, notes: TextIO) -> None:
    relay = parse_relay_url(url)
    client = MOQTClient(
        relay.host,
        relay.port,
        path=relay.path,
        use_quic=relay.use_quic,
        verify_tls=False,
        supported_drafts=int(draft),
        keep_alive_interval=KEEP_ALIVE,
    )
    async with client.connect() as session:
        await session.client_session_init()
        for name in names.split(","):
            on_object = Noting(name, notes).on_object
            await SubscribedTrack(session, namespace, name, on_object=on_object).subscribe()
        await session.async_closed()


if __name__ == "__main__":
    with Path(sys.argv[5]).open("w", buffering=1) as opened:
        asyncio.run(main(*sys.argv[1:5], notes=opened))
