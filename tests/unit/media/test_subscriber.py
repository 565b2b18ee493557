"""A viewer whose catalog changes and whose relay goes away, without a network."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from fastrelay.catalog import Catalog, CatalogTrack, Kind, Packaging, build_msf
from fastrelay.client import Client, ConnectFailedError
from fastrelay.media import subscriber as module
from fastrelay.media.cmaf import chunk, init_segment
from fastrelay.media.formats import FormatChangedError, MediaError, Sample
from fastrelay.media.intake import Intake
from fastrelay.media.report import Report
from fastrelay.media.subscriber import Dial, SubscribeOptions, Subscriber, choose_video
from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.moqt.names import FullTrackName
from unit.client.wire import joined, settle
from unit.media.golden import video_format

NAMESPACE = (b"live", b"demo")
INIT = init_segment([video_format()])
TRACK = CatalogTrack("v", Kind.VIDEO, Packaging.CMAF, video_format().codec, init=INIT)
OTHER = replace(TRACK, name="other")
PER_GROUP = 5
EPOCH = 1_795_231_268


class Server:
    """The far end of a session: a broadcast with one video track that counts."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.catalog_track = client.add_track(FullTrackName(NAMESPACE, b"catalog"), keep_groups=1)
        self.video = client.add_track(FullTrackName(NAMESPACE, b"v"))
        self._catalogs = 0

    def catalog(self, *tracks: CatalogTrack, complete: bool = False) -> None:
        self.document(build_msf(Catalog(tracks, complete=complete)))

    def document(self, document: bytes) -> None:
        subgroup = self.catalog_track.open_subgroup(self._catalogs, end_of_group=True)
        subgroup.write(document)
        subgroup.close()
        self._catalogs += 1

    def group(self, group: int) -> None:
        subgroup = self.video.open_subgroup(group, end_of_group=True)
        for number in range(PER_GROUP):
            index = group * PER_GROUP + number
            sample = Sample(EPOCH * 90_000 + index * 3600, 3600, number == 0, b"%d" % index)
            subgroup.write(chunk(sample, index + 1))
        subgroup.close()


class Viewing:
    """A running subscriber; ``servers``: the far ends of its sessions, ``uris`` where it went."""

    def __init__(self, retry: float) -> None:
        self.servers: list[Server] = []
        self.uris: list[str | None] = []
        self.said: list[str] = []
        self.unreachable = False
        self.subscriber = Subscriber(
            SubscribeOptions(NAMESPACE, rendition="v", patience=5.0, retry=retry),
            notify=self.said.append,
        )
        self.file = io.BytesIO()
        self.run = asyncio.create_task(
            self.subscriber.run(self.dial(), asyncio.Event(), [self.file])
        )

    def dial(self) -> Dial:
        @asynccontextmanager
        async def connect(uri: str | None) -> AsyncIterator[Client]:
            if self.unreachable:
                raise ConnectFailedError("nobody there")
            async with joined(DRAFT_18) as (client, far):
                server = Server(far)
                server.catalog(TRACK, OTHER)
                self.servers.append(server)
                self.uris.append(uri)
                yield client

        return connect

    @property
    def frames(self) -> int:
        track = self.subscriber.report.tracks.get("v")
        return 0 if track is None else track.frames

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                assert not self.run.done() or self.run.result() is None
                await asyncio.sleep(0)

    async def watching(self, number: int = 0) -> Server:
        await self.until(
            lambda: len(self.servers) > number and self.servers[number].video.subscribers
        )
        return self.servers[number]


@asynccontextmanager
async def viewing(retry: float = 5.0) -> AsyncIterator[Viewing]:
    running = Viewing(retry)
    try:
        yield running
    finally:
        running.run.cancel()
        await asyncio.gather(running.run, return_exceptions=True)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST_OBJECTS", 0.01)


@pytest.mark.parametrize("remaining", [(), (OTHER,)])
async def test_the_end_of_the_track_in_the_catalog_is_the_end(
    remaining: tuple[CatalogTrack, ...],
) -> None:
    async with viewing() as viewer:
        server = await viewer.watching()
        server.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        server.catalog(*remaining, complete=not remaining)
        await viewer.run
        assert viewer.said == (["the catalog no longer has v"] if remaining else [])


async def test_an_update_of_the_catalog_removes_the_track() -> None:
    async with viewing() as viewer:
        server = await viewer.watching()
        server.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        server.document(b'{"deltaUpdate":[{"op":"remove","tracks":[{"name":"other"}]}]}')
        server.document(b"not a catalog")
        server.group(2)
        await viewer.until(lambda: viewer.frames == 2 * PER_GROUP)
        server.document(b'{"deltaUpdate":[{"op":"remove","tracks":[{"name":"v"}]}]}')
        await viewer.run


async def test_another_format_ends_with_a_sentence_and_a_complete_file() -> None:
    async with viewing() as viewer:
        server = await viewer.watching()
        server.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        server.catalog(replace(TRACK, bitrate=1), OTHER)
        await settle()
        assert not viewer.run.done()
        server.catalog(replace(TRACK, init=INIT + b"\0\0\0\x08free"), OTHER)
        with pytest.raises(FormatChangedError, match="format of v has changed"):
            await viewer.run
        assert viewer.file.getvalue().startswith(INIT[:8])


async def test_goaway_is_followed_without_gap_or_duplicate() -> None:
    async with viewing() as viewer:
        old = await viewer.watching()
        old.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        old.client.session.goaway("moqt://elsewhere:1", 60_000)
        new = await viewer.watching(1)
        for group in (2, 3):  # for a while both have it
            old.group(group)
            new.group(group)
        await viewer.until(lambda: old.client.closed)
        new.group(4)
        new.video.end()
        await viewer.run
        assert viewer.uris == [None, "moqt://elsewhere:1"]
        report = viewer.subscriber.report.as_json()
        assert viewer.frames == 4 * PER_GROUP
        faults = ("gaps", "duplicates", "missing_groups", "late", "resets", "malformed")
        assert {fault: report[fault] for fault in faults} == dict.fromkeys(faults, 0)
        assert report["sessions"] == 2


async def test_a_lost_session_is_opened_again() -> None:
    async with viewing() as viewer:
        old = await viewer.watching()
        old.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        old.client.close(reason="power cut")
        new = await viewer.watching(1)
        new.group(1)
        new.group(3)
        new.video.end()
        await viewer.run
        report = viewer.subscriber.report.as_json()
        assert viewer.frames == 2 * PER_GROUP
        assert (report["gaps"], report["missing_groups"], report["duplicates"]) == (1, 1, 0)
        assert "power cut; trying again for 5 s" in viewer.said[0]


async def test_a_viewer_that_may_not_retry_gives_up() -> None:
    async with viewing(retry=0.0) as viewer:
        old = await viewer.watching()
        old.group(1)
        await viewer.until(lambda: viewer.frames == PER_GROUP)
        viewer.unreachable = True
        old.client.close()
        with pytest.raises(ConnectFailedError):
            await viewer.run


def test_choice_of_a_rendition() -> None:
    best = CatalogTrack(
        "video-720", Kind.VIDEO, Packaging.LOC, "avc1.4D401F", bitrate=2_500_000, height=720
    )
    small = CatalogTrack(
        "video-180", Kind.VIDEO, Packaging.LOC, "avc1.4D400D", bitrate=300_000, height=180
    )
    catalog = Catalog((best, small))
    assert choose_video(catalog) is best
    assert choose_video(catalog, bandwidth=2_000_000) is small
    assert choose_video(catalog, bandwidth=1) is small
    for name in ("video-180", "180", "180p"):
        assert choose_video(catalog, name=name) is small
    with pytest.raises(MediaError, match="video-720, video-180"):
        choose_video(catalog, name="audio")
    with pytest.raises(MediaError, match="no video"):
        choose_video(Catalog(()))


def test_renditions_of_cmaf_make_no_file() -> None:
    intake = Intake(Report("live/demo"), None)
    track = replace(TRACK, alt_group=1)
    with pytest.raises(MediaError, match="--packaging loc"):
        intake.begin([track], [io.BytesIO()], 0.2, automatic=True)
    intake.begin([track], [], 0.2, automatic=True)
    (channel,) = intake.channels
    assert channel.name == b"auto:1"
    # As long as there is one rendition, the content is there.
    assert intake.catalog(Catalog((replace(OTHER, alt_group=1),))) == []
    assert intake.catalog(Catalog((OTHER,))) == ["v"]
