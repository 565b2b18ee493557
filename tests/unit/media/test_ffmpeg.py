"""ffmpeg's pipes, with a program in its place."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from pathlib import Path

import pytest

from fastrelay.media.ffmpeg import Encoder, Encoding, Rendition
from fastrelay.media.source import TEST, Source

STANDSTILL = 0.5
"""Seconds."""
PROGRAM = """#!/bin/sh
cd -- "$(dirname -- "$0")" || exit
for each; do
    [ -p "$each" ] || continue
    : >"$each"
    echo "$each" >>opened
done
exec sleep 60
"""
"""It opens the pipes as ffmpeg does, and writes nothing until it is ended."""


async def test_time_0_is_that_of_the_last_opening_whatever_else_there_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, opened = tmp_path / "ffmpeg", tmp_path / "opened"
    fake.write_text(PROGRAM)
    fake.chmod(0o755)
    monkeypatch.setattr("fastrelay.media.ffmpeg.program", lambda _: str(fake))
    source = Source(TEST, 640, 360, Fraction(25), has_audio=True, paced=True)
    rendition = Rendition("video", 640, 360, 500_000)
    encoding = Encoding(source, (rendition,), Fraction(25), 25, "audio", 96_000, clock=False)
    origins: list[int] = []

    def pipes() -> int:
        return len(opened.read_text().splitlines()) if opened.exists() else 0

    def block() -> float:
        while pipes() < len(encoding.outputs):
            time.sleep(0.001)
        time.sleep(STANDSTILL)
        return time.time()

    async def stand_still() -> float:
        while not pipes():  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0)
        return block()

    standing = asyncio.create_task(stand_still())
    async with Encoder(encoding, origins.append, lambda *_: None):
        assert origins[0] / 1000 < await standing - STANDSTILL / 2
