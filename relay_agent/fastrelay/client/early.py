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
        """The alias's subscription is over: what still comes for it is of no use, unless the
        alias is given again."""
        self._retired.add(alias)

    def opened(self, event: SubgroupOpened, *, expecting: bool) -> bool:
        """Hold a new stream; False if it is to be stopped.

        :param expecting: a subscription may be about to begin, so that also an alias that was
            in use before may mean something new.
        """
        alias = event.header.track_alias
        if len(self._streams) >= _MAX_STREAMS or (alias in self._retired and not expecting):
            return False
        self._streams[event.stream_id] = (alias, [event])
        return True

    def data(self, event: SubgroupData) -> bool:
        """Hold more of a stream; False if it is to be stopped."""
        held = self._streams.get(event.stream_id)
        if held is None:
            return True  # stopped already; this was on its way
        if self._bytes + len(event.body) > _MAX_BYTES:
            self._bytes -= _size(self._streams.pop(event.stream_id)[1])
            return False
        self._bytes += len(event.body)
        held[1].append(event)
        return True

    def reset(self, event: DataStreamReset) -> None:
        if (held := self._streams.get(event.stream_id)) is not None:
            held[1].append(event)

    def drop_retired(self) -> list[int]:
        """Nothing is expected any more: let go of streams whose alias was not given again, and
        tell which they are."""
        dropped = [s for s, (alias, _) in self._streams.items() if alias in self._retired]
        for stream_id in dropped:
            self._bytes -= _size(self._streams.pop(stream_id)[1])
        return dropped

    def take(self, alias: int) -> list[Event]:
        """Everything held for an alias that is known now, in its order."""
        self._retired.discard(alias)
        taken: list[Event] = []
        for stream_id in [s for s, (a, _) in self._streams.items() if a == alias]:
            taken += self._streams.pop(stream_id)[1]
        self._bytes -= _size(taken)
        return taken


def _size(held: list[Event]) -> int:
    return sum(len(event.body) for event in held if isinstance(event, SubgroupData))
