"""The short way out of a connection that has nothing to say but that packets came.

That is all that a publisher hears of the relay while the kernel forwards: one of these for every
second packet, and no other frame.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import QuicConnectionState

from fastrelay.quic.aioquic_private.adopting import Adopting

_CONNECTED = QuicConnectionState.CONNECTED


class Quiet(Adopting):
    """A connection that knows when there is nothing to send but an acknowledgement, at most."""

    def _is_quiet(self) -> bool:
        """Whether none of all layers has anything to send but an ACK frame of one range."""
        return not (
            self._one_rtt is None
            or self._urgent
            or self._ready
            or self._datagrams_pending
            or self._probe_pending
            or self._path_probe is not None
            or len(self._application.ack_queue) != 1
            or self._application.loss_time is not None
            or self._close_pending
            or self._state is not _CONNECTED
            or (self._peers_min_ack_delay is not None and self._wanted() != self._asked_every)
            or self._needs_aioquic(self._network_paths[0])
        )

    def _acknowledge(self, now: float) -> list[tuple[bytes, Any]]:
        """To be called while it is quiet. Nobody acknowledges such a packet, and it does not count
        as in flight: neither the window nor the pacer hears of it (RFC 9002 sections 2, 7.7)."""
        self.is_interrupted = False
        self._pacing_at = None
        space, path, buf = self._application, self._network_paths[0], self._scratch
        if space.ack_at is None or space.ack_at > now:
            return []
        buf.seek(0)
        self._push_ack(buf, space, now, [])
        _, packet = self._sealed(buf.data, path)
        return [(packet, path.addr)]
