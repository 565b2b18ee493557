"""One state, twice: in the model's plain Python and in the kernel's maps. Written together,
compared after every batch."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from bpf import keystreams
from bpf.harness import Datapath
from bpf.model_state import Connection, Member, Slot, State, Stream, Track
from bpf.packets import Keys
from bpf.scenario import address_bytes, padded, route_key, words, write_templates
from fastrelay.fastpath import layout
from fastrelay.fastpath.layout import ConnectionState, LegState, StreamState, Switch, rx_word

KEYSETS = 4


class World:
    """The maps follow the model's state whenever a test changes it through these methods."""

    def __init__(self, datapath: Datapath) -> None:
        self.datapath = datapath
        self.state = State()
        datapath.clear()
        self._view = {
            name: datapath.view(name)
            for name in (
                "connections",
                "members",
                "tracks",
                "arrays",
                "stream_index",
                "streams",
                "legs",
                "slots",
            )
        }
        self._connections = Fields(self._view["connections"], _OF_CONNECTION)
        self._members = Fields(self._view["members"], _OF_MEMBER)
        self._tracks = Fields(self._view["tracks"], _OF_TRACK)
        self._streams = Fields(self._view["streams"], _OF_STREAM)
        self._stream_ends = self._view["streams"][["final", "gap_start", "gap_end"]]
        self._legs = Fields(self._view["legs"], _OF_LEG)
        self._leg_words = self._view["legs"]["word"]
        self._shared = datapath.view("shared")[0]
        self._shared["slot_next"] = 1
        self.write_shared()

    # Writing

    def write_shared(self) -> None:
        self._shared["enabled"] = self.state.enabled
        self._shared["slot_limit"] = self.state.slot_limit

    def add_connection(self, connection: Connection) -> None:
        self.state.connections[connection.index] = connection
        self.route(connection)
        entry = self._view["connections"][connection.index]
        entry["generation"] = 1
        entry["tx_hp"] = words(connection.from_relay.hp)
        entry["rx_hp"] = words(connection.to_relay.hp)
        self.write_connection(connection)

    def route(self, connection: Connection) -> None:
        self.state.routes[connection.cid] = connection.index
        assert self.datapath.table("routes").put(route_key(connection.cid), 1, connection.index)

    def write_connection(self, connection: Connection) -> None:
        """All that the relay decides; counters that both sides use stay as they are."""
        entry = self._view["connections"][connection.index]
        path = connection.path
        for name in (
            "packet_number_limit",
            "stream_number_limit",
            "data_limit",
            "stream_data_limit",
            "bytes_limit",
            "packet_size_limit",
            "datagram_limit",
            "stream_bits",
            "hash",
            "variant",
            "plaintext",
            "ack_floor",
            "ack_bytes",
        ):
            entry[name] = getattr(connection, name)
        entry["ack_cid"] = route_key(connection.cid) if connection.lets else 0
        entry["dcid"] = padded(connection.dcid, layout.MAX_PEER_CONNECTION_ID)
        entry["dcid_length"] = len(connection.dcid)
        entry["family"] = path.family
        entry["local_address"] = address_bytes(path.destination)
        entry["remote_address"] = address_bytes(path.source)
        entry["local_port"] = int.from_bytes(path.destination_port.to_bytes(2, "big"), "little")
        entry["remote_port"] = int.from_bytes(path.source_port.to_bytes(2, "big"), "little")
        entry["prefix"] = padded(connection.prefix, 16)
        entry["prefix_length"] = len(connection.prefix)
        entry["datagram_prefix"] = padded(connection.datagram_prefix, 16)
        entry["datagram_prefix_length"] = len(connection.datagram_prefix)
        _write_keys(entry["tx"], connection.from_relay, connection.tx_generation)
        entry["tx_version"] = connection.tx_generation + 1
        entry["tx_phase"] = connection.tx_generation & 1
        self._write_receive_keys(entry, connection)
        bands = connection.bands
        entry["bands"]["level"] = bands.level
        entry["bands"]["ends"][: layout.BANDS] = bands.shares.ends
        entry["state"] = (
            ConnectionState.SEND * connection.send + ConnectionState.RECEIVE * connection.receive
        )

    def write_keystream(self, connection: Connection, number: int) -> None:
        """Made ahead for this packet, with the keys of now."""
        connection.ahead[number % layout.KEYSTREAMS_AHEAD] = number, connection.tx_generation
        keys = connection.from_relay.ring[connection.tx_generation]
        version = connection.tx_generation + 1
        keystreams.write(self.datapath, connection.index, number, keys, version)

    def _write_receive_keys(self, entry: np.void, connection: Connection) -> None:
        present = (connection.rx_current, connection.rx_following, connection.rx_previous)
        for generation in present:
            if generation is not None:
                _write_keys(entry["rx"][generation % KEYSETS], connection.to_relay, generation)
        entry["rx_phase_start"] = connection.rx_phase_start
        following, previous = (
            None if generation is None else generation % KEYSETS for generation in present[1:]
        )
        word = rx_word(
            connection.rx_current & 1, connection.rx_current % KEYSETS, following, previous
        )
        entry["rx_keys"] = word if connection.rx_set else 0

    def write_member(self, member: Member) -> None:
        self.state.members[member.index] = member
        entry = self._view["members"][member.index]
        entry["connection"] = member.connection
        entry["first_ordinal"] = member.first_ordinal
        entry["last_ordinal"] = member.last_ordinal
        entry["priority"] = member.priority
        write_templates(entry, member.stream, member.datagram)
        entry["state"] = Switch(member.on)

    def write_array(self, index: int, track: int, members: list[int]) -> None:
        self.state.arrays[index] = members
        entry = self._view["arrays"][index]
        entry["count"] = len(members)
        entry["track"] = track
        entry["members"][: len(members)] = members

    def write_track(self, track: Track) -> None:
        self.state.tracks[track.index] = track
        entry = self._view["tracks"][track.index]
        entry["array"] = track.array
        entry["priority"] = track.priority
        entry["state"] = Switch(track.on)

    def add_channel(self, connection: Connection, channel: int, track: Track) -> None:
        self.state.channels[(connection.index, channel)] = track.index
        table = self.datapath.table("channels")
        assert table.put(channel, 1 + connection.index, track.index)

    def set_stream_state(self, stream: Stream, state: StreamState) -> None:
        stream.state = state
        self._view["streams"][stream.sequence % layout.STREAMS]["state"] = state

    def set_stream_busy(self, stream: Stream, busy: bool) -> None:
        stream.busy = busy
        self._view["streams"][stream.sequence % layout.STREAMS]["busy"] = busy

    def free_stream(self, stream: Stream) -> None:
        key = (stream.connection, stream.stream_id)
        del self.state.stream_index[key]
        del self.state.streams[stream.sequence % layout.STREAMS]
        row = stream.sequence % layout.STREAMS
        self.state.index.words[row] = 0
        self._view["streams"][row]["state"] = StreamState.FREE
        self._view["stream_index"]["keys"].reshape(-1)[row] = 0

    def write_leg(self, stream: Stream, position: int) -> None:
        leg = stream.legs[position]
        entry = self._leg(stream, position)
        entry["limit"] = leg.limit
        entry["word"] = stream.sequence << 8 | leg.state

    def _leg(self, stream: Stream, position: int) -> np.void:
        place = stream.sequence % layout.STREAMS
        found: np.void = self._view["legs"][place * layout.ARRAY_MEMBERS + position]
        return found

    def claim_rest(self, slot: Slot) -> None:
        """What the relay does with a slot it has waited for: all that is left is its own."""
        members = self.members_of(slot)
        slot.claimed |= set(range(members))
        entry = self._view["slots"][slot.sequence % layout.SLOTS]
        generation = (slot.sequence & 0xFFFFFFFF) << 32
        for word in range(-(-members // 32)):
            bits = min(32, members - 32 * word)
            entry["claims"][word] = generation | (1 << bits) - 1

    def members_of(self, slot: Slot) -> int:
        return len(self.state.arrays[slot.array]) if slot.frames else 0

    def set_counter(self, connection: Connection, name: str, value: int) -> None:
        """One of those that both sides take from."""
        setattr(connection, name, value)
        self._view["connections"][connection.index][name] = value

    # Comparing

    def compare(self) -> None:
        """The maps are what the model's state says, as far as programs write them.

        :raises DifferenceError: they are not.
        """
        state = self.state
        same(int(self._shared["slot_next"]), state.slot_next, "slot_next")
        same(self._view["stream_index"]["keys"].reshape(-1).tolist(), state.index.words, "index")
        for connection in state.connections.values():
            same(int(self._view["connections"][connection.index]["busy"]), 0, "busy")
            self._connections.compare(connection.index, connection)
            self._compare_bands(connection)
        for member in state.members.values():
            self._members.compare(member.index, member)
        for track in state.tracks.values():
            self._tracks.compare(track.index, track)
        for stream in state.streams.values():
            self._compare_stream(stream)
        counted = {int(reason): number for reason, number in self.datapath.counters().items()}
        same(counted, dict(state.counted), "counters")

    def _compare_bands(self, connection: Connection) -> None:
        rows = self._view["connections"][connection.index]["bands"]["each"]
        for band in range(layout.BANDS):
            found = (int(rows[band]["bytes"]), int(rows[band]["dropped"]))
            expected = (connection.bands.bytes(band), connection.bands.dropped(band))
            same(found, expected, f"band {band} of {connection}")

    def _compare_stream(self, stream: Stream) -> None:
        place = stream.sequence % layout.STREAMS
        self._streams.compare(place, stream)
        final, *hole = self._stream_ends[place].item()
        same(final, 0 if stream.final is None else stream.final + 1, "final")
        if tuple(hole) != stream.gap and (hole[0] != hole[1] or stream.gap[0] != stream.gap[1]):
            same(tuple(hole), stream.gap, f"hole of {stream}")
        for position, leg in stream.legs.items():
            at = place * layout.ARRAY_MEMBERS + position
            same(self._leg_words[at].item(), stream.sequence << 8 | leg.state, "leg's word")
            if leg.state is LegState.KERNEL:
                self._legs.compare(at, leg)


_OF_MEMBER = ("packets", "bytes", "streams")
_OF_TRACK = ("packets", "bytes")
_OF_CONNECTION = (
    "packet_number",
    "stream_number",
    "data_used",
    "bytes_sent",
    "rx_largest",
    "rx_stream_next",
    "acks",
    "acked",
)
_OF_STREAM = (
    "sequence",
    "state",
    "busy",
    "stream_id",
    "array",
    "ordinal",
    "next",
    "connection",
    "track",
    "cut",
    "keep_at",
    "keep_length",
    "priority",
)
_OF_LEG = ("stream_id", "highest", "limit")


class DifferenceError(AssertionError):
    """Programs and model disagree."""


def same(found: object, expected: object, what: str) -> None:
    """:raises DifferenceError: they are not."""
    if found != expected:
        raise DifferenceError(f"{what}\nfound    {found}\nexpected {expected}")


class Fields:
    """Some of a map's fields, which are the model's attributes of the same names."""

    def __init__(self, view: np.ndarray[Any, Any], names: tuple[str, ...]) -> None:
        self._names = names
        self._rows = view[list(names)]
        self._expected = attrgetter(*names)

    def compare(self, index: int, expected: object) -> None:
        """:raises DifferenceError: the row of that index is not what is expected."""
        found, wanted = self._rows[index].item(), self._expected(expected)
        if found != wanted:
            for name, of_map, of_model in zip(self._names, found, wanted, strict=True):
                same(of_map, int(of_model), f"{name} of {expected}")


def _write_keys(entry: np.void, keys: Keys, generation: int) -> None:
    key, iv = keys.ring[generation]
    entry["key"] = words(key)
    entry["iv"] = words(iv)
