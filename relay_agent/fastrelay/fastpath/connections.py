"""Connections given to the kernel: what it needs to send and to read, and what it may spend.

A :class:`Link` is the lease of one engine (``quic/lease.py``): both sides take packet numbers,
stream numbers and connection-level flow control from counters in the map. See "Taking things
back" in docs/dataplane.md for the order in which things are changed.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.atomics import compare_exchange, fence, fetch_add
from fastrelay.fastpath.bands import Bands
from fastrelay.fastpath.keystreams import Keystreams
from fastrelay.fastpath.layout import CONNECTIONS, ConnectionState
from fastrelay.fastpath.maps import Maps
from fastrelay.fastpath.ports import LinkTerms
from fastrelay.fastpath.tables import REST
from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.lease import Heard, PacketKeys, ReceiveState, Row, SendState
from fastrelay.quic.ledger import Account, Ledger

_PATIENCE = 0.05
"""Seconds within which a program that is at work for a connection ends: it runs for some 20 us,
but a virtual processor may be away meanwhile."""
_SPREAD = 0x9E3779B1
"""2**32 over the golden ratio: neighbouring indices get hashes far apart."""
_ROUTE_OWNER = 1
_LOW = (1 << 32) - 1
_WINDOW_PARTS = 2
"""One of them may be used before acknowledgements come at once: as much as that, and no more, is
missing to a burst because they have not been heard."""


class Hub(Protocol):
    """What a link needs of the forwarder."""

    def collect(self) -> None:
        """Read the rings wholly; tell later."""

    def hear(self) -> None:
        """Read all acknowledgements that the kernel took."""

    def tell(self, link: Link) -> None:
        """Tell its engine what was read of them."""

    def settled_below(self) -> int: ...

    def lost(self, rows: Sequence[Row]) -> None: ...

    def stopped(self, link: Link, stream_id: int, code: int) -> None: ...

    def limit_raised(self, link: Link, stream_id: int, limit: int) -> None: ...

    def stream_limit(self, link: Link, stream_id: int) -> int: ...

    def link_closed(self, link: Link) -> None:
        """Its channels, loans and members go."""


class Link:
    """One connection; implements :class:`fastpath.ports.Link` and :class:`quic.lease.Lease`."""

    account: Account

    def __init__(
        self, registry: Connections, engine: Engine, terms: LinkTerms, bands: Bands
    ) -> None:
        self.index = -1
        self.closed = False
        self.engine = engine
        self.terms = terms
        self.bands = bands
        self.members: dict[Any, None] = {}
        """Of tracks (:class:`fastpath.tracks.Member`) that send to it."""
        self.users = 0
        """Member indices and loans that name its index."""
        self.receiving = False
        self._registry = registry
        self._hub = registry.hub
        self._reason = ""
        self.broken = False
        """A program has not ended its work for it: the index is not used again before."""
        self._suspended = 0
        self._send: SendState | None = None
        self._routes: set[bytes] = set()
        self._rx: list[PacketKeys | None] = [None] * 4
        self._rx_named: list[PacketKeys] = []

    # -- coming and going

    def enter(self, index: int, account: Account) -> None:
        """Take the index and lend the engine."""
        self.index = index
        self.account = account
        connections = self._registry.maps.connections
        self._words = connections.words
        self._base = base = index * connections.stride
        address = connections.address
        self._number = base + connections.word("packet_number")
        self._number_address = address + 8 * self._number
        self._stream = base + connections.word("stream_number")
        self._stream_address = address + 8 * self._stream
        self._used = base + connections.word("data_used")
        self._used_address = address + 8 * self._used
        self._limit = base + connections.word("data_limit")
        self._busy = base + connections.word("busy")
        self._state = base + connections.word("state")
        self._number_limit = base + connections.word("packet_number_limit")
        self._stream_limit = base + connections.word("stream_number_limit")
        self._bytes_limit = base + connections.word("bytes_limit")
        self._ack_cid = base + connections.word("ack_cid")
        self._ack_floor = base + connections.word("ack_floor")
        self._ack_bytes = base + connections.word("ack_bytes")
        self._acks = base + connections.word("acks")
        self._acks_heard = 0
        self._ack_key = 0
        self._lets = False
        self.wipe()
        row = self._row
        row["generation"] += 1
        self.generation = int(row["generation"]) & _LOW
        row["hash"] = (index + 1) * _SPREAD & 0xFFFFFFFF
        _put(row, "prefix", self.terms.prefix)
        _put(row, "datagram_prefix", self.terms.datagram_prefix)
        row["variant"] = self.terms.variant
        row["plaintext"] = self.engine.is_plaintext
        at = base + connections.word("bands")
        self.bands.enter(self._words, at, address + 8 * at)
        credit = self.engine.credit()
        self._words[self._number] = credit.next_packet_number
        self._words[self._stream] = credit.next_stream_number
        self._words[self._used] = credit.data_used
        self._packet_size = 0
        self.engine.lend(self)
        self._refresh()

    @property
    def _row(self) -> Any:
        return self._registry.maps.connections.rows[self.index]

    @property
    def reason(self) -> str:
        if self.closed:
            return "the connection is closed"
        if self.broken:
            return "a program in the kernel has not ended its work for this connection"
        if self.index < 0:
            return self._reason
        return "" if self._send is not None else self.engine.fast_reason

    def refuse(self, reason: str) -> None:
        self._reason = reason

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._registry.hub.link_closed(self)
        self._registry.remove(self)

    def stop(self) -> None:
        """The kernel neither sends nor reads any more; everything it did is in the ledger."""
        self._suspended += 1
        self._words[self._state] = ConnectionState.OFF
        self.receiving = False
        self.await_idle()
        self._words[self._base + self._registry.maps.connections.word("rx_keys")] = 0
        for cid in self._routes:
            self._registry.maps.routes.remove(_route_key(cid), _ROUTE_OWNER)
        self._routes.clear()

    def look_again(self) -> None:
        """About once a second: what A has not seen for whatever reason, and whether a program that
        was late has ended."""
        if self.receiving:
            self._raise("rx_largest", self.engine.largest_received)
        if self.broken and not self._words[self._busy]:
            self.broken = False
            self._hub.collect()
            if not self._suspended:
                self._refresh()

    def wipe(self) -> None:
        """Erase keys and all else, but for what goes on: a program may just be taking its leave."""
        row = self._row
        self._registry.keystreams.wipe(self.index)
        for name in layout.CONNECTION.dtype.names or ():
            if name not in ("generation", "busy"):
                row[name] = np.zeros((), row[name].dtype)
        self._rx = [None] * 4
        self._send = None

    # -- Lease: counters

    def take_packet_number(self) -> int:
        return fetch_add(self._number_address, 1)

    def next_packet_number(self) -> int:
        return self._words[self._number]

    def take_stream_number(self) -> int:
        return fetch_add(self._stream_address, 1)

    def next_stream_number(self) -> int:
        return self._words[self._stream]

    def take_data(self, size: int) -> int:
        words, used_at = self._words, self._used
        while True:
            used = words[used_at]
            taken = min(size, words[self._limit] - used)
            if taken <= 0:
                return 0
            if compare_exchange(self._used_address, used, used + taken):
                return taken

    def give_data(self, size: int) -> None:
        fetch_add(self._used_address, -size)

    # -- Lease: changes

    def drain(self) -> None:
        self._hub.collect()

    def suspend(self) -> None:
        self._suspended += 1
        if self._suspended == 1:
            self._words[self._state] &= ~int(ConnectionState.SEND)
            self.await_idle()
        self._hub.collect()

    def resume(self) -> None:
        self._suspended -= 1
        if not self._suspended:
            self._refresh()

    def await_idle(self) -> None:
        """Programs that are at work for it now have ended."""
        fence()
        words, busy = self._words, self._busy
        if words[busy]:
            until = time.monotonic() + _PATIENCE
            while words[busy]:
                if time.monotonic() > until:
                    self.broken = True
                    break

    def pause(self) -> None:
        """As :meth:`suspend`, when nothing of the connection itself will change."""
        self.suspend()

    def await_programs(self) -> None:
        """While it is paused: each copy that the kernel had claimed before has its outcome."""
        self.await_idle()
        self._hub.collect()

    def unpause(self) -> None:
        """The end of :meth:`pause`; cheaper than :meth:`resume`."""
        self._suspended -= 1
        if not self._suspended:
            self._switch_on()

    def _refresh(self) -> None:
        """The state of the connection into the map; the kernel does not send meanwhile."""
        send = self.engine.send_state()
        if send is not None and send != self._send:
            self._write_send(send)
        self._send = send
        receive = self.engine.receive_state()
        self._ack_key = 0 if receive is None else _route_key(receive.cid)
        if receive is not None:
            self._write_receive(receive)
        self.receiving = receive is not None
        self.credit_changed()
        self._switch_on()

    def _switch_on(self) -> None:
        state = int(ConnectionState.OFF)
        if not self.broken:
            if self._send is not None:
                state |= ConnectionState.SEND
            if self.receiving:
                state |= ConnectionState.RECEIVE
        fence()
        self._words[self._state] = state

    def _write_send(self, send: SendState) -> None:
        row = self._row
        _put(row, "dcid", send.dcid, length="dcid_length")
        row["tx"]["key"], row["tx"]["iv"] = _little(send.keys.key), _little(send.keys.iv)
        if not self.engine.is_plaintext and (self._send is None or send.keys != self._send.keys):
            self._registry.keystreams.renew(self.index)
        row["tx_hp"] = _little(send.hp)
        row["tx_phase"] = send.phase
        row["stream_bits"] = send.stream_bits
        row["stream_data_limit"] = send.stream_data_limit
        row["datagram_limit"] = send.datagram_limit
        row["family"] = _put_address(row, "local", send.local)
        _put_address(row, "remote", send.remote)

    def _write_receive(self, receive: ReceiveState) -> None:
        """What A is just reading stays as it is: new keys go where no current word points."""
        row = self._row
        row["rx_hp"] = _little(receive.hp)
        wanted = [receive.current, receive.following, receive.previous]
        named = [keys for keys in wanted if keys is not None]
        for keys in named:
            if keys not in self._rx:
                unused = [i for i, each in enumerate(self._rx) if each not in named]
                free = next((i for i in unused if self._rx[i] not in self._rx_named), unused[0])
                self._rx[free] = keys
                row["rx"][free]["key"] = _little(keys.key)
                row["rx"][free]["iv"] = _little(keys.iv)
        current, following, previous = (
            None if keys is None else self._rx.index(keys) for keys in wanted
        )
        assert current is not None
        if not self.receiving:
            self._write_window(row, receive.largest)
        row["rx_phase_start"] = receive.phase_start
        self._raise("rx_stream_next", receive.stream_next)
        fence()
        row["rx_keys"] = layout.rx_word(receive.phase, current, following, previous)
        self._rx_named = named
        self._write_routes(set(receive.cids))

    def keep_stream(self, number: int) -> bool:
        """The peer's unidirectional stream of this number does not begin in the kernel any more.
        False: the kernel has seen it, or one beyond, and may have begun it."""
        if self.index < 0 or self.closed:
            return True
        connections = self._registry.maps.connections
        at = self._base + connections.word("rx_prefixed") + number % layout.PREFIXED
        waited = compare_exchange(connections.address + 8 * at, number + 1, 0)
        return self._raise("rx_stream_next", number + 1) or waited

    def keep_packet(self, number: int) -> bool:
        """The kernel forwards nothing of the peer's packet of this number any more, if it comes
        once more. False: the kernel has seen it."""
        if self.index < 0 or self.closed:
            return True
        connections = self._registry.maps.connections
        block, bit = number >> 5, 1 << (number & 31)
        at = self._base + connections.word("rx_window") + block % layout.REPLAY_WORDS
        address = connections.address + 8 * at
        while (there := self._words[at]) >> 32 <= block:
            wanted = there | bit if there >> 32 == block else block << 32 | bit
            if wanted == there:
                return False
            if compare_exchange(address, there, wanted):
                break
        return True

    def _raise(self, field: str, number: int) -> bool:
        """Whether it was lower. A raises it, too."""
        at = self._base + self._registry.maps.connections.word(field)
        address = self._registry.maps.connections.address + 8 * at
        while (there := self._words[at]) < number:
            if compare_exchange(address, there, number):
                return True
        return False

    def _write_window(self, row: Any, largest: int) -> None:
        """All that user space may have had before counts as seen, so that nobody replays it."""
        row["rx_largest"] = largest = max(int(row["rx_largest"]), largest)
        for block in range(max(0, (largest >> 5) - layout.REPLAY_WORDS + 1), (largest >> 5) + 1):
            seen = min(32, largest + 1 - 32 * block)
            row["rx_window"][block % layout.REPLAY_WORDS] = block << 32 | (1 << seen) - 1

    def _write_routes(self, cids: set[bytes]) -> None:
        routes = self._registry.maps.routes
        for cid in self._routes - cids:
            routes.remove(_route_key(cid), _ROUTE_OWNER)
        self._routes &= cids
        for cid in cids - self._routes:
            if routes.put(_route_key(cid), _ROUTE_OWNER, self.index):
                self._routes.add(cid)

    def credit_changed(self) -> None:
        credit = self.engine.credit()
        words = self._words
        words[self._stream_limit] = credit.stream_number_limit
        words[self._limit] = credit.data_limit
        room = credit.congestion_window - credit.own_in_flight
        self.window_changed(room if room > 0 else 0)
        if credit.packet_size != self._packet_size:
            self._packet_size = credit.packet_size
            self._row["packet_size_limit"] = credit.packet_size

    def window_changed(self, room: int) -> None:
        words, account = self._words, self.account
        gone = account.bytes_gone
        words[self._number_limit] = account.packet_number_limit
        # Lowered, too: a window that a loss has halved binds both sides.
        words[self._bytes_limit] = gone + room
        words[self._ack_bytes] = gone + room // _WINDOW_PARTS
        words[self._ack_floor] = account.low
        if self._lets and account.high:  # the kernel has sent something
            words[self._ack_cid] = self._ack_key

    # -- Lease: acknowledgements

    def let_acknowledgements(self, taken: bool) -> None:
        self._lets = taken
        if not taken:
            self._words[self._ack_cid] = 0
            fence()
            self.catch_up()
        elif self.account.high:
            self._words[self._ack_cid] = self._ack_key

    def catch_up(self) -> None:
        taken = self._words[self._acks]
        if taken != self._acks_heard:
            self._acks_heard = taken
            self._hub.hear()
        self._hub.tell(self)

    def heard(self, heard: Heard) -> None:
        """The kernel has taken acknowledgements."""
        if not self.closed:
            self.engine.on_acknowledgements(heard)

    # -- Lease: streams that the kernel began

    def stream_limit(self, stream_id: int) -> int:
        return self._hub.stream_limit(self, stream_id)

    def stream_limit_raised(self, stream_id: int, limit: int) -> None:
        self._hub.limit_raised(self, stream_id, limit)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self._hub.stopped(self, stream_id, code)

    def packets_lost(self, rows: Sequence[Row]) -> None:
        if not self.closed:
            self._hub.lost(rows)


class Connections:
    """All links, and the indices of the map."""

    def __init__(self, maps: Maps, ledger: Ledger, hub: Hub) -> None:
        self.maps = maps
        self.hub = hub
        self.links: dict[int, Link] = {}
        """By index, as long as anything names it."""
        self.keystreams = Keystreams(maps)
        self._ledger = ledger
        self._free = list(range(CONNECTIONS - 1, -1, -1))
        self._waiting: dict[Link, None] = {}
        self._leaving: dict[Link, tuple[int, float]] = {}
        """Closed ones, with the slot sequence below which all has to be settled, and when."""

    @property
    def room(self) -> int:
        """How many more there can be."""
        return len(self._free)

    def register(self, engine: Engine, terms: LinkTerms, bands: Bands) -> Link:
        """:raises ValueError: a prefix is too long."""
        if max(len(terms.prefix), len(terms.datagram_prefix)) > layout.TEMPLATE_SIZE:
            raise ValueError(f"a prefix has more than {layout.TEMPLATE_SIZE} bytes")
        link = Link(self, engine, terms, bands)
        self._enter(link)
        return link

    def _enter(self, link: Link) -> None:
        reason = link.engine.fast_reason
        if not reason and not self._free:
            reason = f"the kernel has {CONNECTIONS} connections already"
        if reason:
            link.refuse(reason)
            self._waiting[link] = None
            return
        self._waiting.pop(link, None)
        index = self._free.pop()
        self.links[index] = link
        link.enter(index, self._ledger.open(index))

    def remove(self, link: Link) -> None:
        self._waiting.pop(link, None)
        if link.index < 0:
            return
        self._take_back(link)
        shared = self.maps.shared
        mark = shared.words[shared.word("slot_next")]
        self._leaving[link] = (mark, time.monotonic() + REST)

    def _take_back(self, link: Link) -> None:
        link.stop()
        self.hub.collect()
        link.engine.lend(None)
        link.bands.leave()
        self._ledger.close(link.index)

    def retry(self) -> None:
        """About once a second: those that could not be taken, or not be paused."""
        for link in self.links.values():
            link.look_again()
        for link in list(self._waiting):
            self._enter(link)

    def sweep(self) -> None:
        """Erase what nobody reads any more; free what nobody names."""
        settled, now = self.hub.settled_below(), time.monotonic()
        for link, (mark, after) in list(self._leaving.items()):
            if mark > settled or now < after or link.broken:
                continue
            link.wipe()
            if not link.users:
                del self._leaving[link]
                del self.links[link.index]
                self._free.append(link.index)

    def close(self) -> None:
        """The kernel stops; the engines have their counters again; keys are erased."""
        for link in self.links.values():
            if not link.closed:
                self._take_back(link)
        time.sleep(REST)
        for link in self.links.values():
            link.wipe()


def _route_key(cid: bytes) -> int:
    return int.from_bytes(cid, sys.byteorder)


def _little(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, "<u4").astype(np.uint32)


def _put(row: Any, field: str, data: bytes, length: str = "") -> None:
    row[field][: len(data)] = np.frombuffer(data, np.uint8)
    row[length or f"{field}_length"] = len(data)


def _put_address(row: Any, side: str, address: tuple[str, int]) -> int:
    """Returns the family."""
    parsed = ipaddress.ip_address(address[0].split("%")[0])
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    field = row[f"{side}_address"]
    field[:] = 0
    field[: len(parsed.packed)] = np.frombuffer(parsed.packed, np.uint8)
    row[f"{side}_port"] = socket.htons(address[1])
    return parsed.version
