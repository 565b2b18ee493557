"""ffplay as a window for what is received."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastrelay.media.source import program

_MAX_BEHIND = 32 * 1024 * 1024
"""Bytes; a player that is stopped for longer than this takes is given up."""
_CLOSE_TIMEOUT = 2.0


class Player:
    """Takes an MP4 stream; as an async context manager it closes the window at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Player:
        """
        :raises MediaError: ffplay is not installed.
        """
        command = [program("ffplay"), "-loglevel", "error", "-window_title", self._title]
        command += ["-fflags", "nobuffer", "-flags", "low_delay", "-framedrop"]
        self._process = await asyncio.create_subprocess_exec(
            *(*command, "-i", "pipe:0"), stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _CLOSE_TIMEOUT)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def closed(self) -> None:
        """Until somebody closes the window."""
        if self._process is not None:
            await self._process.wait()

    def write(self, data: bytes, /) -> None:
        """
        :raises BrokenPipeError: the player is gone, or far behind.
        """
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or stdin.is_closing():
            raise BrokenPipeError("the player is gone")
        if stdin.transport.get_write_buffer_size() > _MAX_BEHIND:
            raise BrokenPipeError("the player does not play")
        stdin.write(data)

    def flush(self) -> None:
        """Everything is on its way already."""
