"""What the core tells of itself goes to metrics and to the log."""

from __future__ import annotations

import logging

from fastrelay.relay.logs import get_logger
from fastrelay.relay.metrics import Metrics

log = get_logger("fastrelay.relay")


class RelayObserver:
    """Implements :class:`fastrelay.relay.ports.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def joined(self, seconds: float) -> None:
        self._metrics.join_seconds.observe(seconds)

    def dropped(self, reason: str, what: str) -> None:
        self._metrics.drops[reason, what] += 1

    def log(self, level: str, event: str, **fields: object) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], event, **fields)
