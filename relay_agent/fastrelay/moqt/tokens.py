"""Authorization tokens: the structure on the wire and the aliases of a session (section 10.2.2).

A peer may register a token under an alias once and refer to it later. What it may make us
store is bounded by the MAX_AUTH_TOKEN_CACHE_SIZE that we told it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.messages import Token, TokenAction
from fastrelay.moqt.reader import Reader
from fastrelay.moqt.varint import Varints

ResolvedToken = tuple[int, bytes]
"""Token type and value."""

ENTRY_COST = 16
"""What a registered token costs on top of its value's bytes (section 10.3.1.3)."""


class UnknownAliasError(MoqtError):
    """A token refers to an alias that is not registered."""

    def __init__(self, alias: int) -> None:
        super().__init__(
            SessionError.UNKNOWN_AUTH_TOKEN_ALIAS, f"token alias {alias} is not registered"
        )


class MalformedTokenError(Exception):
    """A message repeats a token: refuse the request with MALFORMED_AUTH_TOKEN."""


def decode_token(data: bytes, varints: Varints) -> Token:
    """The Token structure that ``data`` is.

    :raises MoqtError: KEY_VALUE_FORMATTING_ERROR; this is no Token structure.
    """
    reader = Reader(data, varints)
    try:
        action = TokenAction(reader.integer())
        alias = None if action is TokenAction.USE_VALUE else reader.integer()
        if action in (TokenAction.DELETE, TokenAction.USE_ALIAS):
            reader.finish()
            return Token(action, alias)
        return Token(action, alias, reader.integer(), reader.rest())
    except (ValueError, MoqtError):
        raise MoqtError(
            SessionError.KEY_VALUE_FORMATTING_ERROR, "undecodable authorization token"
        ) from None


def encode_token(token: Token, varints: Varints) -> bytes:
    """The Token structure's bytes.

    :raises ValueError: the action needs an alias or a type that is not there.
    """
    out = varints.encode(token.action)
    if token.action is not TokenAction.USE_VALUE:
        if token.alias is None:
            raise ValueError(f"{token.action.name} needs an alias")
        out += varints.encode(token.alias)
    if token.action in (TokenAction.REGISTER, TokenAction.USE_VALUE):
        if token.type is None:
            raise ValueError(f"{token.action.name} needs a token type")
        out += varints.encode(token.type) + token.value
    return out


class TokenCache:
    """The tokens that one peer has registered in one session.

    :param limit: the MAX_AUTH_TOKEN_CACHE_SIZE that the peer was told, bytes.
    """

    __slots__ = ("_limit", "_size", "_tokens")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._tokens: dict[int, ResolvedToken] = {}

    @property
    def size(self) -> int:
        """Bytes used, as the draft counts them."""
        return self._size

    def resolve(self, tokens: Iterable[Token], *, setup: bool = False) -> tuple[ResolvedToken, ...]:
        """The tokens of one message, aliases replaced, in order. Every registration and
        deletion takes effect, even if the message is refused.

        :param setup: they came in a SETUP, where a REGISTER that does not fit is a USE_VALUE.
        :raises MoqtError: AUTH_TOKEN_CACHE_OVERFLOW or DUPLICATE_AUTH_TOKEN_ALIAS.
        :raises UnknownAliasError: see there.
        :raises MalformedTokenError: see there.
        """
        resolved: list[ResolvedToken] = []
        unknown: UnknownAliasError | None = None
        for token in tokens:
            alias = token.alias
            if alias is None or token.action is TokenAction.REGISTER:
                entry = (token.type or 0, token.value)
                if alias is not None:
                    self._register(alias, entry, setup=setup)
                resolved.append(entry)
            elif alias not in self._tokens:
                unknown = unknown or UnknownAliasError(alias)
            elif token.action is TokenAction.DELETE:
                self._size -= ENTRY_COST + len(self._tokens.pop(alias)[1])
            else:
                resolved.append(self._tokens[alias])
        if unknown is not None:
            raise unknown
        if len(set(resolved)) < len(resolved):
            raise MalformedTokenError("the same token twice in one message")
        return tuple(resolved)

    def _register(self, alias: int, entry: ResolvedToken, *, setup: bool) -> None:
        if alias in self._tokens:
            raise MoqtError(
                SessionError.DUPLICATE_AUTH_TOKEN_ALIAS, f"token alias {alias} is in use"
            )
        size = self._size + ENTRY_COST + len(entry[1])
        if size > self._limit:
            if setup:
                return
            raise MoqtError(
                SessionError.AUTH_TOKEN_CACHE_OVERFLOW,
                f"{size} bytes of tokens, more than {self._limit}",
            )
        self._tokens[alias] = entry
        self._size = size
