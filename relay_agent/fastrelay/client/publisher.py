"""What a client publishes: its tracks by name, and the peer's requests about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.client.publishing import PublishedTrack
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.events import DataStreamStopped, RequestUpdated
from fastrelay.moqt.messages import NO_PARAMETERS, Fetch, Subscribe, TrackStatus
from fastrelay.moqt.names import FullTrackName

if TYPE_CHECKING:
    from fastrelay.client.client import Client


class Publisher:
    """Finds the track that a request is about; everything else is the track's work."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._next_alias = 0
        self._tracks: dict[FullTrackName, PublishedTrack] = {}
        self._feeds: dict[int, PublishedTrack] = {}
        """Established subscriptions by request id."""

    def add(
        self,
        name: FullTrackName,
        *,
        priority: int,
        properties: bytes,
        keep_groups: int,
        max_backlog: int,
    ) -> PublishedTrack:
        """See :meth:`Client.add_track`."""
        if name in self._tracks:
            raise ValueError(f"{name} exists already")
        track = self._tracks[name] = PublishedTrack(
            self._client,
            name,
            self._next_alias,
            priority=priority,
            properties=properties,
            keep_groups=keep_groups,
            max_backlog=max_backlog,
        )
        self._next_alias += 1
        return track

    def remove(self, track: PublishedTrack) -> None:
        del self._tracks[track.name]

    def add_feed(self, request_id: int, track: PublishedTrack) -> None:
        self._feeds[request_id] = track

    def remove_feed(self, request_id: int) -> None:
        del self._feeds[request_id]

    # -- events

    def on_subscribe(self, request: Subscribe) -> None:
        if (track := self._find(request.request_id, request.track)) is not None:
            track.subscribe(request)

    def on_track_status(self, request: TrackStatus) -> None:
        if (track := self._find(request.request_id, request.track)) is not None:
            track.track_status(request)

    def on_fetch(self, request: Fetch) -> None:
        if request.track is None:
            # The session vouches for the subscription that is joined; it may have ended since.
            name = None
            if (joined := self._feeds.get(request.joining_request_id)) is not None:
                name = joined.name
        else:
            name = request.track
        if (track := self._find(request.request_id, name)) is not None:
            track.fetch(request)

    def on_update(self, event: RequestUpdated) -> None:
        track = self._feeds.get(event.request_id)
        if track is not None:
            track.update(event.request_id, event.update_id, event.parameters)
        else:
            self._client.session.respond_update(event.request_id, event.update_id, NO_PARAMETERS)

    def cancelled(self, request_id: int) -> None:
        """The peer gave up one of its requests."""
        if (track := self._feeds.pop(request_id, None)) is not None:
            track.unsubscribe(request_id)

    def on_stream_stopped(self, event: DataStreamStopped) -> None:
        for track in self._tracks.values():
            track.stream_stopped(event.stream_id)

    def _find(self, request_id: int, name: FullTrackName | None) -> PublishedTrack | None:
        track = None if name is None else self._tracks.get(name)
        if track is None:
            self._client.session.reject(
                request_id, RequestErrorCode.DOES_NOT_EXIST, "no such track"
            )
        return track
