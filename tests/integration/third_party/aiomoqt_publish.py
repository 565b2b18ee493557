"""Publishes one track with aiomoqt until standard input closes.

usage: aiomoqt_publish.py URL DRAFT NAMESPACE TRACK {namespace|track}
"""

import asyncio
import itertools
import sys

from aiomoqt.client import MOQTClient
from aiomoqt.track import PublishedTrack
from aiomoqt.utils.url import parse_relay_url
from content import INTERVAL, OBJECTS_PER_GROUP, payload
from lifetime import KEEP_ALIVE


class Track(PublishedTrack):
    async def produce(self, out):
        for group in itertools.count():
            for obj in range(OBJECTS_PER_GROUP):
                data = payload(self.trackname, group, obj)
                await out.write(group, obj, data, group_start=obj == 0)
                await asyncio.sleep(INTERVAL)


async def main(url: str, draft: int, namespace: str, track: str, announce: str) -> None:
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
        by_namespace = announce == "namespace"
        published = Track(session, namespace, track)
        await published.publish(announce_namespace=by_namespace, publish_track=not by_namespace)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        session.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
