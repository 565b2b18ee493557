"""TRACK_STATUS (section 10.14): what SUBSCRIBE_OK would say, without a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.keyvalue import reencode
from fastrelay.moqt.messages import Answer, Parameters, RequestError, RequestOk, TrackStatus
from fastrelay.moqt.names import Location
from fastrelay.relay.peer import Handle, Peer
from fastrelay.relay.window import fitting

if TYPE_CHECKING:
    from fastrelay.relay.tracks import Track


class Status(Handle):
    """A peer's TRACK_STATUS; of a track without publisher here it is passed upstream."""

    __slots__ = ("_asked", "peer", "request", "track")

    def __init__(self, track: Track, peer: Peer, request: TrackStatus) -> None:
        self.track = track
        self.peer = peer
        self.request = request
        self._asked: _Asked | None = None
        peer.handles[request.request_id] = self

    def begin(self) -> None:
        track = self.track
        if track.sources.is_established:
            try:
                properties = track.properties_for(self.peer.draft, self.request.parameters)
            except ValueError:
                self._unfit()
                return
            self._respond(track.largest, properties)
            return
        routing = track.core.routing
        sources = routing.publishers_of(track) + routing.upstreams_for(track)
        if sources:
            self._asked = _Asked(self, sources[0])
        else:
            self.refuse(RequestErrorCode.DOES_NOT_EXIST, "nobody publishes this track")

    def refuse(self, code: int, reason: str) -> None:
        self._leave()
        self.track.core.requests.reject(self.peer, self.request.request_id, code, reason)

    def told(self, source: Peer, answer: Answer | None) -> None:
        """The publisher's answer; None: it is gone."""
        self._asked = None
        if isinstance(answer, RequestOk):
            properties = answer.properties
            if self.request.parameters.include_properties is False:
                properties = b""
            draft = self.peer.draft
            try:
                if source.draft.quic_varints != draft.quic_varints:
                    properties = reencode(properties, source.draft.varints, draft.varints)
            except ValueError:
                self._unfit()
                return
            self._respond(answer.parameters.largest_object, properties)
        elif isinstance(answer, RequestError):
            self.refuse(answer.code, answer.reason)
        else:
            self.refuse(RequestErrorCode.DOES_NOT_EXIST, "the publisher is gone")

    def _respond(self, largest: Location | None, properties: bytes) -> None:
        self._leave()
        told = Parameters(largest_object=fitting(largest, self.peer.draft))
        self.peer.session.respond(RequestOk(self.request.request_id, told, properties))

    def _unfit(self) -> None:
        self.refuse(RequestErrorCode.NOT_SUPPORTED, "the draft cannot hold the track")

    def cancelled(self) -> None:
        self._leave()

    def lost(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self.peer.handles.pop(self.request.request_id, None)
        if self._asked is not None:
            self._asked.give_up()


class _Asked(Handle):
    """The relay's own TRACK_STATUS."""

    __slots__ = ("_peer", "_request_id", "_status")

    def __init__(self, status: Status, peer: Peer) -> None:
        self._status = status
        self._peer = peer
        self._request_id = peer.session.track_status(status.track.name, Parameters())
        peer.handles[self._request_id] = self

    def answered(self, answer: Answer) -> None:
        self._peer.handles.pop(self._request_id, None)
        self._status.told(self._peer, answer)

    def ended(self, code: int) -> None:
        self.lost()

    def lost(self) -> None:
        self._peer.handles.pop(self._request_id, None)
        self._status.told(self._peer, None)

    def give_up(self) -> None:
        if self._peer.handles.pop(self._request_id, None) is not None:
            self._peer.session.cancel(self._request_id)
