"""Receives whole groups of one track with aiomoqt and prints "group object sha256" lines.

usage: aiomoqt_subscribe.py URL DRAFT NAMESPACE TRACK GROUPS
"""

import asyncio
import collections
import sys

from aiomoqt.client import MOQTClient
from aiomoqt.track import SubscribedTrack
from aiomoqt.utils.url import parse_relay_url
from content import OBJECTS_PER_GROUP, digest


async def main(url: str, draft: int, namespace: str, track: str, groups: int) -> None:
    relay = parse_relay_url(url)
    client = MOQTClient(
        relay.host,
        relay.port,
        path=relay.path,
        use_quic=relay.use_quic,
        verify_tls=False,
        supported_drafts=draft,
    )
    received: dict[int, dict[int, str]] = collections.defaultdict(dict)
    enough = asyncio.Event()

    def on_object(message, size, received_at, group_id=None, subgroup_id=None):
        objects = received[group_id]
        if not message.payload:
            return  # a status, not content
        if message.object_id in objects:
            print(f"twice: {group_id} {message.object_id}", flush=True)
        objects[message.object_id] = digest(bytes(message.payload))
        if sum(len(o) == OBJECTS_PER_GROUP for o in received.values()) >= groups:
            enough.set()

    async with client.connect() as session:
        await session.client_session_init()
        subscribed = SubscribedTrack(session, namespace, track, on_object=on_object)
        await subscribed.subscribe()
        await enough.wait()
        session.close()
    for group_id, objects in sorted(received.items()):
        if len(objects) == OBJECTS_PER_GROUP:
            for object_id, value in sorted(objects.items()):
                print(group_id, object_id, value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
