"""Data that arrives before the answer that says which track its alias stands for."""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.moqt import events as ev
from fastrelay.moqt.codes import StreamError
from fastrelay.relay.peer import Peer

_EVENT_SIZE = 200


def _size(event: ev.Event) -> int:
    """Memory that a kept event takes, roughly."""
    if isinstance(event, ev.SubgroupData):
        return _EVENT_SIZE + len(event.body)
    if isinstance(event, ev.DatagramReceived):
        return _EVENT_SIZE + len(event.raw)
    return _EVENT_SIZE


class Early:
    """Keeps such data for a while; ``handle`` gets it when its track is known.

    :param limit: bytes for each session.
    """

    def __init__(self, limit: int, handle: Callable[[Peer, ev.Event], None]) -> None:
        self._limit = limit
        self._handle = handle

    def opened(self, peer: Peer, event: ev.SubgroupOpened) -> None:
        """A stream of an unknown alias."""
        _EarlyStream(self, peer, event)

    def keep(self, peer: Peer, alias: int, event: ev.Event) -> bool:
        """Keep an event until somebody says what this alias stands for; False: no room."""
        size = _size(event)
        if peer.early_bytes + size > self._limit:
            return False
        peer.early_bytes += size
        peer.early.setdefault(alias, []).append(event)
        return True

    def replay(self, peer: Peer, alias: int) -> None:
        """The alias is known now: deal with what came before."""
        for event in peer.early.pop(alias, ()):
            peer.early_bytes -= _size(event)
            self._handle(peer, event)

    def forget(self, peer: Peer) -> None:
        """Data whose alias nobody has explained for two sweeps is not wanted."""
        for alias in peer.early_old & peer.early.keys():
            for event in peer.early[alias]:
                if isinstance(event, ev.SubgroupOpened):
                    peer.inflows.pop(event.stream_id, None)
                    peer.session.stop(event.stream_id, StreamError.CANCELLED)
            peer.early_bytes -= sum(_size(event) for event in peer.early.pop(alias))
        peer.early_old = set(peer.early)


class _EarlyStream:
    """A stream whose alias nobody has explained yet."""

    __slots__ = ("_alias", "_early", "_peer", "_stream_id")

    def __init__(self, early: Early, peer: Peer, event: ev.SubgroupOpened) -> None:
        self._early = early
        self._peer = peer
        self._alias = event.header.track_alias
        self._stream_id = event.stream_id
        peer.inflows[event.stream_id] = self
        self._keep(event)

    def _keep(self, event: ev.Event) -> None:
        if not self._early.keep(self._peer, self._alias, event):
            self._peer.inflows.pop(self._stream_id, None)
            self._peer.session.stop(self._stream_id, StreamError.CANCELLED)

    def data(self, event: ev.SubgroupData) -> None:
        self._keep(event)

    def lost(self, code: int) -> None:
        self._keep(ev.DataStreamReset(self._stream_id, code))

    def malformed(self, reason: str) -> None:
        self._keep(ev.TrackMalformed(self._stream_id, reason))
