"""The relay's own track: its name, and the renditions that stand behind it.

A publisher's catalog (MSF) puts the renditions of one content into an alternate group; their
groups are aligned. Beside them the relay offers a track ``auto``, or ``auto:GROUP`` for one of
several alternate groups, in the catalog's namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.catalog import Catalog, Kind
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.names import FullTrackName, Namespace, format_namespace

AUTO = b"auto"
_MOST_DIGITS = 9


class NoRenditionsError(Exception):
    """There is nothing to choose from; ``code`` and the text go into REQUEST_ERROR."""

    def __init__(self, code: RequestErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Rendition:
    """``rate``: bytes a second, as the catalog has it."""

    name: FullTrackName
    rate: float

    @property
    def label(self) -> str:
        return self.name.name.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Wanted:
    """``alt_group`` None: the one that holds the first video."""

    namespace: Namespace
    alt_group: int | None


def wanted(name: FullTrackName) -> Wanted | None:
    """What a track's name asks the relay for; None: it is no name of the relay's."""
    if name.name == AUTO:
        return Wanted(name.namespace, None)
    prefix, colon, number = name.name.partition(b":")
    if prefix != AUTO or not colon or not number.isdigit() or len(number) > _MOST_DIGITS:
        return None
    return Wanted(name.namespace, int(number))


def of_catalog(catalog: Catalog, wanted: Wanted) -> list[Rendition]:
    """The renditions of an alternate group, the smallest first.

    :raises NoRenditionsError: there is no such group, or it is not told how large they are.
    """
    label = format_namespace(wanted.namespace)
    groups = sorted({track.alt_group for track in catalog.tracks if track.alt_group})
    if not groups:
        raise NoRenditionsError(
            RequestErrorCode.DOES_NOT_EXIST, f"the catalog of {label} has no alternate groups"
        )
    number = wanted.alt_group
    if number is None:
        videos = (t.alt_group for t in catalog.tracks if t.kind is Kind.VIDEO and t.alt_group)
        number = next(videos, groups[0])
    tracks = [track for track in catalog.tracks if track.alt_group == number]
    if not tracks:
        listed = ", ".join(str(group) for group in groups)
        raise NoRenditionsError(
            RequestErrorCode.DOES_NOT_EXIST,
            f"the catalog of {label} has no alternate group {number}; it has {listed}",
        )
    found = sorted(
        (
            Rendition(
                FullTrackName(track.namespace or wanted.namespace, track.name.encode()),
                track.bitrate / 8,
            )
            for track in tracks
            if track.bitrate
        ),
        key=lambda rendition: (rendition.rate, rendition.name),
    )
    if not found:
        raise NoRenditionsError(
            RequestErrorCode.NOT_SUPPORTED,
            f"the catalog of {label} tells no bit rates for alternate group {number}",
        )
    return found
