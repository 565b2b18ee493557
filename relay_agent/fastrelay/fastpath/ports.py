"""The kernel as the relay sees it. Offsets and ids of streams are QUIC's, prefixes included.

``Forwarder`` (``fastpath/forwarder.py``) implements this on the maps; the relay's core knows
only these interfaces, so that its tests need no kernel.

Every copy that the kernel took upon itself, one for each member of an upstream packet, ends in
exactly one way: the kernel sends it (nothing is told, but :meth:`Borrower.lost` may follow), or
``missed``. That holds for legs that were taken back, too: the packets that the kernel still
takes of the stream are ``missed`` for that member, whoever has the leg.

A Borrower is called from within :meth:`Forwarder.drain` and :meth:`Forwarder.bind` alone. It may
call everything here; what that brings to light is told when it has returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastrelay.quic.aioquic_private import Engine


@dataclass(frozen=True, slots=True)
class Template:
    """What a stream's (or datagram's) first bytes become: ``before``, the bytes of them that
    are kept, ``after``; at most 16 bytes each. None in its place: they pass as they are."""

    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class MemberTerms:
    """What a subscription gets. Ordinals are MoQT's group ids, both ends included."""

    stream: Template | None
    datagram: Template | None
    first_ordinal: int
    last_ordinal: int
    priority: int


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """How the media of a connection's peer begin: WebTransport's prefix of its streams and of
    its datagrams (at most 16 bytes each), and which varints follow (layout: ``variant``)."""

    prefix: bytes = b""
    datagram_prefix: bytes = b""
    variant: int = 0


class Link(Protocol):
    """A connection given to the kernel.

    ``index``: its place in the maps; -1 as long as there is a ``reason``.
    """

    index: int

    @property
    def reason(self) -> str:
        """Why nothing is forwarded from or to it; empty if it is fast. May change in time: the
        forwarder tries again about once a second."""

    def close(self) -> None:
        """The connection is over. Its members, tracks and loans are gone, its keys erased."""


class FastMember(Protocol):
    """A subscription that the kernel serves, from the next stream of its track on.

    ``owner``: what was given to :meth:`FastTrack.add`.
    """

    link: Link
    terms: MemberTerms
    owner: Any

    @property
    def streams(self) -> int:
        """Streams that the kernel has begun for it."""

    @property
    def packets(self) -> int:
        """Packets that the kernel has sent for it."""

    def leave(self) -> None:
        """Not one more packet: copies under way are ``missed``. Legs stay as they are, see
        :meth:`Loan.leg`. A second call does nothing."""


class FastTrack(Protocol):
    """A channel of one publishing connection."""

    def add(self, link: Link, terms: MemberTerms, owner: Any) -> FastMember | None:
        """None: there is no room, or the link is not fast.

        :raises ValueError: a template is too long.
        """

    def publish(self) -> bool:
        """What was added and what left takes effect for streams that begin from now on. Called
        by the forwarder itself at the end of a drain; to be called for "at once". False: there
        is no room for another version yet; the forwarder tries again."""

    def close(self) -> None:
        """Nothing of this channel is begun any more; members are gone with it. Streams that are
        under way are not touched: dissolve them, if they are to end."""


class Loan(Protocol):
    """An upstream stream that the kernel began to forward.

    ``members``: by position, as they were when the stream began. ``stream_id``: upstream.
    """

    link: Link
    stream_id: int
    ordinal: int
    members: Sequence[FastMember]

    def served(self, position: int) -> bool:
        """Whether the stream's ordinal lies in the member's range (else the kernel skips it, and
        nothing is told of it)."""

    def shift(self, position: int) -> int:
        """What to add to an upstream offset for the member's own; for offsets beyond the head."""

    def uncovered(self, start: int, stop: int, fin: bool) -> list[tuple[int, int, bool]]:
        """What of a range (and of the end of the stream) no intent has: it is user space's, for
        all members, from now on. Without a new intent the same question has the same answer."""

    def leg(self, position: int) -> tuple[int, int] | None:
        """Stream id and highest offset of what the kernel sent to a member, in its own offsets;
        None: not begun. Stays known after :meth:`retire`."""

    def take_leg(self, position: int) -> list[tuple[int, int]]:
        """The kernel sends nothing more on this leg. Returns the ranges below ``highest``, in
        upstream offsets, that the kernel has not sent and will not send; those of them that an
        intent has are told to :meth:`Borrower.missed`, too, before or later."""

    def dissolve(self) -> None:
        """No new intents for the stream: the rest of it is ``uncovered``."""

    def close_leg(self, position: int) -> None:
        """Nobody sends any more on it (reset, STOP_SENDING); nothing more is told of it."""

    def retire(self) -> None:
        """User space expects nothing more of the kernel: dissolves the stream, and frees its
        place as soon as everything is settled. What was missed or gets lost is told as before."""


class Borrower(Protocol):
    """The relay's side of a loan; set with :meth:`Forwarder.bind`."""

    def missed(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The kernel did not send this range to this member and never will (upstream offsets)."""

    def refused(self, position: int, outcome: int) -> None:
        """Why, before :meth:`missed` (fastpath.layout.Outcome): too slow, or something is wrong.
        DROPPED is not followed by ``missed``: nobody sends it."""

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The kernel's packet with this range was lost: send it again (upstream offsets)."""

    def stopped(self, position: int, code: int) -> None:
        """STOP_SENDING for the member's stream."""

    def settled(self) -> None:
        """Every copy of the stream is told or sent, and no more will come: after its end was
        covered, or after dissolve or retire. Called once."""


class DatagramLoan(Protocol):
    """A datagram that the kernel took upon itself; not sent again when it is lost."""

    ordinal: int
    members: Sequence[FastMember]

    def served(self, position: int) -> bool:
        """As for streams."""


class DatagramBorrower(Protocol):
    """The relay's side of it."""

    def missed(self, position: int) -> None:
        """The kernel did not send it to this member and never will."""

    def refused(self, position: int, outcome: int) -> None:
        """As for streams."""

    def settled(self) -> None:
        """Nothing more will be told of it. Called once."""


class Forwarder(Protocol):
    """The kernel's part of one relay."""

    @property
    def reason(self) -> str:
        """Why nothing at all is forwarded; empty if it is."""

    @property
    def deadline(self) -> float:
        """When to call :meth:`drain` at the latest (the loop's time: CLOCK_MONOTONIC)."""

    def drain(self, now: float) -> None:
        """Read the rings and settle; to be called after a batch of datagrams was read and before
        the first of them is looked at."""

    def register(self, engine: Engine, terms: LinkTerms) -> Link:
        """Give a connection to the kernel, as soon as its handshake is confirmed and it is known
        how its peer's media begin."""

    def open_track(self, link: Link, channel: int) -> FastTrack | None:
        """``link``: of the publisher. None: there is no room, or the link is not fast."""

    def loan(self, link: Link, stream_id: int) -> Loan | None:
        """The loan of an upstream stream, as soon as its first packet has been read."""

    def datagram(self, link: Link, packet_number: int, index: int) -> DatagramLoan | None:
        """The loan of a datagram, the ``index``-th of its packet; to be asked once. None: user
        space sends it."""

    def bind(self, loan: Loan, borrower: Borrower) -> None:
        """What the kernel does not do for the stream is told to the borrower from now on; what
        is known already, at once. A loan that nobody binds is dissolved after a while."""

    def bind_datagram(self, loan: DatagramLoan, borrower: DatagramBorrower) -> None:
        """The same for a datagram."""

    def close(self) -> None:
        """The relay ends: all links are closed, keys and plaintext erased."""
