"""usage: python -m fastrelay.local.third_party LIBRARY URL NAMESPACE DRAFT TRACK OUTPUT DIGESTS

LIBRARY is aiomoqt or moqrs. Ends well with SIGINT or SIGTERM.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from pathlib import Path

from fastrelay.local.third_party.recorder import Recorder


async def main(
    library: str, url: str, namespace: str, draft: str, track: str, output: str, digests: str
) -> None:
    """Watch until a signal comes, then save."""
    viewer = importlib.import_module(f"fastrelay.local.third_party.{library}_viewer")
    recorder = Recorder(track, Path(output), Path(digests))
    task = asyncio.ensure_future(viewer.watch(url, namespace, int(draft), recorder))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        recorder.save()


asyncio.run(main(*sys.argv[1:]))
