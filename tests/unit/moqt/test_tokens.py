"""The alias cache: what it accepts, what it costs, and how it ends sessions and requests."""

from __future__ import annotations

import pytest

from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.messages import Token, TokenAction
from fastrelay.moqt.tokens import MalformedTokenError, TokenCache, UnknownAliasError


def register(alias: int, value: bytes = b"secret", kind: int = 7) -> Token:
    return Token(TokenAction.REGISTER, alias, kind, value)


def use(alias: int) -> Token:
    return Token(TokenAction.USE_ALIAS, alias)


def delete(alias: int) -> Token:
    return Token(TokenAction.DELETE, alias)


def value(data: bytes, kind: int = 7) -> Token:
    return Token(TokenAction.USE_VALUE, None, kind, data)


def test_a_registered_token_is_used_at_once_and_later() -> None:
    cache = TokenCache(100)
    assert cache.resolve([register(1)]) == ((7, b"secret"),)
    assert cache.resolve([value(b"other", 0), use(1)]) == ((0, b"other"), (7, b"secret"))


def test_the_size_counts_entries_until_they_are_deleted() -> None:
    cache = TokenCache(48)
    cache.resolve([register(1, b"12345678"), register(2, b"12345679")])
    assert cache.size == 48
    assert cache.resolve([delete(1)]) == ()
    assert cache.size == 24
    cache.resolve([register(1, b"1234567")])
    assert cache.size == 47


def test_an_overflow_ends_the_session() -> None:
    cache = TokenCache(21)
    with pytest.raises(MoqtError) as caught:
        cache.resolve([register(1)])
    assert caught.value.code is SessionError.AUTH_TOKEN_CACHE_OVERFLOW
    assert cache.size == 0


def test_an_overflow_in_setup_uses_the_value_only() -> None:
    cache = TokenCache(21)
    assert cache.resolve([register(1)], setup=True) == ((7, b"secret"),)
    with pytest.raises(UnknownAliasError):
        cache.resolve([use(1)])


def test_an_alias_in_use_ends_the_session() -> None:
    cache = TokenCache(100)
    cache.resolve([register(1)])
    with pytest.raises(MoqtError) as caught:
        cache.resolve([register(1, b"other")])
    assert caught.value.code is SessionError.DUPLICATE_AUTH_TOKEN_ALIAS


def test_a_deleted_alias_may_be_registered_again() -> None:
    cache = TokenCache(100)
    assert cache.resolve([register(1), delete(1), register(1, b"new")]) == (
        (7, b"secret"),
        (7, b"new"),
    )
    assert cache.resolve([use(1)]) == ((7, b"new"),)


@pytest.mark.parametrize("token", [use(9), delete(9)])
def test_an_unknown_alias(token: Token) -> None:
    cache = TokenCache(100)
    with pytest.raises(UnknownAliasError) as caught:
        cache.resolve([token, register(1), use(8)])
    assert caught.value.code is SessionError.UNKNOWN_AUTH_TOKEN_ALIAS
    assert "9" in caught.value.reason
    # The registration of the refused message holds.
    assert cache.resolve([use(1)]) == ((7, b"secret"),)


def test_the_same_token_twice_in_a_message() -> None:
    cache = TokenCache(100)
    with pytest.raises(MalformedTokenError):
        cache.resolve([register(1), value(b"secret")])
    assert cache.resolve([use(1), value(b"secret", 8)]) == ((7, b"secret"), (8, b"secret"))
