"""What a track carries: its coding format, and one coded sample of it."""

from __future__ import annotations

from dataclasses import dataclass

from fastrelay.catalog import Kind
from fastrelay.moqt.names import Namespace


class MediaError(Exception):
    """Media, a catalog or a media program that cannot be used; the text says why."""


class FormatChangedError(MediaError):
    """A track goes on in another format, which a file that was begun cannot hold."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the format of {name} has changed, and a file holds only one; what came before is "
            "complete: subscribe again for the rest"
        )


@dataclass(frozen=True, slots=True)
class Format:
    """The coding format of a track.

    ``codec`` is a WebCodecs string (RFC 6381). ``description`` is what WebCodecs calls so:
    the avcC record of H.264, the AudioSpecificConfig of AAC, empty if it is in band.
    ``sample_entry`` is a whole box of ``stsd`` taken from somebody else's init segment; where
    it is set it wins over ``description``, so that any codec can be written to a file.
    """

    kind: Kind
    codec: str
    timescale: int
    description: bytes = b""
    width: int = 0
    height: int = 0
    sample_rate: int = 0
    channels: int = 0
    sample_entry: bytes = b""


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded frame. ``time`` and ``duration`` are in units of the track's timescale;
    ``time`` is the decoding time and counts from the Unix epoch, ``offset`` is what the
    presentation time lies after it. H.264 data has four-byte lengths before each unit."""

    time: int
    duration: int
    key: bool
    data: bytes
    offset: int = 0


def namespace_text(namespace: Namespace) -> str:
    """A namespace as people type it."""
    return "/".join(field.decode(errors="replace") for field in namespace)
