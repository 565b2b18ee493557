"""The kernel as the relay sees it. Offsets and ids of streams are QUIC's, prefixes included.

``Forwarder`` (``fastpath/forwarder.py``) implements this on the maps; the relay's core knows
only these interfaces, so that its tests need no kernel.

Every copy that the kernel took upon itself, one for each member of an upstream packet, ends in
exactly one way: the kernel sends it (nothing is told, but :meth:`Borrower.lost` may follow), it
is ``missed``, or its leg was taken or closed (nothing is told). Callbacks may call everything
here; what that brings to light is told when they have returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastrelay.fastpath.bands import Bands
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


class FastMember(Protocol):
    """A subscription that the kernel serves, from the next stream of its track on.

    ``link``, ``terms``, ``owner``: what was given to :meth:`FastTrack.add`.
    """

    @property
    def link(self) -> Link: ...

    @property
    def terms(self) -> MemberTerms: ...

    @property
    def owner(self) -> Any: ...

    @property
    def streams(self) -> int:
        """Streams that the kernel has begun for it."""

    @property
    def packets(self) -> int:
        """Packets that the kernel has sent for it."""

    def leave(self) -> None:
        """Not one more packet. Streams under way are its no longer; see :meth:`Loan.take_leg`."""


class Link(Protocol):
    """A connection given to the kernel. ``index``: its place in the maps; -1: none (now)."""

    index: int

    @property
    def reason(self) -> str:
        """Why nothing is forwarded from or to it; empty if it is fast. It may change: the
        forwarder tries again about once a second."""

    def close(self) -> None:
        """The connection is over. Its keys are erased, its channels are closed, its loans
        retired, its members leave, and nothing is told of their positions any more."""


class FastTrack(Protocol):
    """A channel of one publishing connection."""

    @property
    def furthest(self) -> int:
        """The largest ordinal of which the kernel had sent anything to any member when the rings
        were last read; -1: of none."""

    def add(self, link: Link, terms: MemberTerms, owner: Any) -> FastMember | None:
        """None: there is no room, or the link is not fast.

        :raises ValueError: a template is too long.
        """

    def publish(self) -> None:
        """What was added and what left takes effect for streams that begin from now on. Called
        by the forwarder itself before the next batch is over; to be called for "at once"."""

    def close(self) -> None:
        """Nothing of this channel is forwarded any more; members are gone with it."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What the kernel did on a member's stream: ``highest`` offset, in the stream's own."""

    stream_id: int
    highest: int
    finished: bool
    """FIN was in it, and is known to have been sent."""


class Loan(Protocol):
    """An upstream stream that the kernel began to forward.

    ``members``: by position, as they were when the stream began; one and the same object for all
    streams of one array. ``stream_id``: upstream.
    """

    stream_id: int
    ordinal: int

    @property
    def link(self) -> Link: ...

    @property
    def members(self) -> Sequence[FastMember]: ...

    @property
    def reach(self) -> int:
        """Where the furthest range ends that an intent has."""

    def shift(self, position: int) -> int:
        """What to add to an upstream offset beyond the head to have the member's own."""

    def uncovered(self, start: int, stop: int, fin: bool) -> list[tuple[int, int, bool]]:
        """What of a range (and of the end of the stream) no intent has: it is user space's, for
        all members. What the kernel takes of it afterwards (the publisher has sent it again) is
        never ``missed``."""

    def leg(self, position: int) -> Leg | None:
        """None: not begun. Final once the leg was taken or closed."""

    def dropped(self, position: int) -> bool:
        """The kernel has dropped the stream for this member before it began: so nobody sends
        it. Final once the leg was taken or closed."""

    def take_leg(self, position: int) -> list[tuple[int, int]]:
        """User space goes on for this member, from ``highest``. Returns the holes below it, in
        upstream offsets, which the caller sends: what neither the kernel sent nor
        :meth:`Borrower.missed` was told. That is not called for the member any more."""

    def reserve(self, position: int, stop: int) -> bool:
        """To be called before user space sends something on a leg that is the kernel's: what
        lies above ``highest`` is counted as sent (MAX_DATA, once for both sides), so that
        ``highest`` is not below ``stop`` (upstream) any more. False: there is no credit; take
        the leg. Done already when :meth:`Borrower.missed` is called, if it was not preceded by
        :meth:`Borrower.refused`."""

    def dissolve(self) -> None:
        """User space goes on for all: call :meth:`take_leg` for each afterwards."""

    def close_leg(self, position: int) -> None:
        """Nobody sends any more on it (reset, STOP_SENDING), and nothing is told of it."""

    def sent_at(self, link: Link, owner: Any, stop: int) -> float | None:
        """When the kernel's packet left for this member that has the byte before ``stop``
        (upstream), by CLOCK_MONOTONIC; None: the kernel did not send it, or it is forgotten."""

    def is_under_way(self, position: int) -> bool:
        """Whether a packet of the kernel's with a part of it, for this member, is neither
        acknowledged nor lost, or may be sent yet."""

    def retire(self) -> None:
        """All of the stream came, and was covered or taken back; or nobody wants it: no range of
        it is asked for any more. The forwarder frees the loan when it is settled and no row
        names it; until then the methods for legs go on to work."""


class Borrower(Protocol):
    """The relay's side of a loan; set with :meth:`Forwarder.bind`.

    Called from within :meth:`Forwarder.drain` and :meth:`Forwarder.bind` only, but for
    :meth:`lost` and :meth:`stopped`, which come from the member's engine.
    """

    def missed(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The kernel did not send this range to this member and never will (upstream offsets)."""

    def refused(self, position: int, outcome: int) -> None:
        """Why, before :meth:`missed` (fastpath.layout.Outcome): too slow, or something is wrong.
        DROPPED: see :meth:`Loan.dropped`; nothing follows."""

    def lost(self, position: int, start: int, stop: int, fin: bool) -> None:
        """The kernel's packet with this range was lost: send it again (upstream offsets)."""

    def stopped(self, position: int, code: int) -> None:
        """STOP_SENDING for the member's stream."""

    def settled(self) -> None:
        """Every intent of the stream is settled. Called once, after :meth:`Loan.retire`; only
        :meth:`lost` can follow."""


class Departures(Protocol):
    """A datagram that the kernel forwards. ``members``: of its array, by position; those in whose
    range its ordinal does not lie are skipped."""

    @property
    def members(self) -> Sequence[FastMember]: ...

    def has(self, link: Link, owner: Any) -> bool:
        """Whether it was the kernel's to send it to this member."""

    def sent_at(self, link: Link, owner: Any) -> float | None:
        """As for :class:`Loan`."""


class DatagramBorrower(Protocol):
    """The relay's side of a datagram that the kernel forwards."""

    def missed(self, position: int) -> None:
        """The kernel did not send it to this member and never will."""


class Forwarder(Protocol):
    """The kernel's part of one relay."""

    @property
    def reason(self) -> str:
        """Why nothing at all is forwarded; empty if it is."""

    @property
    def enabled(self) -> bool:
        """There is no ``reason``."""

    @property
    def deadline(self) -> float:
        """When to call :meth:`drain` at the latest (seconds of CLOCK_MONOTONIC)."""

    def register(self, engine: Engine, terms: LinkTerms, bands: Bands) -> Link:
        """Give a connection to the kernel, as soon as its handshake is confirmed and it is known
        how its peer's media begin. Both sides judge by the same ``bands`` from then on."""

    def close(self) -> None:
        """The relay ends: all links are closed, keys and plaintext erased."""

    def drain(self, now: float) -> None:
        """Read the rings and settle; to be called after a batch of datagrams was read and before
        the first of them is looked at."""

    def open_track(self, link: Link, channel: int, priority: int) -> FastTrack | None:
        """``link``: of the publisher; ``priority``: of what does not say its own. None: there is
        no room, or the link is not fast."""

    def loan(self, link: Link, stream_id: int) -> Loan | None:
        """The loan of an upstream stream, as soon as its first packet has been read. None: it is
        user space's, and stays so: a head that the publisher sends again begins nothing."""

    def bind(self, loan: Loan, borrower: Borrower) -> None:
        """What the kernel does not do for the stream, and did not do up to now, is told to the
        borrower. A loan that nobody binds is retired after a while."""

    def datagram(
        self, link: Link, packet_number: int, index: int, borrower: DatagramBorrower
    ) -> Departures | None:
        """Who gets a datagram by the kernel. Exceptions are told to the borrower, from within this
        call or a later :meth:`drain`. None: user space sends it.

        :param index: its place among the packet's datagrams, from 0.
        """
