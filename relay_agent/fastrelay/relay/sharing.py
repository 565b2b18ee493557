"""Brings the relay and the kernel's maps together: asks the node agent for them, gives them the
connections of all sessions, reads the kernel's reports in time, and says what is fast and what
is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from fastrelay.fastpath import handing
from fastrelay.fastpath.forwarder import DETACHED, Forwarder
from fastrelay.fastpath.handing import Cause, Offer, Statement
from fastrelay.fastpath.intents import CLAIMED
from fastrelay.fastpath.layout import Outcome, Reason
from fastrelay.fastpath.maps import Maps, MapsError
from fastrelay.fastpath.ports import Link, LinkTerms
from fastrelay.fastpath.reception import Reception
from fastrelay.moqt.session import Session
from fastrelay.quic.endpoint import Endpoint
from fastrelay.quic.ledger import Ledger
from fastrelay.quic.raw import QuicTransport
from fastrelay.quic.timers import Deadline
from fastrelay.relay.core import Relay
from fastrelay.relay.doorkeeper import Doorkeeper
from fastrelay.relay.logs import get_logger
from fastrelay.relay.metrics import KernelCounters
from fastrelay.relay.ports import Sharing

LOOK_SECONDS = 1.0
"""How often an agent is looked for, and told what is new in numbers alone."""
BUSY_SECONDS = 0.025
"""How soon after a batch of datagrams the kernel's reports are read again, if no other comes:
longer than a packet's last acknowledgements are under way on a short path, and than packets of a
stream of some bits at all are apart."""
IDLE_SECONDS = 0.25
LAST_SECONDS = 0.1
"""After the kernel was told to stop: what it has still forwarded lies in the relay's sockets."""
STUCK_SECONDS = 3.0
"""Sockets that are never empty are not waited for: the agent takes its programs away."""

UNANSWERED = "the node agent has not answered yet"

log = get_logger(__name__)


class KernelSharing:
    """``path``: of the node agent's socket for this relay."""

    def __init__(
        self,
        path: Path,
        relay: Relay,
        endpoint: Endpoint,
        door: Doorkeeper | None = None,
    ) -> None:
        self._door = door
        self._relay = relay
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._reception = Reception(path, self)
        self._forwarder: Forwarder | None = None
        self._maps = 0
        """Which ones, by the agent's number."""
        self._links: dict[Session, Link] = {}
        self._transports: dict[Session, QuicTransport] = {}
        self._absent = UNANSWERED
        self._cause = Cause.NO_MAPS
        self._looking: asyncio.TimerHandle | None = None
        self._reading = Deadline(_nothing)
        """When the kernel's reports are read, if no batch of datagrams comes before."""
        self._ending: asyncio.TimerHandle | None = None
        """The kernel was told to stop, and the maps are still needed."""
        self._refusals: Counter[int] = Counter()
        """Of forwarders that are gone; and what else they counted."""
        self._copies = 0
        self._packets = 0
        self._lost = 0

    # Life

    def start(self) -> None:
        self._look()

    def stop(self) -> None:
        """Everything is user space's, and goes to its end."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._let_go()
        self._reception.close()

    def _look(self) -> None:
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        if self._forwarder is not None and self._forwarder.reason:
            self._give_back(self._forwarder.reason, Cause.STOPPED)
        if not self._reception.connected:
            try:
                self._reception.connect()
            except OSError as error:
                self.lost(f"no node agent listens: {error}")
            else:
                if self._forwarder is None:
                    self._absent = UNANSWERED
        self._say(wants=self._forwarder is None)

    def _wait(self, why: str, cause: Cause = Cause.NO_MAPS) -> None:
        self._cause = cause
        if why != self._absent:
            log.info("waiting for the kernel's maps", why=why)
            self._absent = why

    def _say(self, *, wants: bool) -> None:
        """``wants``: to be given maps now."""
        reason, counted = self.reason, self._registered
        self._reception.say(
            Statement(
                maps=self._maps,
                wants=wants,
                forwarding=not reason,
                reason=self._cause.value if reason else "",
                message=handing.words(reason),
                kernel=counted,
                user=len(self._transports) - counted,
            )
        )

    # The agent's words: fastpath.reception.Guest

    def offered(self, offer: Offer, maps: Maps | None) -> None:
        if maps is None:
            if self._forwarder is None:
                self._wait(offer.message)
            elif offer.maps != self._maps:
                self._give_back(offer.message or "the agent has made other maps", Cause.NO_MAPS)
            return
        self._let_go()
        if not maps.attached():
            maps.close()
            self._wait(DETACHED)
        else:
            try:
                self._take(maps, offer.maps)
            except OSError as error:
                maps.close()
                self._wait(str(error), Cause.MAPS_NOT_OPENED)
        self._say(wants=False)

    def unusable(self, offer: Offer, error: MapsError) -> None:
        self._wait(str(error), Cause.MAPS_NOT_OPENED)
        self._say(wants=False)

    def lost(self, why: str) -> None:
        if self._forwarder is None:
            self._wait(why)

    def _take(self, maps: Maps, number: int) -> None:
        ledger = Ledger()
        forwarder = self._forwarder = Forwarder(maps, ledger, self._all_handled)
        self._maps = number
        self._absent = ""
        self._endpoint.before_batch = self._before_batch
        self._endpoint.watch(ledger)
        self._relay.begin_forwarding(forwarder)
        if self._door is not None:
            port = self._endpoint.address[1]
            self._door.attach(forwarder.maps, port, self._loop.time())
        for session, transport in self._transports.items():
            self._register(forwarder, session, transport)
        log.info("the kernel forwards", maps=number)
        self._before_batch(self._loop.time())

    def _give_back(self, why: str, cause: Cause) -> None:
        """The kernel stops at once. Of what lies in the sockets then only the maps tell what it has
        forwarded, so they go when that has been handled."""
        if self._forwarder is None or self._ending is not None:
            return
        log.warning("the kernel does not forward any more", why=why)
        self._wait(why, cause)
        if not self._forwarder.reason:
            self._forwarder.disable(why)
        last = self._loop.time() + LAST_SECONDS
        self._ending = self._loop.call_at(last, self._end, last)
        self._say(wants=False)

    def _end(self, last: float) -> None:
        """``last``: until then the kernel may have forwarded."""
        now = self._loop.time()
        if self._all_handled(now) < last and now < last + STUCK_SECONDS:
            self._ending = self._loop.call_later(BUSY_SECONDS, self._end, last)
            return
        self._let_go()
        self._say(wants=True)

    def _let_go(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        forwarder, self._forwarder = self._forwarder, None
        self._maps = 0
        if forwarder is None:
            return
        self._relay.end_forwarding()
        if self._door is not None:
            self._door.detach()
        self._links.clear()
        self._refusals += forwarder.refusals
        self._copies += forwarder.copies
        self._packets += forwarder.packets
        self._lost += forwarder.lost_packets

    # Sessions

    def add(self, session: Session, transport: QuicTransport) -> None:
        """A session has begun."""
        self._transports[session] = transport
        transport.before_batch(self._before_batch)
        if self._forwarder is not None:
            self._register(self._forwarder, session, transport)

    def _register(self, forwarder: Forwarder, session: Session, transport: QuicTransport) -> None:
        terms = LinkTerms(
            transport.stream_prefix,
            transport.datagram_prefix,
            0 if session.draft.quic_varints else 1,
        )
        bands = self._relay.bands_of(session)
        link = forwarder.register(transport.engine, terms, bands)
        self._links[session] = link
        self._relay.share(session, Sharing(link, transport))

    def remove(self, session: Session) -> None:
        """A session has ended, and the relay has forgotten it."""
        self._transports.pop(session, None)
        link = self._links.pop(session, None)
        if link is not None:
            link.close()

    # Reports

    def _before_batch(self, now: float) -> None:
        """Datagrams were read, or a deadline is over: it may be the one that is set here."""
        self._read_reports(now)
        if self._forwarder is not None:
            # When the forwarder wants it, but not for each of its packets alone.
            later = min(max(self._forwarder.deadline - now, BUSY_SECONDS), IDLE_SECONDS)
            self._endpoint.set_timer(self._reading, now + later, now)

    def _all_handled(self, now: float) -> float:
        return min((each.handled(now) for each in self._transports.values()), default=now)

    def _read_reports(self, now: float) -> None:
        try:
            self._relay.read_reports(now)
        except Exception:
            # The datagrams that were read must not be lost for it.
            log.exception("reading the kernel's reports failed")

    # What it looks like

    @property
    def reason(self) -> str:
        """Why the kernel does not forward; empty if it does."""
        if self._forwarder is None:
            return self._absent
        return self._forwarder.reason

    @property
    def _registered(self) -> int:
        """Connections that the kernel has."""
        return sum(not link.reason for link in self._links.values())

    @property
    def counters(self) -> KernelCounters:
        """Since the start of the relay; those of the programs since the maps were made."""
        forwarder = self._forwarder
        refusals = Counter(self._refusals)
        if forwarder is not None:
            refusals += forwarder.refusals
        return KernelCounters(
            forwarding=not self.reason,
            connections=self._registered,
            upstream_packets=self._packets + (forwarder.packets if forwarder else 0),
            kernel_packets=self._copies + (forwarder.copies if forwarder else 0),
            user_packets=self._endpoint.counters.media_packets,
            lost_packets=self._lost + (forwarder.lost_packets if forwarder else 0),
            refused={
                "claimed" if outcome == CLAIMED else Outcome(outcome).name.lower(): count
                for outcome, count in sorted(refusals.items())
            },
            programs={} if forwarder is None else _named(forwarder.maps.counters.read()),
        )

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return self.counters.status("Waiting" if self.reason else "On", self.reason)


def _nothing(_now: float) -> None: ...


def _named(values: list[int]) -> dict[str, int]:
    """The programs' counters by their reasons."""
    named = {reason.name.lower(): values[reason] for reason in Reason}
    del named["b_outcome"]
    for outcome in Outcome:
        named[f"b_outcome_{outcome.name.lower()}"] = values[Reason.B_OUTCOME + outcome]
    return named
