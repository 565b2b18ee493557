"""Tracks whose groups begin together and go on in real time, a frame after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import TypeVar

from fastrelay.client import PublishedTrack

FRAMES_PER_SECOND = 25

Key = TypeVar("Key")


async def write_groups(
    tracks: Mapping[Key, PublishedTrack],
    frames: int,
    objects: Callable[[Key, int, int], Iterable[tuple[int, bytes]]],
    times: dict[tuple[int, int], float],
    *,
    datagrams: bool = False,
) -> None:
    """Without end, a group a stream.

    :param frames: in a group.
    :param objects: of which a frame consists, by track, group and frame: their numbers and
        payloads.
    :param times: gets that of each frame, by group and number (seconds of the monotonic clock).
    """
    begin = time.monotonic()
    for group in count():
        subgroups = {}
        if not datagrams:
            subgroups = {k: t.open_subgroup(group, end_of_group=True) for k, t in tracks.items()}
        for frame in range(frames):
            due = begin + (group * frames + frame) / FRAMES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            times[group, frame] = time.monotonic()
            for key, track in tracks.items():
                for number, data in objects(key, group, frame):
                    if datagrams:
                        track.send_datagram(group, number, data)
                    else:
                        subgroups[key].write(data)
        for subgroup in subgroups.values():
            subgroup.close()
