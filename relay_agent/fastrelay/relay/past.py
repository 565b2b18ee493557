"""What of a track was published before the relay subscribed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.names import Location
from fastrelay.relay.coverage import Span
from fastrelay.relay.fill import Fill
from fastrelay.relay.pace import UNHEARD_SECONDS
from fastrelay.relay.subscription import Subscription

if TYPE_CHECKING:
    from fastrelay.relay.tracks import Track


class Past:
    """The fetches from upstream for one track, and who waits for them."""

    __slots__ = ("_filled_from", "_track", "fills")

    def __init__(self, track: Track) -> None:
        self._track = track
        self.fills: list[Fill] = []
        """Under way."""
        self._filled_from: Location | None = None

    def begin_run(self) -> None:
        """The relay has subscribed anew."""
        self._filled_from = None

    def fetch(self, span: Span, *, descending: bool = False) -> Fill | None:
        """Ask a publisher for these objects; None if there is nobody to ask."""
        for fill in self.fills:
            if fill.fresh and fill.descending == descending and fill.span.contains(span):
                return fill
        sources = [feed.peer for feed in self._track.sources.published]
        sources += self._track.core.routing.publishers_of(self._track)
        sources += self._track.core.routing.upstreams_for(self._track)
        for peer in sources:
            if peer.ready and not peer.going_away:
                try:
                    return Fill(self._track, peer, span, descending=descending)
                except ValueError:  # its draft has no integers that large
                    continue
        return None

    def fill_current_group(self) -> None:
        """Fetch the beginning of the group that the relay itself joined in the middle, if a
        subscriber begins there (or would, should nothing move: see ``is_quiet``)."""
        live_from = self._track.store.live_from
        if live_from is None or live_from.object == 0 or self._filled_from == live_from:
            return
        group_id = live_from.group
        wanted = any(s.wants_group(group_id) for s in self._track.subscriptions)
        if not wanted and not self._track.listeners:
            return
        self._filled_from = live_from
        span = Span(Location(group_id, 0), Location(group_id, live_from.object - 1))
        fill = self.fetch(span)
        if fill is None:
            return
        fill.for_track = True
        group = self._track.store.group(group_id, self._track.core.timers.now())
        group.filling = fill

    def over(self, fill: Fill, waiting: list[Subscription]) -> None:
        """A fetch from upstream has ended: those who waited for it begin."""
        start, end = fill.span
        for subscription in waiting:
            for group in self._track.store.ordered(start.group, end.group):
                subscription.attach_group(group)
        self._track.listen_again()
        if fill.for_track:
            self._track.core.timers.after(UNHEARD_SECONDS, lambda: self._begin_quietly(start))

    def _begin_quietly(self, start: Location) -> None:
        """Nothing has come since the relay subscribed: the current group is what there is."""
        if self._track.pace.beats:
            return
        for subscription in list(self._track.subscriptions):
            if subscription.begins_quietly(start):
                for group in self._track.store.ordered(start.group, start.group):
                    subscription.attach_group(group)
