"""Our requests: sending them, and what the peer makes of them."""

from __future__ import annotations

from fastrelay.moqt.codec import encode
from fastrelay.moqt.codes import MoqtError, SessionError, StreamError
from fastrelay.moqt.context import Context
from fastrelay.moqt.events import (
    AnswerReceived,
    NotificationReceived,
    RequestCancelled,
    RequestEnded,
    UpdateAnswered,
)
from fastrelay.moqt.link import Link
from fastrelay.moqt.messages import (
    Answer,
    Fetch,
    FetchKind,
    FetchOk,
    NamespaceAdded,
    NamespaceDone,
    Notification,
    Parameters,
    Publish,
    PublishBlocked,
    PublishDone,
    PublishNamespace,
    PublishStateNotify,
    Request,
    RequestError,
    RequestOk,
    RequestUpdate,
    Setup,
    SubscribeNamespace,
    SubscribeOk,
    SubscribeTracks,
    Token,
    TokenAction,
    TrackStatus,
)
from fastrelay.moqt.names import (
    MAX_FULL_TRACK_NAME,
    MAX_NAMESPACE_FIELDS,
    GroupOrder,
    Location,
    Namespace,
)
from fastrelay.moqt.parameters import check_scope
from fastrelay.moqt.reader import violation
from fastrelay.moqt.requests import ANSWERS, Phase, RequestState, RequestTable
from fastrelay.moqt.tokens import MalformedTokenError, TokenCache

MAX_FILLS = 4096
"""Fill streams that may still come; what exceeds it is forgotten, oldest first."""


class Requester:
    """Keeps what we asked for in step with what the peer says about it."""

    def __init__(self, context: Context, table: RequestTable, link: Link) -> None:
        self._context = context
        self._table = table
        self._link = link
        self.next_id = 0 if context.transport.is_client else 1
        self._tokens = TokenCache(0)
        self._max_updates = 1
        """Unanswered updates that the peer allows for one request; 0: any number."""
        self._max_ranges = 0
        self._fills: dict[int, Parameters] = {}
        """Fills whose stream has not come, by the id of the request or update. They may still
        come after PUBLISH_DONE."""

    def setup_received(self, tokens: tuple[Token, ...], setup: Setup) -> None:
        """What the peer grants us; it registers the tokens of our SETUP if there is room."""
        self._tokens = TokenCache(setup.max_auth_token_cache_size)
        self._tokens.resolve(tokens, setup=True)
        self._max_updates = setup.max_request_updates or 0
        self._max_ranges = setup.max_filter_ranges

    def is_used(self, request_id: int) -> bool:
        """Whether we ever used this id."""
        return request_id % 2 == self.next_id % 2 and request_id < self.next_id

    # What the owner wants

    def issue(self, request: Request) -> int:
        """Send a request.

        :raises ValueError: the alias stands for another track, or a token for nothing; the
            peer allows fewer ranges in filters.
        """
        state = RequestState(request, ours=True)
        self._check(request.parameters)
        if isinstance(request, Publish) and not self._table.alias_is_free(
            request.track_alias, request.track, publishing=True
        ):
            raise ValueError(f"track alias {request.track_alias} stands for another track")
        self._link.request(state)
        self.next_id += 2
        self._table.add(state)
        if isinstance(request, Publish):
            self._table.hold_alias(state, request.track_alias)
        self._expect_fill(request.request_id, request.parameters)
        limit = self._context.limits.answer_timeout
        if limit is not None:
            self._context.deadlines.start(
                ("answer", state.id),
                limit + (request.parameters.rendezvous_timeout or 0) / 1000,
                SessionError.CONTROL_MESSAGE_TIMEOUT,
                "no answer to a request",
            )
        return state.id

    def update(self, request_id: int, parameters: Parameters) -> int:
        """Change a request of ours, or a PUBLISH of the peer that we answered.

        :raises ValueError: there is no such request.
        """
        state = self._live(request_id)
        if not state.ours and not isinstance(state.request, Publish):
            raise ValueError(f"request {request_id} is the peer's to update")
        if not state.ours and state.phase is Phase.PENDING:
            raise ValueError(f"answer the PUBLISH {request_id} before its update")
        if isinstance(state.request, TrackStatus):
            raise ValueError("a TRACK_STATUS cannot be updated")
        self._check(parameters)
        message = RequestUpdate(self.next_id, request_id, parameters)
        if state.updates_held or not self._may_update(state):
            encode(message, self._context.draft)
            state.updates_held.append(message)
        else:
            self._send_update(state, message)
        self.next_id += 2
        self._expect_fill(message.request_id, parameters)
        return message.request_id

    def _may_update(self, state: RequestState) -> bool:
        return not self._max_updates or len(state.updates_sent) < self._max_updates

    def _send_update(self, state: RequestState, message: RequestUpdate) -> None:
        self._link.update(state, message)
        state.updates_sent[message.request_id] = message

    def cancel(self, request_id: int, code: int) -> None:
        """Give up a request, ours or the peer's; nothing happens if it is over already.

        :raises ValueError: a subscription in which we are the publisher.
        """
        state = self._table.get(request_id)
        if state is None:
            return
        if state.publishes and state.is_subscription:
            raise ValueError("a publisher ends a subscription with PUBLISH_DONE or an error")
        self._link.cancel(state, code)
        if state.data_stream is not None and not state.data_ended:
            if state.ours:
                self._context.stop(state.data_stream, code)
            else:
                self._context.reset(state.data_stream, code)
        self._table.end(state)

    def _live(self, request_id: int) -> RequestState:
        state = self._table.get(request_id)
        if state is None:
            raise ValueError(f"there is no request {request_id}")
        return state

    def _check(self, parameters: Parameters) -> None:
        """Whether the peer lets us send these."""
        for part in (parameters, parameters.fill):
            if part and sum(len(f.ranges) for f in part.range_filters) > self._max_ranges:
                raise ValueError(f"the peer allows {self._max_ranges} ranges in filters")
        if parameters.tokens:
            try:
                self._tokens.resolve(parameters.tokens)
            except (MoqtError, MalformedTokenError) as error:
                raise ValueError(f"authorization token: {error}") from None

    # What the peer says

    def answer(self, state: RequestState, answer: Answer) -> None:
        """The answer to a request of ours.

        :raises MoqtError: it is not one to this request, or breaks its rules.
        """
        request = state.request
        if isinstance(answer, RequestError):
            _check_redirect(request, answer)
        elif type(answer) is not ANSWERS.get(type(request), RequestOk):
            raise violation(f"{type(answer).__name__} answers a {type(request).__name__}")
        if state.phase is not Phase.PENDING:
            raise violation(f"a second answer to request {state.id}")
        self._context.deadlines.stop(("answer", state.id))
        if isinstance(answer, RequestOk):
            answer = check_scope(answer, request, self._context.draft)
        elif isinstance(answer, SubscribeOk):
            if not self._table.hold_alias(state, answer.track_alias):
                raise duplicate_alias(answer.track_alias)
        elif isinstance(answer, FetchOk):
            _check_end(request, answer)
        state.phase = Phase.ESTABLISHED
        if isinstance(answer, RequestError) or isinstance(request, TrackStatus) or state.data_ended:
            self._table.end(state)
            self._link.finish(state)
        self._context.emit(AnswerReceived(answer))

    def update_answer(self, state: RequestState, update_id: int, answer: Answer) -> None:
        """The answer to an update of ours.

        :raises MoqtError: it is no answer to an update.
        """
        update = state.updates_sent.pop(update_id)
        if isinstance(answer, RequestError):
            _check_redirect(state.request, answer)
        elif isinstance(answer, RequestOk):
            answer = check_scope(answer, update, self._context.draft)
            if update.parameters.namespace_prefix is not None:
                state.prefix = update.parameters.namespace_prefix
        else:
            raise violation(f"{type(answer).__name__} answers a REQUEST_UPDATE")
        while state.updates_held and self._may_update(state):
            self._send_update(state, state.updates_held.pop(0))
        self._context.emit(UpdateAnswered(state.id, update_id, answer))

    def notification(self, state: RequestState, message: Notification) -> None:
        """A message on an established request of ours, or on a PUBLISH of the peer.

        :raises MoqtError: it has no place there.
        """
        request = state.request
        subscribed = state.is_subscription and not state.publishes
        begun = not state.ours or state.phase is Phase.ESTABLISHED
        match message:
            case PublishDone() if subscribed and begun:
                self._table.end(state)
                self._link.finish(state)
            case PublishStateNotify() if subscribed and begun:
                pass
            case NamespaceAdded() | NamespaceDone() if begun and isinstance(
                request, SubscribeNamespace
            ):
                if not self._follow(state, message):
                    return
            case PublishBlocked() if begun and isinstance(request, SubscribeTracks):
                pass
            case _:
                raise violation(
                    f"{type(message).__name__} for a {type(request).__name__}, {state.phase.value}"
                )
        self._context.emit(NotificationReceived(state.id, message))

    def _follow(self, state: RequestState, message: NamespaceAdded | NamespaceDone) -> bool:
        """Keep the set of live namespaces; False if the request is over."""
        namespace = state.prefix + message.suffix
        if isinstance(message, NamespaceDone):
            if namespace not in state.namespaces:
                raise violation("NAMESPACE_DONE without a NAMESPACE before it")
            state.namespaces.remove(namespace)
            return True
        _check_namespace(namespace)
        state.namespaces.add(namespace)
        if len(state.namespaces) <= self._context.limits.namespaces:
            return True
        self.cancel(state.id, StreamError.EXCESSIVE_LOAD)
        self._context.emit(RequestEnded(state.id, StreamError.EXCESSIVE_LOAD))
        return False

    def ended(self, state: RequestState, code: int) -> None:
        """The peer gave up a request of ours without a message."""
        self._table.end(state)
        if state.data_stream is not None and not state.data_ended:
            self._context.stop(state.data_stream, StreamError.CANCELLED)
        if isinstance(state.request, Publish):
            self._context.emit(RequestCancelled(state.id))
        else:
            self._context.emit(RequestEnded(state.id, code))

    # Fetch streams

    def _expect_fill(self, request_id: int, parameters: Parameters) -> None:
        if parameters.fill:
            self._fills[request_id] = parameters.fill
            if len(self._fills) > MAX_FILLS:
                del self._fills[next(iter(self._fills))]

    def fetch_opened(self, request_id: int, stream_id: int) -> bool | None:
        """See :class:`fastrelay.moqt.incoming.Fetches`."""
        state = self._table.get(request_id)
        if request_id in self._fills:
            parameters = self._fills.pop(request_id)
        elif state is None and self.is_used(request_id):
            return None
        elif (
            state is None
            or not isinstance(state.request, Fetch)
            or not state.ours
            or state.data_stream is not None
        ):
            raise violation(f"a fetch stream for request {request_id}, which expects none")
        else:
            parameters = state.request.parameters
            state.data_stream = stream_id
        return parameters.group_order is GroupOrder.DESCENDING

    def fetch_ended(self, request_id: int) -> None:
        """See :class:`fastrelay.moqt.incoming.Fetches`."""
        state = self._table.get(request_id)
        if state is None or not isinstance(state.request, Fetch):
            return
        state.data_ended = True
        if state.phase is Phase.ESTABLISHED:
            self._table.end(state)
            self._link.finish(state)


def check_tokens(tokens: tuple[Token, ...]) -> None:
    """What a SETUP may hold: values and registrations, each once.

    :raises ValueError: something else.
    """
    if any(token.action in (TokenAction.DELETE, TokenAction.USE_ALIAS) for token in tokens):
        raise ValueError("there are no token aliases yet that SETUP could use")
    try:
        TokenCache(0).resolve(tokens, setup=True)
    except (MoqtError, MalformedTokenError) as error:
        raise ValueError(f"authorization token: {error}") from None


def duplicate_alias(alias: int) -> MoqtError:
    return MoqtError(
        SessionError.DUPLICATE_TRACK_ALIAS, f"track alias {alias} stands for another track"
    )


def _check_redirect(request: Request, answer: RequestError) -> None:
    """Section 10.6.1: a request for a namespace cannot be sent to a track."""
    if (
        answer.redirect
        and answer.redirect.track.name
        and isinstance(request, PublishNamespace | SubscribeNamespace | SubscribeTracks)
    ):
        raise violation("a redirect names a track where a namespace was meant")


def _check_end(request: Request, answer: FetchOk) -> None:
    """FETCH_OK must not end before the fetch began, where that is an absolute place."""
    if (
        not isinstance(request, Fetch)
        or request.kind is not FetchKind.STANDALONE
        or request.parameters.filter is not None
    ):
        return
    end = Location(answer.end_group, answer.end_object or 0)
    start = request.start
    if answer.end_object is None:
        start = Location(start.group, 0)
    if end < start:
        raise violation(f"FETCH_OK ends at {tuple(end)}, before {tuple(request.start)}")


def _check_namespace(namespace: Namespace) -> None:
    if len(namespace) > MAX_NAMESPACE_FIELDS or sum(map(len, namespace)) > MAX_FULL_TRACK_NAME:
        raise violation("prefix and suffix together are too long for a namespace")
