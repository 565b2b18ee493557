"""A kernel in memory: what the programs and the forwarder do, as a test wants it to happen.

Members' streams are reassembled from pieces of the kernel's and of user space's; a byte that
comes twice fails the test at once. Offsets are counted as on real connections, prefixes
included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fastrelay.fastpath.bands import Bands
from fastrelay.fastpath.layout import Outcome
from fastrelay.fastpath.ports import Leg, LinkTerms, MemberTerms, Template
from fastrelay.moqt.drafts import DRAFT_18, Draft
from fastrelay.moqt.messages import Parameters
from fastrelay.moqt.objects import decode_subgroup_header
from fastrelay.relay.options import RelayOptions
from fastrelay.relay.ports import Sharing
from unit.relay.harness import TRACK, Client, End, Publisher, World

WEBTRANSPORT = b"\x40\x54\x00"
WEBTRANSPORT_DATAGRAM = b"\x00"

Range = tuple[int, int]


def subtract(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """What of sorted or unsorted ranges is in none of the others."""
    left = sorted(r for r in ranges if r[0] < r[1])
    for start, stop in taken:
        left = [
            piece
            for begin, end in left
            for piece in ((begin, min(end, start)), (max(begin, stop), end))
            if piece[0] < piece[1]
        ]
    return left


@dataclass
class Arriving:
    """A stream towards a client of which pieces come in any order."""

    prefix: bytes
    pieces: dict[int, bytes] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    total: int | None = None
    delivered: int = 0
    over: bool = False


class FastEnd(End):
    """The relay's end of a wire whose connection the kernel uses, too."""

    def __init__(self, *, is_client: bool) -> None:
        super().__init__(is_client=is_client)
        self.stream_prefix = b""
        self.datagram_prefix = b""
        self.datagram_place: tuple[int, int] | None = None
        self.link: FakeLink | None = None
        self.adopted: dict[int, Any] = {}
        """Sources of streams that the kernel began."""
        self.highest: dict[int, int] = {}
        """Where user space goes on with such a stream."""
        self.arriving: dict[int, Arriving] = {}
        self.unwanted: set[int] = set()
        """Streams of which nothing more is delivered here."""
        self.given_up: set[int] = set()
        """Streams that the kernel began and user space has reset."""
        self.user_bytes = 0
        """Sent by user space on streams that the kernel began."""

    def adopt_stream(self, stream_id: int, source: Any, highest: int, *, continued: bool) -> None:
        assert stream_id in self.arriving, "the kernel did not begin it"
        self.adopted[stream_id] = source
        known = self.highest.get(stream_id, highest)
        assert highest == known, "its size would be another one than what was sent"
        if continued:
            self.highest.setdefault(stream_id, highest)

    def send_range(self, stream_id: int, start: int, stop: int, fin: bool) -> None:
        assert stream_id in self.adopted
        assert stream_id not in self.given_up
        if self.closed is None:
            self.queue.append(("range", (stream_id, start, stop, fin)))

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        if stream_id not in self.arriving:
            super().send(stream_id, data, fin)
            return
        if stream_id in self.dead or self.closed:
            return
        offset = self.highest[stream_id]
        self.highest[stream_id] += len(data)
        if fin:
            self.dead.add(stream_id)
        self.user_bytes += len(data)
        self._put("piece", (stream_id, bytes(data), fin, offset), 1, len(data))

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id in self.arriving:
            assert stream_id in self.highest, "the kernel may still send on it"
            if self.arriving[stream_id].over:
                return
            self.queue = deque(
                (m, v) for m, v in self.queue if m not in ("piece", "range") or v[0] != stream_id
            )
            self.dead.discard(stream_id)
            self.given_up.add(stream_id)
        super().reset(stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        self.unwanted.add(stream_id)
        super().stop(stream_id, code)

    def kernel_sent(self, stream_id: int, offset: int, data: bytes, fin: bool) -> None:
        """A packet of the kernel's has left."""
        assert stream_id not in self.highest, "user space has this stream"
        self.queue.append(("packet", (stream_id, data, fin, offset)))

    def flush_range(self, stream_id: int, start: int, stop: int, fin: bool) -> None:
        data = self.adopted[stream_id].read(start, stop)
        if data is not None:
            assert len(data) == stop - start
            self.user_bytes += len(data)
            self.arrive(stream_id, data, fin, start)
        elif stream_id in self.highest:
            self.reset(stream_id, 0)
        else:
            assert self.link is not None
            self.link.kernel.stop(self.link, stream_id, 0)

    def arrive(self, stream_id: int, data: bytes, fin: bool, offset: int) -> None:
        """A piece has reached the client."""
        stream = self.arriving[stream_id]
        if stream.over:
            return
        for start, size in stream.sizes.items():
            assert offset + len(data) <= start or start + size <= offset or not data, (
                f"bytes {offset}-{offset + len(data)} of stream {stream_id} come twice"
            )
        if data:
            stream.sizes[offset] = len(data)
            stream.pieces[offset] = data
        if fin:
            assert stream.total is None, "two ends"
            stream.total = offset + len(data)
        ready = b""
        while stream.delivered in stream.pieces:
            piece = stream.pieces.pop(stream.delivered)
            stream.delivered += len(piece)
            ready += piece
        before = stream.delivered - len(ready)
        if before < len(stream.prefix):
            assert stream.prefix[before:].startswith(ready[: len(stream.prefix) - before])
            ready = ready[len(stream.prefix) - before :]
        stream.over = stream.delivered == stream.total
        if ready or stream.over:
            assert isinstance(self.other, FastEnd)
            assert self.other.receiver is not None
            if stream_id not in self.other.unwanted:
                self.other.receiver.stream_data(stream_id, ready, stream.over)


class FakeLink:
    def __init__(self, kernel: FakeKernel, end: FastEnd, draft: Draft) -> None:
        self.kernel = kernel
        self.end = end
        self.draft = draft
        self.index = len(kernel.links)
        self.reason = ""
        self.closed = False
        self.packet_number = 0
        kernel.links.append(self)
        end.link = self

    def close(self) -> None:
        self.closed = True
        self.reason = "closed"
        for loan in self.kernel.loans.values():
            loan.link_closed(self)


class FakeMember:
    def __init__(self, link: FakeLink, terms: MemberTerms, owner: Any) -> None:
        self.link = link
        self.terms = terms
        self.owner = owner
        self.on = True
        self.streams = 0
        self.packets = 0
        self.track: FakeTrack | None = None

    def leave(self) -> None:
        self.on = False
        assert self.track is not None
        self.track.members.remove(self)

    def __repr__(self) -> str:
        return f"member {self.link.index}"


class FakeTrack:
    def __init__(self, kernel: FakeKernel, link: FakeLink, channel: int) -> None:
        self.kernel = kernel
        self.link = link
        self.channel = channel
        self.members: list[FakeMember] = []
        self.array: tuple[FakeMember, ...] = ()
        self.furthest = -1
        self.open = True

    def add(self, link: FakeLink, terms: MemberTerms, owner: Any) -> FakeMember | None:
        if len(self.members) >= self.kernel.room:
            return None
        member = FakeMember(link, terms, owner)
        member.track = self
        self.members.append(member)
        return member

    def publish(self) -> None:
        if self.array != tuple(self.members):
            self.array = tuple(self.members)

    def close(self) -> None:
        self.open = False
        del self.kernel.tracks[self.link, self.channel]
        for member in self.members:
            member.on = False
        self.members = []


class FakeLoan:
    def __init__(self, kernel: FakeKernel, link: FakeLink, stream_id: int, ordinal: int) -> None:
        self.kernel = kernel
        self.link = link
        self.stream_id = stream_id
        self.ordinal = ordinal
        self.track: FakeTrack
        self.members: tuple[FakeMember, ...] = ()
        self.cut = 0
        self.covered: list[Range] = []
        self.fin_covered = False
        self.ours: list[Range] = []
        """Given to user space for all members."""
        self.lent = True
        self.legs: dict[int, Leg] = {}
        self.sent: dict[int, list[Range]] = {}
        self.told: dict[int, list[Range]] = {}
        self.drops: set[int] = set()
        """Positions for which the stream was dropped before it began."""
        self.over: set[int] = set()
        """Positions whose leg was taken or closed, or whose link is."""
        self.queue: deque[tuple[str, int, tuple[Any, ...]]] = deque()
        """What the borrower has to be told."""
        self.clones: list[Clone] = []
        self.borrower: Any = None
        self.retired = False
        self.settled = False

    @property
    def reach(self) -> int:
        return max((stop for _, stop in self.covered), default=0)

    def shift(self, position: int) -> int:
        template = self.members[position].terms.stream
        return 0 if template is None else len(template.before) + 1 + len(template.after) - self.cut

    def uncovered(self, start: int, stop: int, fin: bool) -> list[tuple[int, int, bool]]:
        assert not self.retired
        gaps = [(*gap, False) for gap in subtract([(start, stop)], self.covered)]
        self.ours += [gap[:2] for gap in gaps]
        if fin and not self.fin_covered:
            begin = stop
            if gaps and gaps[-1][1] == stop:
                begin = gaps.pop()[0]
            gaps.append((begin, stop, True))
        return gaps

    def leg(self, position: int) -> Leg | None:
        return self.legs.get(position)

    def reserve(self, position: int, stop: int) -> bool:
        leg = self.legs.get(position)
        if leg is not None:
            highest = max(leg.highest, stop + self.shift(position))
            self.legs[position] = Leg(leg.stream_id, highest, leg.finished)
        return True

    def dropped(self, position: int) -> bool:
        return position in self.drops

    def take_leg(self, position: int) -> list[Range]:
        self._end(position)
        leg = self.legs.get(position)
        if leg is None:
            return []
        highest = leg.highest - self.shift(position)
        done = self.sent[position] + self.told.get(position, []) + self.ours
        return subtract([(0, highest)], done) if leg.highest else []

    def close_leg(self, position: int) -> None:
        self._end(position)

    def is_under_way(self, position: int) -> bool:
        waits = any(clone.position == position for clone in self.clones)
        lost = any((loan, at) == (self, position) for loan, at, *_ in self.kernel.lost)
        return (waits and position not in self.over) or lost

    def sent_at(self, link: FakeLink, owner: Any, stop: int) -> float | None:
        assert any(member.owner is owner and member.link is link for member in self.members)
        return self.kernel.departures(self.stream_id, stop)

    def _end(self, position: int) -> None:
        self.over.add(position)
        self.clones = [clone for clone in self.clones if clone.position != position]
        self.queue = deque(entry for entry in self.queue if entry[1] != position)

    def link_closed(self, link: FakeLink) -> None:
        for position, member in enumerate(self.members):
            if member.link is link:
                self._end(position)

    def dissolve(self) -> None:
        self.lent = False

    def retire(self) -> None:
        assert not self.retired
        self.retired = True
        self.lent = False

    def tell(self) -> None:
        """Call the borrower."""
        if self.borrower is None:
            self.settled = self.retired and not self.clones
            return
        while self.queue:
            method, position, values = self.queue.popleft()
            if method == "missed":
                self.told.setdefault(position, []).append(values[:2])
                self.reserve(position, values[1])
            getattr(self.borrower, method)(position, *values)
        if self.retired and not self.clones and not self.settled:
            self.settled = True
            self.borrower.settled()


@dataclass
class Clone:
    """A copy for one member, on its way to the second program."""

    loan: FakeLoan
    position: int
    start: int
    data: bytes
    fin: bool


def every(*_: object) -> bool:
    return True


def sent(*_: object) -> Outcome:
    return Outcome.SENT


class FakeKernel:
    """``takes(stream id, offset)``: whether the first program forwards a frame. ``outcome(member,
    stream id, offset)``: what the second one does with a copy. ``loses(member, ...)``: whether the
    network drops it. ``late``: copies wait for :meth:`run_clones` or :meth:`claim`."""

    departures: Callable[[int, int], float | None]
    """When what ends there on an upstream stream was sent."""

    def __init__(self) -> None:
        self.reason = ""
        self.enabled = True
        self.deadline = 0.0
        self.room = 1024
        self.links: list[FakeLink] = []
        self.tracks: dict[tuple[FakeLink, int], FakeTrack] = {}
        self.loans: dict[tuple[FakeLink, int], FakeLoan] = {}
        self.takes: Callable[..., bool] = every
        self.outcome: Callable[..., Outcome] = sent
        self.departures = lambda *_: None
        self.loses: Callable[..., bool] = lambda *_: False
        self.late = False
        self.lost: list[tuple[FakeLoan, int, int, int, bool]] = []
        self.datagrams: dict[tuple[FakeLink, int], FakeDatagram] = {}
        self.offsets: dict[tuple[FakeLink, int], int] = {}
        self.packets = 0
        """Sent by the kernel."""

    # fastpath.ports.Forwarder

    def register(self, engine: Any, terms: LinkTerms, bands: Bands) -> FakeLink:
        raise NotImplementedError

    def close(self) -> None:
        self.enabled = False
        self.claim()
        for loan in self.loans.values():
            loan.tell()
        self.loans.clear()

    def drain(self, now: float) -> None:
        for loan in list(self.loans.values()):
            loan.tell()
        for datagram in list(self.datagrams.values()):
            datagram.tell()
        for key, loan in list(self.loans.items()):
            if loan.settled and all(lost[0] is not loan for lost in self.lost):
                del self.loans[key]
        for track in self.tracks.values():
            track.publish()

    def open_track(self, link: FakeLink, channel: int, priority: int) -> FakeTrack | None:
        if len(self.tracks) >= self.room:
            return None
        track = self.tracks[link, channel] = FakeTrack(self, link, channel)
        return track

    def loan(self, link: FakeLink, stream_id: int) -> FakeLoan | None:
        return self.loans.get((link, stream_id))

    def bind(self, loan: FakeLoan, borrower: Any) -> None:
        assert loan.borrower is None
        loan.borrower = borrower
        loan.tell()

    def datagram(
        self, link: FakeLink, packet_number: int, index: int, borrower: Any
    ) -> FakeDatagram | None:
        assert index == 0
        datagram = self.datagrams.get((link, packet_number))
        if datagram is None:
            return None
        datagram.borrower = borrower
        datagram.tell()
        return datagram

    # The first program

    def packet(self, link: FakeLink, method: str, values: tuple[Any, ...]) -> None:
        """A packet of a publisher's, before user space gets it."""
        if method == "stream_data":
            self._stream(link, *values)
        elif method == "datagram":
            link.packet_number += 1
            self._datagram(link, values[0])

    def _stream(self, link: FakeLink, stream_id: int, data: bytes, fin: bool) -> None:
        if not stream_id & 2:
            return
        key = link, stream_id
        prefix = link.end.stream_prefix
        offset = self.offsets.get(key, 0)
        if not offset:
            data = prefix + data
        self.offsets[key] = offset + len(data)
        if not self.enabled or not self.takes(stream_id, offset):
            return
        if not offset:
            self._begin(link, stream_id, data)
        loan = self.loans.get(key)
        if loan is None or not loan.lent or not loan.track.open:
            return
        loan.covered.append((offset, offset + len(data)))
        loan.fin_covered |= fin
        for position in range(len(loan.members)):
            loan.clones.append(Clone(loan, position, offset, data, fin))
        if not self.late:
            self.run_clones()

    def _begin(self, link: FakeLink, stream_id: int, data: bytes) -> None:
        prefix = link.end.stream_prefix
        try:
            header, _ = decode_subgroup_header(data[len(prefix) :], link.draft)
        except Exception:
            return
        track = self.tracks.get((link, header.track_alias))
        if track is None or not track.array:
            return
        loan = FakeLoan(self, link, stream_id, header.group_id)
        loan.track = track
        track.furthest = max(track.furthest, header.group_id)
        loan.members = track.array
        loan.cut = len(prefix) + 1 + header.alias_length
        self.loans[link, stream_id] = loan

    # The second program

    def run_clones(self, count: int | None = None) -> None:
        """Let copies that wait reach the second program."""
        for loan in list(self.loans.values()):
            running, loan.clones = loan.clones[:count], loan.clones[len(loan.clones[:count]) :]
            for clone in running:
                self._run(clone)

    def claim(self) -> None:
        """Copies that wait are lost: user space has waited long enough."""
        for loan in self.loans.values():
            clones, loan.clones = loan.clones, []
            for clone in clones:
                if self._is_served(clone):
                    self._miss(clone, None)

    def _is_served(self, clone: Clone) -> bool:
        terms = clone.loan.members[clone.position].terms
        return terms.first_ordinal <= clone.loan.ordinal <= terms.last_ordinal

    def _miss(self, clone: Clone, outcome: Outcome | None) -> None:
        loan, position = clone.loan, clone.position
        if position in loan.over:
            return
        if outcome is not None:
            loan.queue.append(("refused", position, (outcome,)))
        stop = clone.start + len(clone.data)
        loan.queue.append(("missed", position, (clone.start, stop, clone.fin)))

    def _run(self, clone: Clone) -> None:
        loan, position = clone.loan, clone.position
        if position in loan.over or position in loan.drops or not self._is_served(clone):
            return
        member = loan.members[position]
        if not member.on:
            self._miss(clone, Outcome.MEMBER_OFF)
            return
        outcome = self.outcome(member, loan.stream_id, clone.start)
        if outcome is Outcome.NO_STREAM or outcome is Outcome.CONNECTION_OFF:
            self._miss(clone, outcome)
            return
        leg = loan.legs.get(position)
        if outcome is Outcome.DROPPED and leg is None and clone.start == 0:
            loan.drops.add(position)
            loan.queue.append(("refused", position, (outcome,)))
            return
        if leg is None and clone.start == 0:
            stream_id = member.link.end.open_stream(unidirectional=True)
            leg = loan.legs[position] = Leg(stream_id, 0, False)
            loan.sent[position] = []
            member.streams += 1
            member.link.end.arriving[stream_id] = Arriving(member.link.end.stream_prefix)
        if leg is None:
            self._miss(clone, Outcome.NO_LEG)
            return
        if outcome is not Outcome.SENT:
            self._miss(clone, outcome)
            return
        self._send(clone, member, leg)

    def _send(self, clone: Clone, member: FakeMember, leg: Leg) -> None:
        loan, position = clone.loan, clone.position
        start, data = clone.start, clone.data
        stop = start + len(data)
        if start == 0:
            data = rewritten(data, member.terms.stream, len(loan.link.end.stream_prefix), loan.cut)
        else:
            start += loan.shift(position)
        highest = max(leg.highest, start + len(data))
        loan.legs[position] = Leg(leg.stream_id, highest, leg.finished or clone.fin)
        loan.sent[position].append((clone.start, stop))
        member.packets += 1
        self.packets += 1
        if self.loses(member, loan.stream_id, clone.start):
            self.lost.append((loan, position, clone.start, stop, clone.fin))
        else:
            member.link.end.kernel_sent(leg.stream_id, start, data, clone.fin)

    def report_losses(self) -> None:
        """The members' engines find out what was lost."""
        lost, self.lost = self.lost, []
        for loan, position, start, stop, fin in lost:
            if not loan.members[position].link.closed and loan.borrower is not None:
                loan.borrower.lost(position, start, stop, fin)
            elif loan.borrower is None:
                self.lost.append((loan, position, start, stop, fin))

    def stop(self, link: FakeLink, stream_id: int, code: int) -> bool:
        """STOP_SENDING for a stream that user space has no object for."""
        for loan in list(self.loans.values()):
            for position, leg in loan.legs.items():
                if leg.stream_id == stream_id and loan.members[position].link is link:
                    loan.borrower.stopped(position, code)
                    return True
        return False

    # Datagrams

    def _datagram(self, link: FakeLink, data: bytes) -> None:
        alias, end = link.draft.varints.decode(data, 1)
        group, _ = link.draft.varints.decode(data, end)
        track = self.tracks.get((link, alias))
        if not self.enabled or track is None or not track.array or not self.takes(-1, 0):
            return
        datagram = FakeDatagram(self, track.array, group)
        track.furthest = max(track.furthest, group)
        self.datagrams[link, link.packet_number] = datagram
        prefix = link.end.datagram_prefix
        for position, member in enumerate(track.array):
            if not member.terms.first_ordinal <= group <= member.terms.last_ordinal:
                continue
            outcome = self.outcome(member, -1, 0) if member.on else Outcome.MEMBER_OFF
            if outcome is not Outcome.SENT:
                datagram.queue.append(position)
                continue
            raw = rewritten(prefix + data, member.terms.datagram, len(prefix), len(prefix) + end)
            self.packets += 1
            assert raw.startswith(member.link.end.datagram_prefix)
            raw = raw[len(member.link.end.datagram_prefix) :]
            member.link.end.queue.append(("datagram", (raw,)))


class FakeDatagram:
    def __init__(self, kernel: FakeKernel, members: tuple[FakeMember, ...], ordinal: int) -> None:
        self.kernel = kernel
        self.members = members
        self.ordinal = ordinal
        self.queue: deque[int] = deque()
        self.borrower: Any = None

    def tell(self) -> None:
        while self.queue and self.borrower is not None:
            self.borrower.missed(self.queue.popleft())

    def has(self, link: FakeLink, owner: Any) -> bool:
        found = [member.terms for member in self.members if member.owner is owner]
        return any(t.first_ordinal <= self.ordinal <= t.last_ordinal for t in found)

    def sent_at(self, link: FakeLink, owner: Any) -> float | None:
        return self.kernel.departures(-1, self.ordinal)


def rewritten(data: bytes, template: Template | None, keep: int, cut: int) -> bytes:
    """A stream's or datagram's bytes for one member; MoQT's type, at ``keep``, stays."""
    if template is None:
        return data
    return template.before + data[keep : keep + 1] + template.after + data[cut:]


class FastWorld(World):
    """Everybody's connection is the kernel's, too, unless ``shared`` is False meanwhile."""

    def __init__(self, options: RelayOptions | None = None) -> None:
        super().__init__(options)
        self.kernel = FakeKernel()
        self.relay.forwarder = self.kernel  # type: ignore[assignment]
        self.shared = True
        self.webtransport = False
        """Of clients that come from now on."""

    def make_end(self, is_client: bool) -> End:
        return FastEnd(is_client=is_client)

    def opened(self, client: Client) -> None:
        end = client.relay_end
        assert isinstance(end, FastEnd)
        if self.webtransport:
            end.stream_prefix = WEBTRANSPORT
            end.datagram_prefix = WEBTRANSPORT_DATAGRAM
        if self.shared:
            link = FakeLink(self.kernel, end, client.draft)
            self.relay.share(client.relay_session, Sharing(link, end))  # type: ignore[arg-type]

    def deliver(self, client: Client, end: End) -> None:
        relay_end = client.relay_end
        assert isinstance(relay_end, FastEnd)
        if end is client.end:
            self._to_relay(client, relay_end)
        else:
            self._to_client(client, relay_end)
        link = relay_end.link
        if link is not None and not link.closed and client.relay_session.is_closed:
            link.close()

    def _to_relay(self, client: Client, relay_end: FastEnd) -> None:
        """All that waits is one batch: the kernel sees it before user space does."""
        batch = list(client.end.queue)
        client.end.queue.clear()
        link = relay_end.link
        places = []
        for method, values in batch:
            if link is not None:
                self.kernel.packet(link, method, values)
                places.append(link.packet_number)
        self.relay.read_reports(self.clock.now)
        for index, (method, values) in enumerate(batch):
            if method in ("stream_data", "stream_reset") and values[0] in relay_end.unwanted:
                continue
            if method == "stream_stopped" and values[0] in relay_end.arriving:
                stream = relay_end.arriving[values[0]]
                if values[0] not in relay_end.highest and not stream.over:
                    assert link is not None
                    self.kernel.stop(link, *values)
                    continue
                relay_end.dead.add(values[0])
                stream.over = True
            if method == "datagram" and link is not None:
                relay_end.datagram_place = places[index], 0
            getattr(client.relay_session, method)(*values)
            relay_end.datagram_place = None

    def _to_client(self, client: Client, relay_end: FastEnd) -> None:
        method, values = relay_end.queue.popleft()
        if method in ("piece", "packet"):
            relay_end.arrive(*values)
        elif method == "range":
            relay_end.flush_range(*values)
        elif method == "stream_reset" and values[0] in relay_end.arriving:
            relay_end.arriving[values[0]].over = True
            client.session.stream_reset(*values)
        elif not method.startswith("stream_") or values[0] not in self._unwanted_by(client):
            getattr(client.session, method)(*values)

    def _unwanted_by(self, client: Client) -> set[int]:
        assert isinstance(client.end, FastEnd)
        return client.end.unwanted

    def tick(self) -> None:
        """The forwarder's deadline has come."""
        self.relay.read_reports(self.clock.now)
        self.run()

    def viewers(self, count: int, draft: Draft = DRAFT_18, **subscription: Any) -> list[Client]:
        clients = [self.client(draft) for _ in range(count)]
        for client in clients:
            client.subscribe(**subscription)
        return clients

    def live(
        self, viewers: int = 1, *, draft: Draft = DRAFT_18, **subscription: Any
    ) -> tuple[Publisher, list[Client]]:
        """A publisher whose track is served by the kernel, and its viewers."""
        publisher = self.publisher(draft)
        publisher.announce(b"live")
        clients = [self.client(draft) for _ in range(viewers)]
        for client in clients:
            client.session.subscribe(TRACK, Parameters(**subscription))
        self.run()
        publisher.accept()
        self.tick()
        return publisher, clients
