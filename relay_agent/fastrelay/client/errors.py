"""What goes wrong for a client, as exceptions."""

from __future__ import annotations

from fastrelay.moqt.codes import RequestErrorCode, SessionError
from fastrelay.moqt.messages import Redirect, RequestError


def _named(codes: type[RequestErrorCode] | type[SessionError], code: int) -> str:
    try:
        return codes(code).name
    except ValueError:
        return f"{code:#x}"


class ClientError(Exception):
    """Any failure that this package reports."""


class ConnectFailedError(ClientError):
    """No session came about; the text says why."""


class SessionLostError(ClientError):
    """The session ended while something of it was still wanted."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{_named(SessionError, code)}: {reason}" if reason else f"code {code}")
        self.code = code
        self.reason = reason


class RequestFailedError(ClientError):
    """The peer refused a request or gave it up (draft-18 section 10.6).

    ``code`` is draft 18's, ``retry_after`` milliseconds or None for "do not retry".
    """

    def __init__(
        self,
        code: int,
        reason: str = "",
        retry_after: int | None = None,
        redirect: Redirect | None = None,
    ) -> None:
        name = _named(RequestErrorCode, code)
        super().__init__(f"{name}: {reason}" if reason else name)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.redirect = redirect

    @classmethod
    def of(cls, answer: RequestError) -> RequestFailedError:
        return cls(answer.code, answer.reason, answer.retry_after, answer.redirect)


class TooSlowError(ClientError):
    """A reader left more in its queue than the queue holds, where nothing may be left out."""
