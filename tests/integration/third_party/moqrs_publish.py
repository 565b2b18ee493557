"""Publishes one track with moq-rs until standard input closes.

The server chooses the draft. usage: moqrs_publish.py URL - NAMESPACE TRACK -
"""

import asyncio
import itertools
import sys

import moq
from content import INTERVAL, OBJECTS_PER_GROUP, payload


async def produce(track: moq.TrackProducer, name: str) -> None:
    for sequence in itertools.count():
        group = track.append_group()
        for obj in range(OBJECTS_PER_GROUP):
            group.write_frame(payload(name, sequence, obj), timestamp_us=sequence * 8000 + obj)
            await asyncio.sleep(INTERVAL)
        group.finish()


async def main(url: str, _draft: str, namespace: str, name: str, _announce: str) -> None:
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, publish=origin):
        broadcast = origin.create_broadcast(namespace)
        track = broadcast.publish_track(name)
        broadcast.announce()
        producing = asyncio.create_task(produce(track, name))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        producing.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
