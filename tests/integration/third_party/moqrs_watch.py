"""Watches a broadcast with moq-rs, by its catalog, and prints what it decoded as JSON.

usage: moqrs_watch.py URL NAMESPACE RENDITION FRAMES
"""

import asyncio
import json
import sys

import moq


async def take(
    broadcast: moq.BroadcastConsumer, name: str, track: object, frames: int
) -> dict[str, object]:
    times = []
    keys = 0
    async for frame in await broadcast.subscribe_media(name, track):
        times.append(frame.timestamp_us)
        keys += frame.keyframe
        if len(times) == frames:
            break
    return {"times": times, "keys": keys}


async def main(url: str, namespace: str, rendition: str, frames: str) -> None:
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, subscribe=origin):
        broadcast = await origin.consume().announced_broadcast(namespace)
        catalog = await anext(aiter(await broadcast.subscribe_catalog()))
        video, audio = await asyncio.gather(
            take(broadcast, rendition, catalog.video[rendition], int(frames)),
            take(broadcast, "audio", catalog.audio["audio"], int(frames)),
        )
        names = [*catalog.video, *catalog.audio]
        print(json.dumps({"tracks": names, "video": video, "audio": audio}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
