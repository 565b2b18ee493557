"""A publisher of the soak test.

usage: python -m integration.soak_publisher URL SHA256 NUMBER SECONDS

Publishes one track until the time is over, and leaves and comes back at random.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from fastrelay.client import Client, connect
from fastrelay.quic.options import QuicOptions
from integration.soak_content import INTERVAL, OBJECTS_PER_GROUP, payload, track_name


async def main(url: str, sha256: str, number: int, seconds: float) -> None:
    chance = random.Random(number)
    end = time.monotonic() + seconds
    options = QuicOptions(
        certificate_sha256=bytes.fromhex(sha256), idle_timeout=30, handshake_timeout=60
    )
    group = 0
    while time.monotonic() < end:
        stay = min(chance.uniform(10, 25), end - time.monotonic())
        async with connect(url, options=options, connect_timeout=60) as client:
            group = await publish(client, number, group, time.monotonic() + stay)
        await asyncio.sleep(chance.uniform(0, 2))


async def publish(client: Client, number: int, group: int, until: float) -> int:
    """Whole groups until the time has come; the next group's id."""
    track = client.add_track(track_name(number))
    announced = await client.publish_namespace(track.name.namespace)
    due = time.monotonic()
    while due < until:
        subgroup = track.open_subgroup(group, end_of_group=True)
        for obj in range(OBJECTS_PER_GROUP):
            subgroup.write(payload(number, group, obj))
            due += INTERVAL
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        subgroup.close()
        group += 1
    announced.withdraw()
    track.end()
    return group


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
