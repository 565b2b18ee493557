"""Loops of relays: found by the relays that a request came through.

Every relay has a random id. It tells it in MOQT_IMPLEMENTATION, and a request it passes on to
another such relay carries the ids of the relays it came through in an authorization token of a
type of its own (parameters that a peer does not know end the session, unknown tokens do not;
and only relays that gave an id are sent one). A relay refuses a request that carries its own
id, and never sends one to a relay whose id is in it.
"""

from __future__ import annotations

import secrets

from fastrelay.moqt.messages import Token, TokenAction
from fastrelay.relay.policy import Tokens

HOPS = 0x66726C79
"""Token type of the list of relay ids."""
ID_LENGTH = 8
_MARK = " relay="


def new_id() -> bytes:
    return secrets.token_bytes(ID_LENGTH)


def implementation(version: str, relay_id: bytes) -> str:
    """What goes into MOQT_IMPLEMENTATION."""
    return f"fastrelay/{version}{_MARK}{relay_id.hex()}"


def id_of(implementation_text: str | None) -> bytes | None:
    """The id of a peer that is such a relay."""
    _, mark, text = (implementation_text or "").partition(_MARK)
    if not mark or len(text) != 2 * ID_LENGTH:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def hops_of(tokens: Tokens) -> bytes:
    """The ids that a request came through, one after the other."""
    return b"".join(value for kind, value in tokens if kind == HOPS)


def contains(hops: bytes, relay_id: bytes) -> bool:
    return any(hops[i : i + ID_LENGTH] == relay_id for i in range(0, len(hops), ID_LENGTH))


def token(hops: bytes, own: bytes) -> Token:
    """The list with this relay's id in it, each id once."""
    ids = {hops[i : i + ID_LENGTH] for i in range(0, len(hops), ID_LENGTH)} | {own}
    return Token(TokenAction.USE_VALUE, type=HOPS, value=b"".join(sorted(ids)))
