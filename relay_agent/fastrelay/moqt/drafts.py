"""The drafts of MoQT that this package speaks, and what differs between them.

Every difference has one field here; the rest of the package asks the field and
never compares draft numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draft:
    """One draft. Differences are fields, so that a new draft is a new row of this table."""

    number: int
    quic_varints: bool
    """RFC 9000 varints (draft 16) instead of leading-ones varints (17 on). Two sessions of
    equal ``quic_varints`` carry byte-identical data streams, but for FIRST_OBJECT (0x40)."""
    request_streams: bool
    """Each request on its own bidirectional stream; otherwise all on one control stream."""
    range_filters: bool
    """MAX_FILTER_RANGES and parameters 0x25-0x29 exist."""
    fill: bool
    """FETCH carries its range in LOCATION_FILTER, joining fetches are replaced by fills."""
    duplicate_subscriptions: bool
    """A session may subscribe twice to a track."""
    forwards_publish_namespace: bool
    """Relays pass PUBLISH_NAMESPACE on to interested sessions by themselves."""

    @property
    def alpn(self) -> str:
        """ALPN token for raw QUIC, and the name in the WebTransport headers (section 3.1)."""
        return f"moqt-{self.number}"

    def __str__(self) -> str:
        return self.alpn


DRAFT_16 = Draft(16, True, False, False, False, False, True)
DRAFT_18 = Draft(18, False, True, False, False, False, True)
DRAFT_22 = Draft(22, False, True, True, True, True, False)

DRAFTS: dict[int, Draft] = {d.number: d for d in (DRAFT_18, DRAFT_22, DRAFT_16)}
"""By number, in the order of preference."""
