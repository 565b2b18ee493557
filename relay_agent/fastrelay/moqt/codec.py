"""Control messages of every draft: :class:`~fastrelay.moqt.messages.Message` to bytes and back.

::

    split(data, position, draft) -> (message_type, body, end) | None
    decode(message_type, body, draft, request_id=..., from_client=...) -> Message
    encode(message, draft) -> bytes                      # type, length and body

On the wire a message is its type, the body's length (16 bits) and the body (draft-18 section
10); the bodies are in :mod:`fastrelay.moqt.bodies`.
"""

from __future__ import annotations

from fastrelay.moqt.bodies import PUBLISH_OK, Context
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.kinds import kinds_by_class, kinds_by_type
from fastrelay.moqt.messages import Message
from fastrelay.moqt.reader import Reader, violation
from fastrelay.moqt.varint import Buffer, IncompleteError

MAX_BODY = 0xFFFF


def split(data: Buffer, position: int, draft: Draft) -> tuple[int, bytes, int] | None:
    """The type and body of the message at ``position``, and where the next one begins.
    None: it is not complete."""
    try:
        message_type, position = draft.varints.decode(data, position)
    except IncompleteError:
        return None
    start = position + 2
    if start > len(data):
        return None
    end = start + int.from_bytes(data[position:start])
    if end > len(data):
        return None
    return message_type, bytes(data[start:end]), end


def decode(
    message_type: int,
    body: bytes,
    draft: Draft,
    *,
    request_id: int = 0,
    from_client: bool = True,
) -> Message:
    """The message in ``body``.

    :param request_id: of the request on whose stream it came; answers, updates and notifications
        carry none where requests have streams of their own, and this is put into them.
    :param from_client: whether the peer is the client, which decides what SETUP may hold.
    :raises MoqtError: the session is to be closed with its code.
    """
    kind = kinds_by_type(draft).get(message_type)
    if kind is None:
        raise violation(f"unknown message type {message_type:#x}")
    reader = Reader(body, draft.varints)
    message: Message = kind.read(reader, Context(draft, message_type, request_id, from_client))
    reader.finish()
    return message


def encode(
    message: Message, draft: Draft, *, is_client: bool = True, publish_ok: bool = False
) -> bytes:
    """The whole message.

    :param is_client: whether the sender is the client, which decides the type of SETUP.
    :param publish_ok: this REQUEST_OK answers a PUBLISH, which decides what may be in it.
    :raises ValueError: the draft has no such message, cannot say what is in it, or it is too long.
    """
    kind = kinds_by_class(draft, is_client, publish_ok).get(type(message))
    if kind is None:
        raise ValueError(f"{draft} has no {type(message).__name__}")
    context = Context(draft, PUBLISH_OK if publish_ok else kind.type, 0, is_client)
    body = kind.write(message, context)
    if len(body) > MAX_BODY:
        raise ValueError(f"{type(message).__name__} of {len(body)} bytes, more than {MAX_BODY}")
    return b"".join((draft.varints.encode(kind.type), len(body).to_bytes(2), body))
