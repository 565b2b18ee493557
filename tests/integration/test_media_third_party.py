"""Real video between our publisher and subscriber and programs that others wrote."""

from __future__ import annotations

import asyncio
import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from fastrelay.client import ReceivedObject, Subscription
from fastrelay.media.discovery import find_catalog
from fastrelay.media.source import program
from fastrelay.moqt.names import FullTrackName
from integration.harness import (
    THIRD_PARTY,
    Certificate,
    RelayProcess,
    connect,
    end,
    start_third_party,
    third_party,
)
from integration.test_media import NAMESPACE, PATIENCE, QUICK, Viewer, decoded_frames, publish

FLV = Path(__file__).parents[1] / "unit" / "media" / "data"
CODECS = {"video-360": "h264", "video-180": "h264", "audio": "aac"}
FRAMES = 60
FRAMERATE = 25


async def test_moq_rs_watches_our_broadcast(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    """By moq-dev's catalog and its reader of CMAF."""
    async with publish(relay, certificate, "test", *QUICK) as publisher:
        watched = await third_party(
            str(THIRD_PARTY / "moqrs_watch.py"),
            *(relay.url(), NAMESPACE, "video-180", str(FRAMES)),
            seconds=PATIENCE + 10,
        )
        assert watched.code == 0, watched.errors
        publisher.process.terminate()
        assert (await publisher.ended()).code == 0
    told = json.loads(watched.output.splitlines()[-1])
    assert sorted(told["tracks"]) == ["audio", "video-180", "video-360"]
    times = told["video"]["times"]
    assert len(times) == FRAMES
    assert {after - before for before, after in pairwise(times)} == {1_000_000 // FRAMERATE}
    assert told["video"]["keys"] >= FRAMES // FRAMERATE
    assert abs(told["audio"]["times"][0] - times[0]) < 2_000_000


async def past_a_group(subscription: Subscription) -> None:
    """Until objects of a further group have come."""
    seen: set[int] = set()
    async for item in subscription:
        if isinstance(item, ReceivedObject):
            seen.add(item.location.group)
        if len(seen) > 1:
            return


async def go_on_reading(subscription: Subscription) -> None:
    async for _ in subscription:
        pass


async def test_aiomoqt_records_our_broadcast(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    """By the MSF catalog; it takes every rendition.

    A group whose beginning the publisher has no more is recorded without it, so somebody watches
    already: the relay has whole groups then.
    """
    async with (
        publish(relay, certificate, "test", *QUICK) as publisher,
        connect(relay.url(), options=certificate.client_options) as client,
    ):
        namespace = tuple(map(str.encode, NAMESPACE.split("/")))
        await find_catalog(client, namespace, PATIENCE)
        watching = []
        for name in CODECS:
            subscription = await client.subscribe(FullTrackName(namespace, name.encode()))
            await past_a_group(subscription)
            watching.append(asyncio.create_task(go_on_reading(subscription)))
        recorded = await third_party(
            *("-m", "aiomoqt.tools.sub_media", relay.url(), "-k", "--draft", "18"),
            *("-N", NAMESPACE, "-t", "4", "--out", str(tmp_path)),
            seconds=PATIENCE,
        )
        assert recorded.code == 0, recorded.errors
        for task in watching:
            task.cancel()
        publisher.process.terminate()
        assert (await publisher.ended()).code == 0
    for name, codec in CODECS.items():
        # What comes before it has read SUBSCRIBE_OK never reaches its recorder.
        frames = await decoded_frames(tmp_path / f"{name}.mp4", whole=False)
        assert frames[codec] >= 2 * FRAMERATE


@pytest.mark.parametrize("packaging", ["cmaf", "loc"])
async def test_aiomoqt_publishes_for_our_viewer(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path, packaging: str
) -> None:
    film = tmp_path / "film.mp4"
    inputs = (part for name in ("video", "audio") for part in ("-i", str(FLV / f"{name}.flv")))
    await asyncio.to_thread(
        subprocess.run,
        [program("ffmpeg"), "-v", "error", *inputs, "-c", "copy", str(film)],
        check=True,
    )
    viewer = Viewer(tmp_path, "viewer")
    async with viewer.watch(relay, certificate, "--draft", "18", "--duration", "3") as watching:
        publisher = await start_third_party(
            *("-m", "aiomoqt.tools.pub_media", relay.url(), "-k", "--draft", "18", "--pub-ns"),
            *("-N", NAMESPACE, "--mp4", str(film), "--loop", "--packaging", packaging),
            *("-t", "30", "--no-stats"),
        )
        try:
            ended = await watching.ended()
        finally:
            publisher.terminate()
            said = await end(publisher)
        assert ended.code == 0, ended.errors + said
    report = viewer.told()
    assert (report["duplicates"], report["malformed"], report["missing_groups"]) == (0, 0, 0)
    frames = await decoded_frames(viewer.film)
    tracks = {track["kind"]: track["frames"] for track in report["tracks"].values()}
    assert frames == {"h264": tracks["video"], "aac": tracks["audio"]}
    assert tracks["video"] >= 20
