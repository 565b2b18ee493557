"""Requests and answers, as the owner of a session makes them."""

from __future__ import annotations

from fastrelay.moqt.codes import StreamError
from fastrelay.moqt.context import Context
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.messages import (
    NO_PARAMETERS,
    Answer,
    Fetch,
    FetchKind,
    Notification,
    Parameters,
    Properties,
    Publish,
    PublishNamespace,
    Redirect,
    Request,
    RequestError,
    RequestOk,
    Subscribe,
    SubscribeNamespace,
    SubscribeTracks,
    TrackStatus,
)
from fastrelay.moqt.names import FullTrackName, Location, Namespace
from fastrelay.moqt.requester import Requester
from fastrelay.moqt.responder import Responder


class Exchanges:
    """The part of a session that its owner asks and answers with; nothing of it does anything
    after the session's end."""

    draft: Draft
    _context: Context
    _requester: Requester
    _responder: Responder

    # Requests of ours: each returns the request's id. ValueError: the draft cannot say this.

    def subscribe(self, track: FullTrackName, parameters: Parameters = NO_PARAMETERS) -> int:
        """Answered by SUBSCRIBE_OK."""
        return self._issue(Subscribe(self._requester.next_id, track, parameters))

    def fetch(
        self,
        kind: FetchKind = FetchKind.STANDALONE,
        *,
        track: FullTrackName | None = None,
        start: Location = Location(0, 0),
        end_group: int | None = None,
        end_object: int | None = None,
        joining_request_id: int = 0,
        joining_start: int = 0,
        parameters: Parameters = NO_PARAMETERS,
    ) -> int:
        """Answered by FETCH_OK; for the arguments see :class:`~fastrelay.moqt.messages.Fetch`."""
        return self._issue(
            Fetch(
                self._requester.next_id,
                kind,
                track,
                start,
                end_group,
                end_object,
                joining_request_id,
                joining_start,
                parameters,
            )
        )

    def publish(
        self,
        track: FullTrackName,
        alias: int,
        parameters: Parameters = NO_PARAMETERS,
        properties: Properties = b"",
    ) -> int:
        """Answered by REQUEST_OK.

        :raises ValueError: ``alias`` stands for another track in this session.
        """
        return self._issue(Publish(self._requester.next_id, track, alias, parameters, properties))

    def publish_namespace(
        self, namespace: Namespace, parameters: Parameters = NO_PARAMETERS
    ) -> int:
        """Answered by REQUEST_OK."""
        return self._issue(PublishNamespace(self._requester.next_id, namespace, parameters))

    def subscribe_namespace(
        self, prefix: Namespace, parameters: Parameters = NO_PARAMETERS, options: int = 1
    ) -> int:
        """Answered by REQUEST_OK; ``options``: draft 16 only, see ``SubscribeNamespace``."""
        return self._issue(SubscribeNamespace(self._requester.next_id, prefix, parameters, options))

    def subscribe_tracks(self, prefix: Namespace, parameters: Parameters = NO_PARAMETERS) -> int:
        """Answered by REQUEST_OK. Draft 16 says the same with SUBSCRIBE_NAMESPACE."""
        if not self.draft.request_streams:
            return self.subscribe_namespace(prefix, parameters, options=0)
        return self._issue(SubscribeTracks(self._requester.next_id, prefix, parameters))

    def track_status(self, track: FullTrackName, parameters: Parameters = NO_PARAMETERS) -> int:
        """Answered by REQUEST_OK, which ends it."""
        return self._issue(TrackStatus(self._requester.next_id, track, parameters))

    def _issue(self, request: Request) -> int:
        if self._context.closed:
            return request.request_id
        return self._requester.issue(request)

    def update(self, request_id: int, parameters: Parameters) -> int:
        """REQUEST_UPDATE for a request of ours, or for an answered PUBLISH of the peer; returns
        the update's id, for ``UpdateAnswered``."""
        if self._context.closed:
            return self._requester.next_id
        return self._requester.update(request_id, parameters)

    def cancel(self, request_id: int, code: int = StreamError.CANCELLED) -> None:
        """Give up a request of ours; unsubscribe from a PUBLISH of the peer, or no longer accept
        its PUBLISH_NAMESPACE; drop its FETCH or namespace subscription. A request that is over
        already stays so.

        :raises ValueError: a subscription that we publish: PUBLISH_DONE or an error ends it.
        """
        if not self._context.closed:
            self._requester.cancel(request_id, code)

    # Answers to the peer

    def respond(self, answer: Answer) -> None:
        """The one answer to a request of the peer."""
        if not self._context.closed:
            self._responder.respond(answer)

    def reject(
        self,
        request_id: int,
        code: int,
        reason: str = "",
        retry_after: int | None = None,
        redirect: Redirect | None = None,
    ) -> None:
        """REQUEST_ERROR as the answer to a request; it is over. ``retry_after``: ms."""
        self.respond(RequestError(request_id, code, reason, retry_after, redirect))

    def respond_update(
        self, request_id: int, update_id: int, parameters: Parameters = NO_PARAMETERS
    ) -> None:
        """REQUEST_OK for an update. Answers are sent in the order of the updates, after that
        to the request itself, in whatever order they are given."""
        if not self._context.closed:
            answer = RequestOk(update_id, parameters)
            self._responder.answer_update(request_id, update_id, answer)

    def reject_update(self, request_id: int, update_id: int, code: int, reason: str = "") -> None:
        """REQUEST_ERROR for an update. The publisher of a subscription ends it with
        PUBLISH_DONE (UPDATE_FAILED) then; other requests are over by this (section 10.8.1)."""
        if not self._context.closed:
            answer = RequestError(update_id, code, reason)
            self._responder.answer_update(request_id, update_id, answer)

    def notify(self, request_id: int, notification: Notification) -> None:
        """NAMESPACE and the like on a request of the peer, or PUBLISH_DONE, which ends a
        subscription that we publish: its streams must have ended before."""
        if not self._context.closed:
            self._responder.notify(request_id, notification)
