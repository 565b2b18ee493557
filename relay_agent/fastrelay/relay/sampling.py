"""Looks at connections and at the event loop every now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from fastrelay.quic.measurements import Measurements
from fastrelay.quic.raw import QuicTransport
from fastrelay.relay.metrics import Metrics
from fastrelay.relay.peer import Peer

CONNECTION_INTERVAL = 5.0
"""Seconds between two samples of one connection."""
LAG_INTERVAL = 0.5
SLICE = 200
"""Connections that are looked at without giving way to the network."""


class Sampler:
    """Feeds the histograms that nothing on the data path may feed."""

    def __init__(
        self, metrics: Metrics, connections: Callable[[], Iterable[tuple[QuicTransport, Peer]]]
    ) -> None:
        self._metrics, self._connections = metrics, connections
        self._delivered: WeakKeyDictionary[QuicTransport, tuple[float, int]] = WeakKeyDictionary()
        self._lost: WeakKeyDictionary[QuicTransport, int] = WeakKeyDictionary()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run())
        self._measure_lag(loop, loop.time())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def sample(self, connection: QuicTransport) -> Measurements:
        """Take one connection into account."""
        measured = connection.measurements()
        lost = measured.lost
        self._metrics.packets_lost += lost - self._lost.get(connection, 0)
        self._lost[connection] = lost
        if measured.smoothed_rtt > 0:
            self._metrics.round_trip_seconds.observe(measured.smoothed_rtt)
            self._metrics.jitter_seconds.observe(measured.jitter)
        return measured

    def look(self, connection: QuicTransport, peer: Peer, now: float) -> None:
        """The same, with what is known of a subscriber."""
        measured = self.sample(connection)
        before, delivered = self._delivered.get(connection, (now, measured.delivered))
        self._delivered[connection] = now, measured.delivered
        if not (peer.subscriptions or peer.autos):
            return
        histograms = self._metrics.members
        if measured.delivered > delivered and now > before:
            rate = (measured.delivered - delivered) / (now - before)
            histograms.delivery_rate.observe(rate)
            histograms.loss.observe(measured.loss)
            if limit := peer.bands.rate:
                histograms.limit_use.observe(rate / limit)
        delay = peer.feedback.delays.statistics() if peer.feedback is not None else None
        if delay is not None:
            histograms.delay.observe(delay.ewma)
            histograms.delay_jitter.observe(delay.jitter)

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(CONNECTION_INTERVAL)
            for number, (connection, peer) in enumerate(self._connections(), 1):
                self.look(connection, peer, now())
                if number % SLICE == 0:
                    await asyncio.sleep(0)

    def _measure_lag(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._metrics.loop_lag_seconds.observe(max(0.0, now - due))
        due = now + LAG_INTERVAL
        self._timer = loop.call_at(due, self._measure_lag, loop, due)
