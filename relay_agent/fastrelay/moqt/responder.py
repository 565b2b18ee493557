"""The peer's requests: taking them in, and answering them."""

from __future__ import annotations

from dataclasses import replace

from fastrelay.moqt.codes import MoqtError, RequestErrorCode, SessionError, StreamError
from fastrelay.moqt.context import Context
from fastrelay.moqt.events import RequestCancelled, RequestEnded, RequestReceived, RequestUpdated
from fastrelay.moqt.fetches import encode_fetch_header
from fastrelay.moqt.link import Link
from fastrelay.moqt.messages import (
    Answer,
    Fetch,
    FetchKind,
    NamespaceAdded,
    NamespaceDone,
    Notification,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishStateNotify,
    Request,
    RequestError,
    RequestOk,
    RequestUpdate,
    Subscribe,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    TrackStatus,
)
from fastrelay.moqt.parameters import check_scope
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requester import duplicate_alias
from fastrelay.moqt.requests import ANSWERS, Phase, RequestState, RequestTable, Update, UsedIds
from fastrelay.moqt.rules import Refusal, join_refusal, refusal, update_refusal
from fastrelay.moqt.tokens import MalformedTokenError, ResolvedToken, TokenCache


class Responder:
    """Keeps what the peer asked for in step with what we say about it."""

    def __init__(self, context: Context, table: RequestTable, link: Link) -> None:
        self._context = context
        self._table = table
        self._link = link
        self.used_ids = UsedIds(1 if context.transport.is_client else 0)
        self.tokens = TokenCache(context.limits.token_cache)
        self.going_away = False
        """We have sent a GOAWAY: new requests are refused."""
        self._joining: dict[int, list[tuple[RequestState, tuple[ResolvedToken, ...]]]] = {}
        """Joining fetches that have overtaken the SUBSCRIBE they refer to, by its id."""

    # What the peer wants

    def use_id(self, request_id: int) -> None:
        """Mark an id of the peer as used.

        :raises MoqtError: INVALID_REQUEST_ID; it is not its to use, or was used before.
        """
        if request_id % 2 != self.used_ids.next % 2 or not self.used_ids.add(request_id):
            raise MoqtError(
                SessionError.INVALID_REQUEST_ID, f"request id {request_id} cannot be used"
            )

    def received(self, request: Request, stream_id: int | None) -> RequestState:
        """A new request, whose id has been checked.

        :returns: its state, ENDED if it has been refused.
        :raises MoqtError: it breaks the session's rules.
        """
        state = RequestState(request, ours=False, stream_id=stream_id, known=False)
        if isinstance(request, Publish) and not self._table.alias_is_free(
            request.track_alias, request.track, publishing=False
        ):
            raise duplicate_alias(request.track_alias)
        try:
            tokens = self.tokens.resolve(request.parameters.tokens)
        except MalformedTokenError as error:
            tokens = ()
            refused: Refusal | None = malformed_token(error)
        else:
            refused = self._going_away() or refusal(request, self._table, self._context)
        if refused:
            state.phase = Phase.ENDED
            self._link.send(state, _error(request.request_id, refused), fin=True)
            self._table.on_freed()
        else:
            self._table.add(state)
            if isinstance(request, Publish):
                self._table.hold_alias(state, request.track_alias)
            if isinstance(request, Fetch) and self._overtook(request):
                held = self._joining.setdefault(request.joining_request_id, [])
                held.append((state, tokens))
            else:
                self._admit(state, tokens)
        self._resume_joining(request.request_id)
        return state

    def _going_away(self) -> Refusal | None:
        if self.going_away:
            return Refusal(RequestErrorCode.GOING_AWAY, "this endpoint is going away")
        return None

    def _admit(self, state: RequestState, tokens: tuple[ResolvedToken, ...]) -> None:
        request = state.request
        refused = isinstance(request, Fetch) and join_refusal(request, self._table)
        if refused:
            self._reject(state, _error(request.request_id, refused))
        else:
            state.known = True
            self._context.emit(RequestReceived(request, tokens))
            for update in list(state.updates_received.values()):
                if update.answer is None and state.phase is not Phase.ENDED:
                    self._announce(state, update)

    def _announce(self, state: RequestState, update: Update) -> None:
        message = update.message
        self._context.emit(
            RequestUpdated(state.id, message.request_id, message.parameters, update.tokens)
        )

    def _overtook(self, fetch: Fetch) -> bool:
        """A joining fetch travels on another stream than the SUBSCRIBE sent before it."""
        joined = fetch.joining_request_id
        return (
            fetch.kind is not FetchKind.STANDALONE
            and joined % 2 == fetch.request_id % 2
            and joined < fetch.request_id
            and joined not in self.used_ids
        )

    def _resume_joining(self, request_id: int) -> None:
        for state, tokens in self._joining.pop(request_id, ()):
            if not self._context.closed:
                self._admit(state, tokens)

    def updated(self, state: RequestState, update: RequestUpdate) -> None:
        """A REQUEST_UPDATE, whose id has been checked.

        :raises MoqtError: it has no place there, or there are too many.
        """
        request = state.request
        if isinstance(request, TrackStatus) or (state.ours and not isinstance(request, Publish)):
            raise violation(f"a REQUEST_UPDATE for a {type(request).__name__}")
        update = check_scope(update, request, self._context.draft)
        limit = self._context.limits.request_updates
        if limit and len(state.updates_received) >= limit:
            limited = self._context.draft.range_filters
            raise MoqtError(
                SessionError.TOO_MANY_REQUEST_UPDATES if limited else SessionError.INTERNAL_ERROR,
                f"more than {limit} unanswered updates of a request",
            )
        received = state.updates_received[update.request_id] = Update(update)
        try:
            received.tokens = self.tokens.resolve(update.parameters.tokens)
        except MalformedTokenError as error:
            refused: Refusal | None = malformed_token(error)
        else:
            refused = update_refusal(state, update.parameters, self._table, self._context)
        if refused:
            self._answer_update(state, update.request_id, _error(update.request_id, refused))
        elif state.known:
            self._announce(state, received)
        self._resume_joining(update.request_id)

    def cancelled(self, state: RequestState) -> None:
        """The peer gave up its request, or unsubscribed from a PUBLISH of ours."""
        self._table.end(state)
        if state.data_stream is not None and not state.data_ended:
            self._context.reset(state.data_stream, StreamError.CANCELLED)
        if state.known:
            self._context.emit(RequestCancelled(state.id))
        elif isinstance(state.request, Fetch):
            joined = state.request.joining_request_id
            left = [held for held in self._joining.pop(joined) if held[0] is not state]
            if left:
                self._joining[joined] = left

    # What the owner answers

    def respond(self, answer: Answer) -> None:
        """The answer to a request of the peer.

        :raises ValueError: there is no such request without an answer, it takes another kind
            of answer, or the alias stands for another track.
        """
        state = self._live(answer.request_id)
        request = state.request
        if state.ours or state.phase is not Phase.PENDING:
            raise ValueError(f"request {answer.request_id} needs no answer")
        if isinstance(answer, RequestError):
            self._reject(state, answer)
            return
        if type(answer) is not ANSWERS.get(type(request), RequestOk):
            raise ValueError(f"{type(answer).__name__} cannot answer a {type(request).__name__}")
        if isinstance(answer, SubscribeOk):
            assert isinstance(request, Subscribe)
            if not self._table.alias_is_free(answer.track_alias, request.track, publishing=True):
                raise ValueError(f"track alias {answer.track_alias} stands for another track")
        if isinstance(request, Publish):
            self._end_crossing(request)
        complete = isinstance(request, TrackStatus) or state.data_ended
        self._link.send(state, answer, fin=complete)
        state.phase = Phase.ESTABLISHED
        if isinstance(answer, SubscribeOk):
            self._table.hold_alias(state, answer.track_alias)
        if complete:
            self._table.end(state)
        else:
            self._flush_updates(state)

    def _end_crossing(self, publish: Publish) -> None:
        """A PUBLISH is accepted: our unanswered SUBSCRIBE for the track ends (section 5.1)."""
        if self._context.draft.duplicate_subscriptions:
            return
        for other in list(self._table.subscriptions(publish.track, publishing=False)):
            if other.ours:
                self._link.cancel(other, StreamError.CANCELLED)
                self._table.end(other)
                self._context.emit(RequestEnded(other.id, StreamError.CANCELLED))

    def _reject(self, state: RequestState, error: RequestError) -> None:
        self._link.send(state, error, fin=True)
        self._table.end(state)

    def answer_update(
        self, request_id: int, update_id: int, answer: RequestOk | RequestError
    ) -> None:
        """The answer to an update; it waits until those before it have theirs.

        :raises ValueError: there is no such update without an answer.
        """
        state = self._live(request_id)
        update = state.updates_received.get(update_id)
        if update is None or update.answer is not None:
            raise ValueError(f"update {update_id} of request {request_id} needs no answer")
        self._answer_update(state, update_id, answer)

    def _answer_update(
        self, state: RequestState, update_id: int, answer: RequestOk | RequestError
    ) -> None:
        state.updates_received[update_id].answer = answer
        if state.ours or state.phase is Phase.ESTABLISHED:
            self._flush_updates(state)

    def _flush_updates(self, state: RequestState) -> None:
        for update_id, update in list(state.updates_received.items()):
            if update.answer is None:
                return
            del state.updates_received[update_id]
            self._link.send(state, update.answer)
            self._table.on_freed()
            prefix = update.message.parameters.namespace_prefix
            if isinstance(update.answer, RequestError):
                if not state.is_subscription:
                    self._end_failed(state)
                    return
            elif prefix is not None:
                state.prefix = prefix

    def _end_failed(self, state: RequestState) -> None:
        """An update failed: that ends a fetch and its stream, or closes a namespace request's
        stream (section 10.8.1). A subscription ends with the owner's PUBLISH_DONE."""
        if state.data_stream is not None and not state.data_ended:
            self._context.reset(state.data_stream, StreamError.INTERNAL_ERROR)
        self._link.finish(state)
        self._table.end(state)

    def notify(self, request_id: int, notification: Notification) -> None:
        """A message on an established request; PUBLISH_DONE is the last.

        :raises ValueError: it has no place on this request.
        """
        state = self._live(request_id)
        request = state.request
        begun = state.ours or state.phase is Phase.ESTABLISHED
        match notification:
            case PublishDone() | PublishStateNotify():
                fits = state.is_subscription and state.publishes
            case NamespaceAdded() | NamespaceDone():
                fits = isinstance(request, SubscribeNamespace) and not state.ours
            case PublishBlocked():
                fits = isinstance(request, SubscribeTracks) and not state.ours
        if not fits or not begun:
            raise ValueError(
                f"{type(notification).__name__} for a {type(request).__name__}, {state.phase.value}"
            )
        if isinstance(notification, PublishDone):
            self._link.send(state, replace(notification, request_id=request_id), fin=True)
            self._table.end(state)
        else:
            self._link.send(state, notification)

    def _live(self, request_id: int) -> RequestState:
        state = self._table.get(request_id)
        if state is None:
            raise ValueError(f"there is no request {request_id}")
        return state

    # Fetch streams of ours

    def open_fetch(self, request_id: int) -> int:
        """A stream for the objects of a FETCH, or of a fill, of the peer.

        :raises ValueError: the request has a stream already, or takes none.
        """
        state = self._table.get(request_id)
        fetch = state is not None and not state.ours and isinstance(state.request, Fetch)
        fill = self._context.draft.fill and not fetch and request_id in self.used_ids
        if not fill and (not fetch or state is None or state.data_stream is not None):
            raise ValueError(f"request {request_id} takes no fetch stream")
        transport = self._context.transport
        stream_id = transport.open_stream(unidirectional=True)
        transport.send(stream_id, encode_fetch_header(request_id, self._context.draft))
        if fetch and state is not None:
            state.data_stream = stream_id
            self._table.fetch_streams[stream_id] = state
        return stream_id

    def stream_ended(self, stream_id: int) -> None:
        """A data stream of ours has got its FIN, or was reset or stopped."""
        state = self._table.fetch_streams.pop(stream_id, None)
        if state is None:
            return
        state.data_ended = True
        if state.phase is Phase.ESTABLISHED:
            self._link.finish(state)
            self._table.end(state)


def malformed_token(error: MalformedTokenError) -> Refusal:
    return Refusal(RequestErrorCode.MALFORMED_AUTH_TOKEN, str(error))


def _error(request_id: int, refused: Refusal) -> RequestError:
    return RequestError(request_id, refused.code, refused.reason, refused.retry_after)
