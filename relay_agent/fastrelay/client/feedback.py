"""Tells the relay when objects arrive (see :mod:`fastrelay.moqt.feedback`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastrelay.client.errors import RequestFailedError
from fastrelay.moqt.feedback import MAX_AFTER, MAX_ARRIVALS, TRACK, Arrival, encode

if TYPE_CHECKING:
    from fastrelay.client.client import Client
    from fastrelay.client.publishing import PublishedTrack
    from fastrelay.client.values import ReceivedObject

INTERVAL = 0.1
"""Seconds between two reports."""


class FeedbackTrack:
    """Of one session; made with :meth:`begin`. Of more objects in an interval than a report has
    room for, the first are told."""

    def __init__(self, track: PublishedTrack) -> None:
        self._track = track
        self._arrivals: list[Arrival] = []
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0

    @classmethod
    async def begin(cls, client: Client) -> FeedbackTrack:
        """:raises RequestFailedError: the relay does not want it."""
        track = client.add_track(TRACK, keep_groups=1)
        try:
            await track.publish()
        except RequestFailedError:
            track.end()
            raise
        return cls(track)

    def arrived(self, alias: int, item: ReceivedObject) -> None:
        """An object of the subscription with this alias."""
        if len(self._arrivals) < MAX_ARRIVALS:
            self._arrivals.append(Arrival(alias, *item.location, item.received_at))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._report)

    def close(self) -> None:
        """What is not told yet is not told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._track.end()

    def _report(self) -> None:
        self._timer = None
        arrivals, self._arrivals = self._arrivals, []
        newest = max(arrival.at for arrival in arrivals)
        recent = [arrival for arrival in arrivals if newest - arrival.at < MAX_AFTER * 1e-6]
        self._track.send_datagram(self._number, 0, encode(recent))
        self._number += 1
