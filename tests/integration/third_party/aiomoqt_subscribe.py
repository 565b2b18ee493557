"""Prints each whole group of a track, as "group object sha256" lines, until standard input closes.

With aiomoqt. usage: aiomoqt_subscribe.py URL DRAFT NAMESPACE TRACK
"""

import asyncio
import collections
import sys

from aiomoqt.client import MOQTClient
from aiomoqt.track import SubscribedTrack
from aiomoqt.utils.url import parse_relay_url
from content import OBJECTS_PER_GROUP, digest
from lifetime import KEEP_ALIVE, until_input_closes


class Printer:
    """What comes once a group is printed is printed too: it should not have come."""

    def __init__(self):
        self._received = collections.defaultdict(dict)
        self._printed = set()

    def on_object(self, message, size, received_at, group_id=None, subgroup_id=None):
        if not message.payload:
            return  # a status, not content
        objects = self._received[group_id]
        again = message.object_id in objects
        objects[message.object_id] = digest(bytes(message.payload))
        if again or group_id in self._printed:
            print(group_id, message.object_id, objects[message.object_id], flush=True)
        elif len(objects) == OBJECTS_PER_GROUP:
            self._printed.add(group_id)
            for object_id, value in sorted(objects.items()):
                print(group_id, object_id, value)
            sys.stdout.flush()


async def main(url: str, draft: int, namespace: str, track: str) -> None:
    relay = parse_relay_url(url)
    client = MOQTClient(
        relay.host,
        relay.port,
        path=relay.path,
        use_quic=relay.use_quic,
        verify_tls=False,
        supported_drafts=draft,
        keep_alive_interval=KEEP_ALIVE,
    )

    async with client.connect() as session:
        await session.client_session_init()
        printer = Printer()
        session.on_object_received = printer.on_object  # of what overtakes SUBSCRIBE_OK
        subscribed = SubscribedTrack(session, namespace, track, on_object=printer.on_object)
        await subscribed.subscribe()
        await until_input_closes(session.async_closed())
        session.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
