"""Receives whole groups of one track with moq-rs and prints "group object sha256" lines.

The server chooses the draft. usage: moqrs_subscribe.py URL - NAMESPACE TRACK GROUPS
"""

import asyncio
import sys

import moq
from content import OBJECTS_PER_GROUP, digest

PATIENT = moq.Subscription(max_age_us=20_000_000)
"""Without this a group is given up as soon as a newer one begins, finished or not."""


async def main(url: str, _draft: str, namespace: str, name: str, groups: str) -> None:
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, subscribe=origin):
        broadcast = await origin.consume().announced_broadcast(namespace)
        track = await broadcast.subscribe_track(name, PATIENT)
        complete = 0
        async for group in track:
            frames = [frame async for frame in group]
            if len(frames) < OBJECTS_PER_GROUP:
                continue  # joined in the middle of this one
            for index, frame in enumerate(frames):
                print(group.sequence, index, digest(frame.payload))
            complete += 1
            if complete == int(groups):
                return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
