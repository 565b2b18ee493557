"""What a client hands to its user."""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.moqt.names import Location, Namespace, ObjectStatus


@dataclass(slots=True)
class ReceivedObject:
    """One whole object.

    ``properties``: key-value pairs in the session's varint family, None if the stream carries
    none. ``first_byte_at`` and ``received_at``: ``time.monotonic()`` when the header was known
    and when the last byte had arrived. ``subgroup_id`` of a datagram is the object id.
    """

    location: Location
    subgroup_id: int
    priority: int
    properties: bytes | None
    status: ObjectStatus
    payload: bytes
    datagram: bool
    first_byte_at: float
    received_at: float


@dataclass(slots=True)
class SubgroupEnd:
    """A subgroup's stream is over: with FIN if ``reset`` is None, else with that code.

    ``subgroup_id`` None: the stream ended before its first object told the id.
    ``end_of_group``: its last object is the group's last.
    """

    group_id: int
    subgroup_id: int | None
    reset: int | None
    end_of_group: bool


@dataclass(frozen=True, slots=True)
class NamespaceChange:
    """A namespace under the asked prefix came (``live``) or went."""

    namespace: Namespace
    live: bool


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait for a reader before streams are given up."""

    objects: int = 8192
    bytes: int = 64 * 1024 * 1024
