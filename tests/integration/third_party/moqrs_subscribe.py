"""Prints each whole group of a track, as "group object sha256" lines, until standard input closes.

With moq-rs, which takes the server's draft. usage: moqrs_subscribe.py URL - NAMESPACE TRACK
"""

import asyncio
import sys

import moq
from content import OBJECTS_PER_GROUP, digest
from lifetime import until_input_closes

PATIENT = moq.Subscription(max_age_us=60_000_000)
"""Without this a group is given up as soon as a newer one begins, finished or not."""


async def read(group: moq.GroupConsumer) -> None:
    frames = [frame async for frame in group]
    if len(frames) < OBJECTS_PER_GROUP:
        return  # joined in the middle of this one
    for index, frame in enumerate(frames):
        print(group.sequence, index, digest(frame.payload))
    sys.stdout.flush()


async def take(broadcasts: moq.OriginConsumer, namespace: str, name: str) -> None:
    """All groups at once: the one in which it joined may never be whole."""
    broadcast = await broadcasts.announced_broadcast(namespace)
    track = await broadcast.subscribe_track(name, PATIENT)
    reading = []
    # In order, one that begins behind a newer one would be passed over.
    async for group in track.groups_as_arrived():
        reading.append(asyncio.create_task(read(group)))
    await asyncio.gather(*reading)


async def main(url: str, _draft: str, namespace: str, name: str) -> None:
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, subscribe=origin):
        await until_input_closes(take(origin.consume(), namespace, name))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
