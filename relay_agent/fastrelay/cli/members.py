"""Members of a relay, as its status page tells of them: what ``fastrelay top`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

BANDS = 4


@dataclass(frozen=True, slots=True)
class Member:
    """A session with subscriptions. Rates are bytes a second, or events a second, over the time
    between two looks; None where there was but one."""

    member: str
    seconds: float
    """How long the session is there."""
    rtt_ms: float
    rtt_min_ms: float
    jitter_ms: float
    loss: float
    """Share of bytes, lately."""
    delivery_rate: int | None
    """What arrived, of all that was sent."""
    bandwidth: int | None
    """What its path carries at least."""
    rate: int | None
    """What it may be sent; None: no limit."""
    rate_by_hand: int | None
    """What a person has set; 0: no limit; None: the relay decides."""
    level: float
    """Bands that are dropped, from the last one up."""
    level_by_hand: float | None
    why: str
    """What limits: the path, a person, the configuration."""
    window: int
    bytes_in_flight: int
    band_rates: tuple[int | None, ...]
    drops: tuple[int, ...]
    """Streams and datagrams dropped, by band."""
    drop_rate: float | None
    renditions: tuple[str, ...]
    delay_ms: float | None
    """One-way, a moving average, where the member tells when objects arrive."""
    kernel: float | None
    """The kernel's share of the packets with media."""


def members(
    document: dict[str, Any], before: dict[str, Any] | None = None, seconds: float = 0.0
) -> list[Member]:
    """Of a status page; with an earlier one, that many seconds old, rates are known too."""
    earlier = {}
    if before is not None and seconds > 0:
        earlier = {session["address"]: session for session in before["sessions"]}
    return [
        _member(session, _same(session, earlier.get(session["address"])), seconds)
        for session in document["sessions"]
        if session["subscriptions"]
    ]


def _same(session: dict[str, Any], earlier: dict[str, Any] | None) -> dict[str, Any] | None:
    """None: another session had the address then."""
    if earlier is None or earlier["seconds"] > session["seconds"]:
        return None
    return earlier


def _member(session: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> Member:
    path, bands, limit = session["path"], session["bands"], session["limit"]
    kernel, total = session["kernel_packets"], session["kernel_packets"] + session["user_packets"]
    feedback = session.get("feedback")

    def a_second(get: Callable[[dict[str, Any]], int]) -> float | None:
        return None if before is None else max(0, get(session) - get(before)) / seconds

    return Member(
        member=path["address"],
        seconds=session["seconds"],
        rtt_ms=path["rtt_ms"],
        rtt_min_ms=path["rtt_min_ms"],
        jitter_ms=path["jitter_ms"],
        loss=path["loss"],
        delivery_rate=_whole(a_second(lambda page: page["path"]["delivered_bytes"])),
        bandwidth=path["bandwidth"],
        rate=bands["rate"] or None,
        rate_by_hand=limit["rate_by_hand"],
        level=bands["level"],
        level_by_hand=limit["level_by_hand"],
        why=limit["why"],
        window=path["congestion_window"],
        bytes_in_flight=path["bytes_in_flight"],
        band_rates=tuple(_whole(a_second(_bytes_of(band))) for band in range(BANDS)),
        drops=tuple(bands["dropped"]),
        drop_rate=a_second(lambda page: sum(page["bands"]["dropped"])),
        renditions=tuple(
            each["rendition"] for each in session["subscriptions"] if each.get("rendition")
        ),
        delay_ms=feedback["ewma_ms"] if feedback else None,
        kernel=kernel / total if total else None,
    )


def _bytes_of(band: int) -> Callable[[dict[str, Any]], int]:
    return lambda page: page["bands"]["bytes"][band]


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


Key = Callable[[Member], Any]


def _or(value: float | None) -> float:
    return -1.0 if value is None else value


SORTS: dict[str, Key] = {
    "member": lambda member: member.member,
    "rtt": lambda member: member.rtt_ms,
    "jitter": lambda member: member.jitter_ms,
    "delay": lambda member: _or(member.delay_ms),
    "loss": lambda member: member.loss,
    "rate": lambda member: _or(member.delivery_rate),
    "path": lambda member: _or(member.bandwidth),
    "limit": lambda member: _or(member.rate),
    "level": lambda member: member.level,
    "flight": lambda member: member.bytes_in_flight,
    "drops": lambda member: (_or(member.drop_rate), sum(member.drops)),
    "rendition": lambda member: member.renditions,
    "kernel": lambda member: _or(member.kernel),
}
"""By the headings of the table."""


def ordered(found: Iterable[Member], by: str, *, reverse: bool) -> list[Member]:
    """Members of one value stay in the order of their addresses."""
    return sorted(sorted(found, key=SORTS["member"]), key=SORTS[by], reverse=reverse)
