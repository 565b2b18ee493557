"""Notes what comes of some tracks, until it is killed. With moq-rs, which takes the server's draft.

usage: moqrs_layers.py URL - NAMESPACE TRACK[,TRACK...] FILE
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TextIO

import moq
from content import layer_line

PATIENT = moq.Subscription(max_age_us=60_000_000)
"""Without this a group is given up as soon as a newer one begins, finished or not."""


async def read(group: moq.GroupConsumer, name: str, notes: TextIO) -> None:
    number = 0
    # A group that the relay drops ends with an error.
    with contextlib.suppress(moq.Error):
        async for frame in group:
            notes.write(layer_line(name, group.sequence, number, frame.payload, time.monotonic()))
            number += 1


async def take(broadcast: moq.BroadcastConsumer, name: str, notes: TextIO) -> None:
    track = await broadcast.subscribe_track(name, PATIENT)
    reading = set()
    # In order, one that begins behind a newer one would be passed over.
    async for group in track.groups_as_arrived():
        task = asyncio.create_task(read(group, name, notes))
        reading.add(task)
        task.add_done_callback(reading.discard)


async def main(url: str, _draft: str, namespace: str, names: str, notes: TextIO) -> None:
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, subscribe=origin):
        broadcast = await origin.consume().announced_broadcast(namespace)
        await asyncio.gather(*(take(broadcast, name, notes) for name in names.split(",")))


if __name__ == "__main__":
    with Path(sys.argv[5]).open("w", buffering=1) as opened:
        asyncio.run(main(*sys.argv[1:5], notes=opened))
