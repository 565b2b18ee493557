"""What a session's request logic asks of the drafts' two ways to carry requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastrelay.moqt.context import StreamHandler
from fastrelay.moqt.messages import GoAway, Message, RequestUpdate, Setup
from fastrelay.moqt.requests import RequestState

if TYPE_CHECKING:
    from fastrelay.moqt.requester import Requester
    from fastrelay.moqt.responder import Responder


class Link(Protocol):
    """Writes control messages; all calls only queue."""

    requester: Requester
    responder: Responder

    def start(self, setup: Setup) -> None:
        """Send our SETUP, at once or as soon as the draft lets us."""

    def open(self, stream_id: int, data: bytes, fin: bool) -> None:
        """The first bytes of a bidirectional stream of the peer."""

    def control(self, stream_id: int) -> StreamHandler:
        """The reader for a unidirectional control stream of the peer."""

    def control_stopped(self, stream_id: int) -> None:
        """STOP_SENDING for a unidirectional stream of ours.

        :raises MoqtError: it is our control stream.
        """

    def unread(self) -> None:
        """The peer gave up a request stream before its request could be read."""

    def request(self, state: RequestState) -> None:
        """Send the first message of a request of ours, as soon as the peer allows it."""

    def update(self, state: RequestState, message: RequestUpdate) -> None:
        """Send an update, likewise."""

    def send(self, state: RequestState, message: Message, *, fin: bool = False) -> None:
        """Send an answer or a notification; ``fin``: it is our last word on the request."""

    def finish(self, state: RequestState) -> None:
        """Nothing more is to be said on a request."""

    def cancel(self, state: RequestState, code: int) -> None:
        """Tell the peer that its or our request is given up."""

    def goaway(self, message: GoAway, state: RequestState | None) -> None:
        """For one request, or for the session."""
