"""From the encoder's outputs to groups and objects."""

from __future__ import annotations

import pytest

from fastrelay.catalog import Kind, Packaging, build_msf, parse_msf
from fastrelay.media.broadcast import Broadcast, MediaObject
from fastrelay.media.cmaf import ChunkReader, Defaults, parse_init
from fastrelay.media.flv import FlvConfig, FlvFrame
from fastrelay.media.formats import MediaError
from fastrelay.media.loc import Properties
from fastrelay.media.readers import reader_for
from fastrelay.moqt.keyvalue import decode
from fastrelay.moqt.varint import LEADING_ONES
from unit.media.golden import AUDIO, FRAMES, GOP, VIDEO, encoding, items

ORIGIN = 1_795_231_268_518
FIRST_GROUP = ORIGIN // 1000


def ignore() -> None:
    """The broadcast is ready."""


def run(packaging: Packaging = Packaging.CMAF) -> tuple[Broadcast, list[MediaObject]]:
    """Two renditions and audio, their items interleaved as pipes deliver them."""
    objects: list[MediaObject] = []
    broadcast = Broadcast(encoding(216, 108), packaging, Properties.MINIMAL, ignore, objects.append)
    broadcast.begin(ORIGIN)
    feeds = {name: iter(items(VIDEO)) for name in ("video-216", "video-108")}
    feeds["audio"] = iter(items(AUDIO))
    while feeds:
        for name, feed in list(feeds.items()):
            item = next(feed, None)
            if item is None:
                del feeds[name]
            else:
                broadcast.item(name, item)
    return broadcast, objects


def of(objects: list[MediaObject], track: str) -> list[MediaObject]:
    return [item for item in objects if item.track == track]


def test_every_frame_is_an_object_and_renditions_are_aligned() -> None:
    _, objects = run()
    large, small = of(objects, "video-216"), of(objects, "video-108")
    assert len(large) == len(small) == FRAMES
    assert [(o.group, o.begins, o.ends, o.time) for o in large] == [
        (o.group, o.begins, o.ends, o.time) for o in small
    ]
    assert [o.group for o in large if o.begins] == [FIRST_GROUP, FIRST_GROUP + 1, FIRST_GROUP + 2]
    assert [n for n, o in enumerate(large) if o.ends] == [GOP - 1, 2 * GOP - 1, 3 * GOP - 1]
    assert large[0].time == ORIGIN / 1000


def test_audio_groups_have_the_same_ids() -> None:
    _, objects = run()
    audio = of(objects, "audio")
    starts = {o.group: o.time for o in of(objects, "video-216") if o.begins}
    assert {o.group for o in audio} <= starts.keys()
    assert all(starts[o.group] <= o.time < starts[o.group] + 1 for o in audio)
    assert [o.group for o in audio if o.begins] == sorted({o.group for o in audio})


def test_cmaf_objects_say_the_same_time() -> None:
    _, objects = run()
    for item in objects:
        (sample,) = ChunkReader(Defaults(1)).read(item.payload)
        assert sample == item.sample
        assert item.properties == b""


def test_priorities_let_the_small_picture_survive() -> None:
    broadcast, _ = run()
    assert broadcast.bitrate == 216_000 + 108_000 + 32_000
    assert broadcast.track_priorities == {"video-216": 96, "video-108": 64, "audio": 32}


def test_the_catalog_describes_what_was_encoded() -> None:
    broadcast, _ = run()
    catalog = parse_msf(build_msf(broadcast.catalog(1, 500)))
    video, small, audio = catalog.tracks
    assert (video.name, small.name, audio.name) == ("video-216", "video-108", "audio")
    assert (video.width, video.height, video.framerate) == (192, 108, 10)
    assert (video.bitrate, video.group_duration, video.target_latency) == (216_000, 1000, 500)
    assert (audio.codec, audio.sample_rate, audio.channels) == ("mp4a.40.2", 48_000, 2)
    assert parse_init(video.init)[0].codec == video.codec


def test_loc_is_readable_with_the_catalog() -> None:
    broadcast, objects = run(Packaging.LOC)
    catalog = parse_msf(build_msf(broadcast.catalog(1, 500)))
    assert [track.codec[:4] for track in catalog.tracks] == ["avc3", "avc3", "mp4a"]
    for track in catalog.tracks:
        reader = reader_for(track)
        for item in of(objects, track.name):
            properties = list(decode(item.properties, LEADING_ONES))
            (sample,) = reader.read(item.payload, properties, first=item.begins)
            assert sample.key == item.sample.key
            assert abs(sample.time / 1e6 - item.time) < 1e-5


def test_nothing_goes_out_before_all_formats_are_known() -> None:
    objects: list[MediaObject] = []
    broadcast = Broadcast(encoding(108), Packaging.CMAF, Properties.MINIMAL, ignore, objects.append)
    broadcast.begin(ORIGIN)
    for item in items(VIDEO):
        broadcast.item("video-108", item)
    assert not objects
    assert not broadcast.ready
    with pytest.raises(MediaError, match="audio is not known"):
        broadcast.catalog(1, 500)
    broadcast.item("audio", items(AUDIO)[0])
    assert broadcast.ready
    assert len(objects) == FRAMES


def test_an_encoder_that_misbehaves_is_found_out() -> None:
    broadcast, _ = run()
    with pytest.raises(MediaError, match="without a key frame"):
        broadcast.item("video-108", FlvFrame(Kind.VIDEO, 3000, False, b"x"))
    with pytest.raises(MediaError, match="changed the format"):
        broadcast.item("video-108", FlvConfig(Kind.VIDEO, b"other"))
