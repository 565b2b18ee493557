"""A relay to which no kernel was promised, as the rest of the process sees it."""

from __future__ import annotations

from typing import Any

from fastrelay.moqt.session import Session
from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.raw import QuicTransport
from fastrelay.relay.metrics import KernelCounters


class UserSpaceAlone:
    """In the place of :class:`fastrelay.relay.sharing.KernelSharing`, which is a third of what a
    relay has to load."""

    reason = "not configured"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def add(self, session: Session, transport: QuicTransport) -> None:
        pass

    def remove(self, session: Session) -> None:
        pass

    @property
    def counters(self) -> KernelCounters:
        return KernelCounters(user_packets=self._endpoint.counters.media_packets)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return self.counters.status("Off", self.reason)
