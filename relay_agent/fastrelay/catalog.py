"""What a broadcast has to offer: MSF catalogs (draft-ietf-moq-msf-01, -cmsf-01) and the JSON
catalog of moq-dev's tools, both read and written.

Both are told from one :class:`Catalog`; tracks of kinds other than video and audio, and
packagings that are not known here, are left out when reading.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastrelay.moqt.names import Namespace, parse_namespace

MSF_TRACK = b"catalog"
HANG_TRACK = b"catalog.json"

VERSION = "draft-01"
"""The only spelling that all players accept."""

_Json = dict[str, Any]


class CatalogError(Exception):
    """A catalog that cannot be used; the text says why."""


class Kind(Enum):
    """What a track is for, as catalogs call it."""

    VIDEO = "video"
    AUDIO = "audio"


class Packaging(Enum):
    """How a track's objects hold its frames."""

    CMAF = "cmaf"
    LOC = "loc"
    LEGACY = "legacy"
    """moq-dev: a QUIC varint of microseconds, then the frame."""


@dataclass(frozen=True, slots=True)
class CatalogTrack:
    """One track; None and 0 are "not told". ``init``: a CMAF init segment, or the codec's
    configuration with other packagings. ``framerate`` in Hz, ``bitrate`` in bit/s,
    ``target_latency`` and ``group_duration`` in milliseconds. ``namespace`` None: the
    catalog's own."""

    name: str
    kind: Kind
    packaging: Packaging
    codec: str
    init: bytes = b""
    bitrate: int = 0
    width: int = 0
    height: int = 0
    framerate: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    target_latency: int = 0
    group_duration: int = 0
    language: str = ""
    alt_group: int = 0
    """Tracks with the same number are renditions of one content, with aligned groups."""
    namespace: Namespace | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """``complete``: the broadcast is over and nothing will follow. ``generated_at``: Unix
    time in milliseconds."""

    tracks: tuple[CatalogTrack, ...]
    generated_at: int | None = None
    complete: bool = False


# Writing


def build_msf(catalog: Catalog) -> bytes:
    """The MSF document."""
    root: _Json = {"version": VERSION}
    if catalog.generated_at is not None:
        root["generatedAt"] = catalog.generated_at
    if catalog.complete:
        return _document(root | {"isComplete": True, "tracks": []})
    root["tracks"] = [_msf_track(track) for track in catalog.tracks]
    init = [
        {"id": track.name, "type": "inline", "data": base64.b64encode(track.init).decode()}
        for track in catalog.tracks
        if track.init
    ]
    return _document(root | ({"initDataList": init} if init else {}))


def _msf_track(track: CatalogTrack) -> _Json:
    fields: _Json = {
        "name": track.name,
        "packaging": track.packaging.value,
        "isLive": True,
        "role": track.kind.value,
        "renderGroup": 1,
        "altGroup": track.alt_group,
        "targetLatency": track.target_latency,
        "codec": track.codec,
        "width": track.width,
        "height": track.height,
        "framerate": _number(track.framerate),
        "samplerate": track.sample_rate,
        "channelConfig": str(track.channels) if track.channels else "",
        "bitrate": track.bitrate,
        "maxGroupDuration": track.group_duration,
        "maxGrpSapStartingType": 1 if track.packaging is Packaging.CMAF else 0,
        "lang": track.language,
        "initRef": track.name if track.init else "",
    }
    return {key: value for key, value in fields.items() if value}


def build_hang(catalog: Catalog) -> bytes:
    """moq-dev's document; its container ``cmaf`` holds the init segment."""
    root: _Json = {}
    for track in catalog.tracks:
        container: _Json = {"kind": track.packaging.value}
        fields: _Json = {"codec": track.codec, "bitrate": track.bitrate}
        if track.packaging is Packaging.CMAF:
            container["init"] = base64.b64encode(track.init).decode()
        elif track.init:
            fields["description"] = track.init.hex()
        if track.kind is Kind.VIDEO:
            fields["codedWidth"] = track.width
            fields["codedHeight"] = track.height
            fields["framerate"] = _number(track.framerate)
        else:
            fields["sampleRate"] = track.sample_rate
            fields["numberOfChannels"] = track.channels
        rendition = {key: value for key, value in fields.items() if value}
        renditions = root.setdefault(track.kind.value, {"renditions": {}})["renditions"]
        renditions[track.name] = rendition | {"container": container}
    return _document(root)


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else round(value, 3)


def _document(root: _Json) -> bytes:
    return json.dumps(root, separators=(",", ":")).encode()


# Reading


def parse_msf(document: bytes) -> Catalog:
    """Read a complete MSF catalog of version 00 or 01.

    :raises CatalogError: not JSON, not a complete catalog, or of a version not known here.
    """
    return update_msf(document, Catalog(()))


def update_msf(document: bytes, before: Catalog) -> Catalog:
    """The catalog after one more object of its track: a complete one, or an update of the one
    ``before`` with the operations add and remove.

    :raises CatalogError: as :func:`parse_msf`, or another operation.
    """
    root = _load(document)
    if "deltaUpdate" not in root or "tracks" in root:
        return _parse_msf(root)
    if not before.tracks:
        raise CatalogError("the catalog object is only an update of an earlier one")
    init = _init_data(root)
    tracks = {track.name: track for track in before.tracks}
    for operation in _objects(root["deltaUpdate"]):
        entries = list(_objects(operation.get("tracks")))
        match operation.get("op"):
            case "add":
                for entry in entries:
                    tracks |= {track.name: track for track in _read_msf_track(entry, init)}
            case "remove":
                for entry in entries:
                    tracks.pop(_text(entry, "name"), None)
            case other:
                raise CatalogError(f"the catalog update has the operation {other!r}, unknown here")
    return Catalog(tuple(tracks.values()), _integer(root, "generatedAt") or before.generated_at)


def _parse_msf(root: _Json) -> Catalog:
    version = root.get("version")
    if version not in (1, "1") and not (isinstance(version, str) and version.startswith("draft-")):
        raise CatalogError(f"the catalog has version {version!r}, which is not known here")
    tracks = root.get("tracks")
    if not isinstance(tracks, list):
        raise CatalogError("the catalog has no list of tracks")
    init = _init_data(root)
    return Catalog(
        tracks=tuple(track for entry in _objects(tracks) for track in _read_msf_track(entry, init)),
        generated_at=_integer(root, "generatedAt") or None,
        complete=root.get("isComplete") is True,
    )


def _init_data(root: _Json) -> dict[str, bytes]:
    return {
        entry["id"]: _base64(_text(entry, "data"))
        for entry in _objects(root.get("initDataList", []))
        if isinstance(entry.get("id"), str) and entry.get("type") == "inline"
    }


def _read_msf_track(entry: _Json, init: dict[str, bytes]) -> Iterator[CatalogTrack]:
    name = _text(entry, "name")
    codec = _text(entry, "codec")
    try:
        packaging = Packaging(_text(entry, "packaging"))
    except ValueError:
        return
    kind = _kind(entry, codec)
    if not name or not codec or kind is None:
        return
    data = init.get(_text(entry, "initRef"), b"") or _base64(_text(entry, "initData"))
    if packaging is Packaging.CMAF and not data:
        raise CatalogError(f"the catalog has no init segment for track {name!r}")
    yield CatalogTrack(
        name=name,
        kind=kind,
        packaging=packaging,
        codec=codec,
        init=data,
        bitrate=_integer(entry, "bitrate"),
        width=_integer(entry, "width"),
        height=_integer(entry, "height"),
        framerate=_float(entry, "framerate"),
        sample_rate=_integer(entry, "samplerate"),
        channels=_channels(entry.get("channelConfig")),
        target_latency=_integer(entry, "targetLatency"),
        group_duration=_integer(entry, "maxGroupDuration"),
        language=_text(entry, "lang"),
        alt_group=_integer(entry, "altGroup"),
        namespace=_namespace(entry.get("namespace")),
    )


def _kind(entry: _Json, codec: str) -> Kind | None:
    role = entry.get("role")
    if role in ("video", "audio"):
        return Kind(role)
    if role is not None:
        return None
    audio = codec.split(".")[0].lower() in ("mp4a", "opus", "ac-3", "ec-3", "flac")
    return Kind.AUDIO if audio or "samplerate" in entry else Kind.VIDEO


def parse_hang(document: bytes) -> Catalog:
    """Read moq-dev's catalog.

    :raises CatalogError: not JSON, or not of that shape.
    """
    root = _load(document)
    tracks: list[CatalogTrack] = []
    for kind in Kind:
        section = root.get(kind.value)
        renditions = section.get("renditions") if isinstance(section, dict) else None
        if isinstance(renditions, dict):
            for name, entry in renditions.items():
                if isinstance(entry, dict):
                    tracks += _read_hang_track(kind, name, entry)
    return Catalog(tuple(tracks))


def _read_hang_track(kind: Kind, name: str, entry: _Json) -> Iterator[CatalogTrack]:
    container = entry.get("container")
    if not isinstance(container, dict):
        container = {"kind": container or "legacy"}
    codec = _text(entry, "codec")
    try:
        packaging = Packaging(container.get("kind"))
    except ValueError:
        return
    if not codec:
        return
    if packaging is Packaging.CMAF:
        init = _base64(_text(container, "init"))
        if not init:
            raise CatalogError(f"the catalog has no init segment for track {name!r}")
    else:
        try:
            init = bytes.fromhex(_text(entry, "description"))
        except ValueError:
            raise CatalogError(f"the catalog's description of track {name!r} is not hex") from None
    yield CatalogTrack(
        name=name,
        kind=kind,
        packaging=packaging,
        codec=codec,
        init=init,
        bitrate=_integer(entry, "bitrate"),
        width=_integer(entry, "codedWidth"),
        height=_integer(entry, "codedHeight"),
        framerate=_float(entry, "framerate"),
        sample_rate=_integer(entry, "sampleRate"),
        channels=_integer(entry, "numberOfChannels"),
    )


def _load(document: bytes) -> _Json:
    try:
        root = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"the catalog is not JSON: {error}") from None
    if not isinstance(root, dict):
        raise CatalogError("the catalog is not a JSON object")
    return root


def _objects(value: object) -> Iterator[_Json]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, dict))


def _text(entry: _Json, key: str) -> str:
    value = entry.get(key, "")
    return value if isinstance(value, str) else ""


def _float(entry: _Json, key: str) -> float:
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) and 0 < value < 1e15 else 0.0


def _integer(entry: _Json, key: str) -> int:
    return int(_float(entry, key))


def _channels(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else 0


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CatalogError("the catalog's init data is not base64") from None


def _namespace(value: object) -> Namespace | None:
    """A string with slashes, or (proposed for MSF) an array of fields."""
    if isinstance(value, str) and value:
        try:
            return parse_namespace(value)
        except ValueError as error:
            raise CatalogError(f"the catalog names an impossible namespace: {error}") from None
    if isinstance(value, list) and value and all(isinstance(field, str) for field in value):
        return tuple(field.encode() for field in value)
    return None
