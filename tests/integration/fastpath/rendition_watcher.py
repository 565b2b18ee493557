"""A subscriber in a pod: notes every object of one track, checked, as it comes. A script::

    python rendition_watcher.py URL SHA256 NAMESPACE TRACK DRAFT FILE

A line of JSON for each object, and one for each stream that was reset.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from fastrelay.client import ReceivedObject, connect
from fastrelay.moqt.drafts import DRAFTS
from fastrelay.moqt.names import FullTrackName, ObjectStatus, parse_namespace
from fastrelay.quic.options import QuicOptions


def payload(name: str, group: int, number: int, size: int) -> bytes:
    """An object that says itself what it is."""
    head = f"{name} {group} {number} {size} ".encode()
    return head + hashlib.shake_256(head).digest(max(0, size - len(head)))


def checked(item: ReceivedObject) -> dict[str, Any]:
    """What is noted of an object. ``fault``: what is wrong with it."""
    group, number = item.location
    words = item.payload[:80].split(b" ")
    name, size = words[0].decode(errors="replace"), len(item.payload)
    fault = "" if item.payload == payload(name, group, number, size) else "its content differs"
    return {
        "time": item.received_at,
        "group": group,
        "number": number,
        "name": name,
        "size": size,
        "fault": fault,
    }


async def watch(url: str, pin: str, namespace: str, track: str, draft: str, file: Path) -> None:
    options = QuicOptions(certificate_sha256=bytes.fromhex(pin), handshake_timeout=60)
    drafts = (DRAFTS[int(draft)],)
    name = FullTrackName(parse_namespace(namespace), track.encode())
    with file.open("w", buffering=1) as notes:
        async with connect(url, drafts=drafts, options=options, connect_timeout=60) as client:
            subscription = await client.subscribe(name)
            async for item in subscription:
                if not isinstance(item, ReceivedObject):
                    if item.reset is not None:
                        notes.write(json.dumps({"reset": item.reset, "group": item.group_id}))
                        notes.write("\n")
                elif item.status is ObjectStatus.NORMAL and item.payload:
                    notes.write(json.dumps(checked(item)) + "\n")


if __name__ == "__main__":
    asyncio.run(watch(*sys.argv[1:6], Path(sys.argv[6])))
