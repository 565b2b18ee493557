"""Streams that arrive before the answer which tells whose they are.

SUBSCRIBE_OK and the first data streams race (draft-18 section 11.1); what arrives for an
alias that is not known yet is held for a while, within limits.
"""

from __future__ import annotations

from collections import OrderedDict

from fastrelay.moqt.events import DataStreamReset, Event, SubgroupData, SubgroupOpened

_MAX_STREAMS = 256
_MAX_BYTES = 4 * 1024 * 1024


class EarlyStreams:
    """The streams of unknown aliases, in the order of their opening."""

    def __init__(self) -> None:
        self._streams: OrderedDict[int, tuple[int, list[Event]]] = OrderedDict()
        self._bytes = 0
        self._retired: set[int] = set()

    def retire(self, alias: int) -> None:
        """The alias's subscription is over: what still comes for it is not wanted."""
        self._retired.add(alias)

    def opened(self, event: SubgroupOpened) -> bool:
        """Hold a new stream; False if it is to be stopped."""
        alias = event.header.track_alias
        if alias in self._retired or len(self._streams) >= _MAX_STREAMS:
            return False
        self._streams[event.stream_id] = (alias, [event])
        return True

    def data(self, event: SubgroupData) -> bool:
        """Hold more of a stream; False if it is to be stopped."""
        held = self._streams.get(event.stream_id)
        if held is None:
            return True  # stopped already; this was on its way
        if self._bytes + len(event.body) > _MAX_BYTES:
            del self._streams[event.stream_id]
            return False
        self._bytes += len(event.body)
        held[1].append(event)
        return True

    def reset(self, event: DataStreamReset) -> None:
        if (held := self._streams.get(event.stream_id)) is not None:
            held[1].append(event)

    def take(self, alias: int) -> list[Event]:
        """Everything held for an alias that is known now, in its order."""
        self._retired.discard(alias)
        taken: list[Event] = []
        for stream_id in [s for s, (a, _) in self._streams.items() if a == alias]:
            taken += self._streams.pop(stream_id)[1]
        self._bytes -= sum(len(e.body) for e in taken if isinstance(e, SubgroupData))
        return taken
