"""Requests that wait for their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastrelay.client.errors import ClientError, RequestFailedError
from fastrelay.moqt.events import AnswerReceived, UpdateAnswered
from fastrelay.moqt.messages import Answer, Parameters, RequestError

if TYPE_CHECKING:
    from fastrelay.client.client import Client


class Exchanges:
    """Brings answers to those who asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answers: dict[int, tuple[asyncio.Future[Any], Callable[[Any], Any]]] = {}
        self._updates: dict[tuple[int, int], asyncio.Future[None]] = {}

    async def answer(self, request_id: int, accepted: Callable[[Any], Any]) -> Any:
        """Wait for the answer to a request that was sent.

        :param accepted: called with the answer as soon as it arrives, since what follows it
            may be handled before the caller runs again; its result is returned.
        :raises RequestFailedError: it was refused.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = (future, accepted)
        try:
            return await future
        except asyncio.CancelledError:
            if self._answers.pop(request_id, None) is not None:
                self._client.session.cancel(request_id)
            raise

    async def update(self, request_id: int, parameters: Parameters) -> None:
        """REQUEST_UPDATE, and wait for its answer.

        :raises RequestFailedError: it was refused.
        """
        update_id = self._client.session.update(request_id, parameters)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._updates[request_id, update_id] = future
        await future

    def on_answer(self, event: AnswerReceived) -> None:
        answer: Answer = event.answer
        waiting = self._answers.pop(answer.request_id, None)
        if waiting is None:
            return
        future, accepted = waiting
        if isinstance(answer, RequestError):
            _fail(future, RequestFailedError.of(answer))
        elif not future.done():
            future.set_result(accepted(answer))

    def on_update_answer(self, event: UpdateAnswered) -> None:
        future = self._updates.pop((event.request_id, event.update_id), None)
        if future is None:
            return
        if isinstance(event.answer, RequestError):
            _fail(future, RequestFailedError.of(event.answer))
        elif not future.done():
            future.set_result(None)

    def fail(self, request_id: int, error: ClientError) -> None:
        """The request is over, and so is everything that waits for it."""
        waiting = self._answers.pop(request_id, None)
        if waiting is not None:
            _fail(waiting[0], error)
        for key in [key for key in self._updates if key[0] == request_id]:
            _fail(self._updates.pop(key), error)

    def fail_all(self, error: ClientError) -> None:
        for future in [*(future for future, _ in self._answers.values()), *self._updates.values()]:
            _fail(future, error)
        self._answers.clear()
        self._updates.clear()


def _fail(future: asyncio.Future[Any], error: ClientError) -> None:
    if not future.done():
        future.set_exception(error)
