"""A viewer on moq-rs (Rust on noq); the relay chooses the draft."""

from __future__ import annotations

import moq

from fastrelay.local.third_party.recorder import Recorder

PATIENT = moq.Subscription(max_age_us=20_000_000)
"""Without this a group is given up as soon as a newer one begins, finished or not."""


async def watch(url: str, namespace: str, _draft: int, recorder: Recorder) -> None:
    """Record one track until cancelled."""
    origin = moq.OriginProducer()
    async with moq.Client(url, tls_verify=False, websocket_enabled=False, subscribe=origin):
        broadcast = await origin.consume().announced_broadcast(namespace)
        async for group in await broadcast.subscribe_track("catalog"):
            async for frame in group:
                recorder.catalog(frame.payload)
            break
        track = await broadcast.subscribe_track(recorder.track, PATIENT)
        # In order, one that begins behind a newer one would be passed over.
        async for group in track.groups_as_arrived():
            object_id = 0
            async for frame in group:
                recorder.add(group.sequence, object_id, frame.payload)
                object_id += 1
