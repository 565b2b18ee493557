"""Request ids of draft 16: in sequence, and no more than were granted (its section 9.1)."""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.context import Context
from fastrelay.moqt.requests import UsedIds

_KEY = "order"


class Sequence:
    """Puts the peer's requests in the order of their ids, and grants it new ones.

    SUBSCRIBE_NAMESPACE travels on a stream of its own, the others on the control stream, so
    that one may overtake another: it waits for those before it, for a limited time. A stream
    that was reset before it could be read may leave a hole.

    :param grant: sends MAX_REQUEST_ID.
    """

    def __init__(self, context: Context, grant: Callable[[int], None]) -> None:
        self._context = context
        self._grant = grant
        self._waiting: dict[int, Callable[[], None]] = {}
        self._holes = 0
        self._freed = 0
        self.maximum = 2 * context.limits.incoming_requests
        """The peer's ids must be smaller."""

    def take(self, used: UsedIds, request_id: int, proceed: Callable[[], None]) -> bool:
        """Call ``proceed`` when it is the turn of ``request_id``; False if that is not now.

        :raises MoqtError: INVALID_REQUEST_ID or TOO_MANY_REQUESTS.
        """
        if request_id % 2 != used.next % 2 or request_id < used.next or request_id in self._waiting:
            raise MoqtError(
                SessionError.INVALID_REQUEST_ID, f"request id {request_id}, not {used.next}"
            )
        if request_id >= self.maximum:
            raise MoqtError(
                SessionError.TOO_MANY_REQUESTS, f"request id {request_id}, maximum {self.maximum}"
            )
        self._waiting[request_id] = proceed
        self._advance(used)
        return request_id < used.next

    def skip(self, used: UsedIds) -> None:
        """A request was given up before its id could be read."""
        self._holes += 1
        self._advance(used)

    def _advance(self, used: UsedIds) -> None:
        while self._waiting and not self._context.closed:
            first = min(self._waiting)
            holes = (first - used.next) // 2
            if holes > self._holes:
                self._context.deadlines.start(
                    _KEY,
                    self._context.limits.reorder_timeout,
                    SessionError.INVALID_REQUEST_ID,
                    f"request {used.next} is missing",
                )
                return
            self._holes -= holes
            self._freed += holes
            used.add(first)
            proceed = self._waiting.pop(first)
            self._context.deadlines.stop(_KEY)
            proceed()

    def free(self) -> None:
        """A request or update of the peer is over. Credit is granted in batches."""
        self._freed += 1
        if 2 * self._freed >= self._context.limits.incoming_requests:
            self.grant()

    def grant(self) -> None:
        """Give back all the credit that there is."""
        if self._freed:
            self.maximum += 2 * self._freed
            self._freed = 0
            self._grant(self.maximum)
