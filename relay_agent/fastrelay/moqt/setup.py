"""SETUP of draft 17 on, CLIENT_SETUP and SERVER_SETUP of draft 16 (draft-18 section 10.3)."""

from __future__ import annotations

import re

from fastrelay.moqt import keyvalue
from fastrelay.moqt.codes import MoqtError, SessionError
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.keyvalue import KeyValue
from fastrelay.moqt.messages import Setup, Token, TokenAction
from fastrelay.moqt.reader import Reader, violation
from fastrelay.moqt.tokens import decode_token, encode_token

_PATH = 0x01
_MAX_REQUEST_ID = 0x02
_AUTHORIZATION_TOKEN = 0x03
_MAX_AUTH_TOKEN_CACHE_SIZE = 0x04
_AUTHORITY = 0x05
_MAX_FILTER_RANGES = 0x06
_IMPLEMENTATION = 0x07
_MAX_REQUEST_UPDATES = 0x08

# path-abempty ["?" query] and authority of RFC 3986.
_PCHAR = rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_PATH_FORM = re.compile(rb"(?:/" + _PCHAR + rb"*)*(?:\?(?:" + _PCHAR + rb"|[/?])*)?")
_REG_NAME = rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
_AUTHORITY_FORM = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?"
    rb"(?:\[[0-9A-Za-z._~!$&'()*+,;=:-]+\]|" + _REG_NAME + rb")(?::[0-9]*)?"
)


def read_setup(reader: Reader, draft: Draft, *, from_client: bool) -> Setup:
    """The body of SETUP. Options that the draft does not know are dropped.

    :raises MoqtError: INVALID_PATH, INVALID_AUTHORITY; from a server. MALFORMED_PATH,
        MALFORMED_AUTHORITY; against RFC 3986. KEY_VALUE_FORMATTING_ERROR; an undecodable token.
        PROTOCOL_VIOLATION; anything else.
    """
    count = None if draft.request_streams else reader.integer()
    values: dict[int, int | bytes] = {}
    tokens: list[Token] = []
    pairs = 0
    known = _known(draft)
    for kind, value in keyvalue.decode(reader.rest(), draft.varints):
        pairs += 1
        if kind == _AUTHORIZATION_TOKEN and isinstance(value, bytes):
            tokens.append(_token(value, draft, from_client=from_client))
        elif kind in known:
            if kind in values:
                raise violation(f"setup option {kind:#x} twice")
            values[kind] = value
    if count not in (None, pairs):
        raise violation(f"{pairs} setup parameters, {count} announced")
    path, authority = values.get(_PATH), values.get(_AUTHORITY)
    implementation = values.get(_IMPLEMENTATION)
    return Setup(
        path=_checked(
            path, _PATH_FORM, SessionError.MALFORMED_PATH, SessionError.INVALID_PATH, from_client
        ),
        authority=_checked(
            authority,
            _AUTHORITY_FORM,
            SessionError.MALFORMED_AUTHORITY,
            SessionError.INVALID_AUTHORITY,
            from_client,
        ),
        implementation=(
            implementation.decode(errors="replace") if isinstance(implementation, bytes) else None
        ),
        tokens=tuple(tokens),
        max_auth_token_cache_size=_integer(values, _MAX_AUTH_TOKEN_CACHE_SIZE) or 0,
        max_request_id=_integer(values, _MAX_REQUEST_ID),
        max_filter_ranges=_integer(values, _MAX_FILTER_RANGES) or 0,
        max_request_updates=_integer(values, _MAX_REQUEST_UPDATES),
    )


def _known(draft: Draft) -> set[int]:
    """What this draft defines; the rest is ignored, however often it is there."""
    known = {_PATH, _MAX_AUTH_TOKEN_CACHE_SIZE, _AUTHORITY, _IMPLEMENTATION}
    if not draft.request_streams:
        known.add(_MAX_REQUEST_ID)
    if draft.range_filters:
        known |= {_MAX_FILTER_RANGES, _MAX_REQUEST_UPDATES}
    return known


def _integer(values: dict[int, int | bytes], kind: int) -> int | None:
    value = values.get(kind)
    return value if isinstance(value, int) else None


def _token(value: bytes, draft: Draft, *, from_client: bool) -> Token:
    token = decode_token(value, draft.varints)
    if from_client and token.action in (TokenAction.DELETE, TokenAction.USE_ALIAS):
        raise violation(f"{token.action.name} of a token in a client's SETUP")
    return token


def _checked(
    value: int | bytes | None,
    form: re.Pattern[bytes],
    malformed: SessionError,
    invalid: SessionError,
    from_client: bool,
) -> str | None:
    if not isinstance(value, bytes):
        return None
    if not from_client:
        raise MoqtError(invalid, "a server may not send this")
    if not form.fullmatch(value):
        raise MoqtError(malformed, f"{value[:64]!r} is not what RFC 3986 allows")
    return value.decode()


def write_setup(setup: Setup, draft: Draft) -> bytes:
    """The body of SETUP. What the draft does not know is left out.

    :raises ValueError: a value too long.
    """
    pairs: list[KeyValue] = []

    def add(kind: int, value: int | str | None) -> None:
        if value is not None:
            pairs.append((kind, value.encode() if isinstance(value, str) else value))

    add(_PATH, setup.path)
    if not draft.request_streams:
        add(_MAX_REQUEST_ID, setup.max_request_id)
    pairs += [(_AUTHORIZATION_TOKEN, encode_token(token, draft.varints)) for token in setup.tokens]
    add(_MAX_AUTH_TOKEN_CACHE_SIZE, setup.max_auth_token_cache_size or None)
    add(_AUTHORITY, setup.authority)
    if draft.range_filters:
        add(_MAX_FILTER_RANGES, setup.max_filter_ranges or None)
    add(_IMPLEMENTATION, setup.implementation)
    if draft.range_filters:
        add(_MAX_REQUEST_UPDATES, setup.max_request_updates)
    count = b"" if draft.request_streams else draft.varints.encode(len(pairs))
    return count + keyvalue.encode(pairs, draft.varints)
