"""Catalogs: what we publish, what we accept, and what is wrong with the rest."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.catalog import (
    Catalog,
    CatalogError,
    CatalogTrack,
    Kind,
    Packaging,
    build_hang,
    build_msf,
    parse_hang,
    parse_msf,
    update_msf,
)

VIDEO = CatalogTrack(
    "video-720",
    Kind.VIDEO,
    Packaging.CMAF,
    "avc1.4D401F",
    init=b"ftyp+moov",
    bitrate=2_500_000,
    width=1280,
    height=720,
    framerate=25.0,
    target_latency=500,
    alt_group=1,
    group_duration=1000,
)
SMALL = CatalogTrack(
    "video-180",
    Kind.VIDEO,
    Packaging.CMAF,
    "avc1.4D400D",
    init=b"i",
    bitrate=300_000,
    height=180,
    alt_group=1,
)
AUDIO = CatalogTrack(
    "audio",
    Kind.AUDIO,
    Packaging.CMAF,
    "mp4a.40.2",
    init=b"audio",
    bitrate=96_000,
    sample_rate=48_000,
    channels=2,
    language="en",
    alt_group=2,
)
CATALOG = Catalog((VIDEO, SMALL, AUDIO), generated_at=1_795_231_268_518)


def msf(track: dict[str, Any], **root: Any) -> bytes:
    fields = {"name": "v", "packaging": "cmaf", "isLive": True, "codec": "avc1.4D401F"}
    return json.dumps({"version": "draft-01", "tracks": [fields | track]} | root).encode()


def test_msf_round_trip() -> None:
    assert parse_msf(build_msf(CATALOG)) == CATALOG


def test_msf_document_has_what_the_drafts_require() -> None:
    document = json.loads(build_msf(CATALOG))
    assert document["version"] == "draft-01"
    video, _, audio = document["tracks"]
    assert video == {
        "name": "video-720",
        "packaging": "cmaf",
        "isLive": True,
        "role": "video",
        "renderGroup": 1,
        "altGroup": 1,
        "targetLatency": 500,
        "codec": "avc1.4D401F",
        "width": 1280,
        "height": 720,
        "framerate": 25,
        "bitrate": 2_500_000,
        "maxGroupDuration": 1000,
        "maxGrpSapStartingType": 1,
        "initRef": "video-720",
    }
    assert (audio["altGroup"], audio["channelConfig"], audio["samplerate"]) == (2, "2", 48_000)
    assert document["initDataList"][0] == {
        "id": "video-720",
        "type": "inline",
        "data": base64.b64encode(b"ftyp+moov").decode(),
    }


def test_loc_tracks_have_no_init_data() -> None:
    track = CatalogTrack("v", Kind.VIDEO, Packaging.LOC, "avc3.4D401F", framerate=29.97)
    document = json.loads(build_msf(Catalog((track,))))
    assert "initDataList" not in document
    assert "initRef" not in document["tracks"][0]
    assert "maxGrpSapStartingType" not in document["tracks"][0]
    assert document["tracks"][0]["framerate"] == 29.97


def test_the_end_of_a_broadcast() -> None:
    document = build_msf(Catalog((), 5, complete=True))
    assert json.loads(document) == {
        "version": "draft-01",
        "generatedAt": 5,
        "isComplete": True,
        "tracks": [],
    }
    assert parse_msf(document).complete


@pytest.mark.parametrize("version", [1, "1", "draft-00", "draft-01", "draft-ietf-moq-msf-01"])
def test_versions_in_the_field(version: object) -> None:
    data = base64.b64encode(b"x").decode()
    (track,) = parse_msf(msf({"initData": data}, version=version)).tracks
    assert track.init == b"x"
    assert track.kind is Kind.VIDEO


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"codec": "opus"}, Kind.AUDIO),
        ({"codec": "flac", "samplerate": 48000}, Kind.AUDIO),
        ({"codec": "av01.0.08M.10"}, Kind.VIDEO),
        ({"codec": "opus", "role": "audio"}, Kind.AUDIO),
    ],
)
def test_kind_without_a_role(fields: dict[str, Any], kind: Kind) -> None:
    (track,) = parse_msf(msf(fields | {"packaging": "loc"})).tracks
    assert track.kind is kind


@pytest.mark.parametrize(
    "fields",
    [
        {"packaging": "mediatimeline"},
        {"packaging": "loc", "role": "caption"},
        {"packaging": "loc", "codec": None},
        {"packaging": 5},
        {"packaging": "loc", "name": ""},
    ],
)
def test_tracks_of_no_use_are_left_out(fields: dict[str, Any]) -> None:
    assert parse_msf(msf(fields)).tracks == ()


def test_namespaces_of_tracks() -> None:
    for value, expected in (
        (["a", "b/c"], (b"a", b"b/c")),
        ("a/b", (b"a", b"b")),
        ("", None),
        (7, None),
    ):
        (track,) = parse_msf(msf({"packaging": "loc", "namespace": value})).tracks
        assert track.namespace == expected


def test_updates_add_and_remove() -> None:
    before = Catalog((VIDEO, SMALL), generated_at=1)
    entry = {"name": "new", "packaging": "cmaf", "role": "video", "codec": "avc1.4D400D"}
    update = {
        "generatedAt": 2,
        "deltaUpdate": [
            {"op": "remove", "tracks": [{"name": "video-720"}]},
            {"op": "add", "tracks": [entry | {"initRef": "i"}]},
        ],
        "initDataList": [{"id": "i", "type": "inline", "data": "aW5pdA=="}],
    }
    after = update_msf(json.dumps(update).encode(), before)
    assert [(track.name, track.init) for track in after.tracks] == [
        ("video-180", b"i"),
        ("new", b"init"),
    ]
    assert after.generated_at == 2
    clone = b'{"deltaUpdate":[{"op":"clone","tracks":[]}]}'
    with pytest.raises(CatalogError, match="'clone'"):
        update_msf(clone, before)
    again = update_msf(build_msf(before), after)
    assert [track.name for track in again.tracks] == ["video-720", "video-180"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "version"),
        (b'{"version":"2"}', "version '2'"),
        (b'{"version":"1","deltaUpdate":[]}', "only an update"),
        (b'{"version":"1","tracks":{}}', "no list of tracks"),
        (msf({}), "no init segment for track 'v'"),
        (msf({"initRef": "nowhere"}), "no init segment"),
        (msf({"initData": "?"}), "not base64"),
        (msf({"packaging": "loc", "namespace": "a//b"}), "namespace"),
    ],
)
def test_documents_that_cannot_be_used(document: bytes, words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        parse_msf(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tracks", "name", "codec", "packaging", "video", "renditions"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(JSON, JSON)
def test_any_json_is_a_catalog_or_an_error(tracks: object, more: object) -> None:
    for parse, root in (
        (parse_msf, {"version": "1", "tracks": tracks, "initDataList": more}),
        (parse_msf, {"version": "1", "tracks": [{"name": "n", "codec": "c", "packaging": "loc"}]}),
        (parse_hang, {"video": tracks, "audio": {"renditions": {"a": more}}}),
    ):
        try:
            parse(json.dumps(root).encode())
        except CatalogError:
            continue


def test_hang_round_trip() -> None:
    parsed = parse_hang(build_hang(CATALOG))
    assert [track.name for track in parsed.tracks] == ["video-720", "video-180", "audio"]
    video, _, audio = parsed.tracks
    assert (video.init, video.width, video.height, video.framerate) == (b"ftyp+moov", 1280, 720, 25)
    assert (audio.init, audio.sample_rate, audio.channels) == (b"audio", 48_000, 2)
    assert {track.packaging for track in parsed.tracks} == {Packaging.CMAF}


def test_hang_with_bare_frames() -> None:
    document = {
        "video": {
            "renditions": {
                "v": {"codec": "avc1.4D401F", "container": "legacy", "description": "0102"},
                "w": {"codec": "avc3.4D401F", "container": {"kind": "loc"}},
                "x": {"codec": "avc3.4D401F"},
                "y": {"codec": "avc3.4D401F", "container": {"kind": "new"}},
            }
        }
    }
    tracks = parse_hang(json.dumps(document).encode()).tracks
    assert [(track.name, track.packaging, track.init) for track in tracks] == [
        ("v", Packaging.LEGACY, b"\x01\x02"),
        ("w", Packaging.LOC, b""),
        ("x", Packaging.LEGACY, b""),
    ]


@pytest.mark.parametrize(
    "entry",
    [
        {"codec": "avc1", "container": {"kind": "cmaf"}},
        {"codec": "avc1", "container": {"kind": "legacy"}, "description": "xyz"},
    ],
)
def test_hang_that_cannot_be_used(entry: dict[str, Any]) -> None:
    with pytest.raises(CatalogError):
        parse_hang(json.dumps({"video": {"renditions": {"v": entry}}}).encode())
