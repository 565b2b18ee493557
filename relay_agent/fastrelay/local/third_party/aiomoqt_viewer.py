"""A viewer on aiomoqt (Python on picoquic)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiomoqt.client import MOQTClient
from aiomoqt.track import SubscribedTrack
from aiomoqt.utils.url import parse_relay_url

from fastrelay.local.third_party.recorder import Recorder


async def watch(url: str, namespace: str, draft: int, recorder: Recorder) -> None:
    """Record one track until cancelled."""
    relay = parse_relay_url(url)
    client = MOQTClient(
        relay.host,
        relay.port,
        path=relay.path,
        use_quic=relay.use_quic,
        verify_tls=False,
        supported_drafts=draft,
    )
    has_catalog = asyncio.Event()

    def on_catalog(message: Any, *_: Any) -> None:
        if message.payload:
            recorder.catalog(bytes(message.payload))
            has_catalog.set()

    def on_object(message: Any, _size: int, _at: float, group_id: int, *_: Any) -> None:
        if message.payload:  # without one it is a status
            recorder.add(group_id, message.object_id, bytes(message.payload))

    async with client.connect() as session:
        await session.client_session_init()
        await SubscribedTrack(session, namespace, "catalog", on_object=on_catalog).subscribe()
        await has_catalog.wait()
        await SubscribedTrack(session, namespace, recorder.track, on_object=on_object).subscribe()
        with contextlib.suppress(asyncio.CancelledError):
            await session.async_closed()
        session.close()
