"""How much of this end a peer may use before its session, or one request of it, is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session grants its peer. Times are seconds, measured by ``Session.expire``."""

    incoming_requests: int = 1000
    """Requests of the peer that are open at once. Drafts with request credit grant no more
    (MAX_REQUEST_ID), the others refuse the next one with EXCESSIVE_LOAD."""
    request_updates: int = 16
    """Unanswered REQUEST_UPDATEs for one request (MAX_REQUEST_UPDATES)."""
    filter_ranges: int = 64
    """Ranges in all range filters of one request (MAX_FILTER_RANGES)."""
    token_cache: int = 16384
    """Bytes of registered authorization tokens, 16 for each included."""
    name_bytes: int = 4096
    """Bytes of a namespace and a track name together; longer ones get NOT_SUPPORTED. The
    drafts' own maximum is 4096, and more than that closes the session."""
    namespaces: int = 65536
    """Live namespaces that a peer may announce for one SUBSCRIBE_NAMESPACE of ours; more
    cancel that request with EXCESSIVE_LOAD."""
    data_streams: int = 4096
    """Data streams of the peer that are open at once; more are stopped with EXCESSIVE_LOAD."""
    early_bytes: int = 262144
    """Bytes of streams and datagrams kept until the peer's SETUP is here; streams beyond
    are refused with EXCESSIVE_LOAD, datagrams beyond are dropped."""
    unread_bytes: int | None = None
    """Bytes that wait for the peer to read; with more ``Session.expire`` closes the session
    (CONTROL_MESSAGE_TIMEOUT). It has to hold what the owner's back pressure lets through and
    every message that the peer can ask for. None: any number."""
    setup_timeout: float = 10.0
    """For the peer's SETUP; then CONTROL_MESSAGE_TIMEOUT."""
    message_timeout: float = 10.0
    """For the rest of a control message that has begun (CONTROL_MESSAGE_TIMEOUT) or of the
    header of a data stream (DATA_STREAM_TIMEOUT)."""
    answer_timeout: float | None = None
    """For the answer to a request of ours, on top of its RENDEZVOUS_TIMEOUT; then
    CONTROL_MESSAGE_TIMEOUT. None: as long as it takes, since peers exist that never answer."""
    reorder_timeout: float = 3.0
    """Draft 16: how long a request may be ahead of an earlier one, which was sent on another
    stream and is still on its way; then INVALID_REQUEST_ID."""


DEFAULT_LIMITS = SessionLimits()
