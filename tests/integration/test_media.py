"""Real video: ``fastrelay publish`` through a relay process to ``fastrelay subscribe``."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastrelay.media.source import program
from integration.harness import Certificate, RelayProcess, free_port, running_relay

NAMESPACE = "live/demo"
FILM = Path(__file__).parents[1] / "unit" / "media" / "data" / "fragmented.mp4"
FILM_FRAMES = 30
SECONDS = 4
FRAMERATE = 25
QUICK = ("--renditions", "360,180", "--preset", "ultrafast")
PATIENCE = 60.0
SEEN = 150_000
"""Bytes of a viewer's file that show that it is watching."""


@dataclass(slots=True)
class Ended:
    code: int
    errors: str


class Command:
    """A running ``fastrelay publish`` or ``subscribe``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ended(self) -> Ended:
        async with asyncio.timeout(SECONDS + 2 * PATIENCE):
            output, errors = await self.process.communicate()
        code = self.process.returncode
        assert code is not None
        return Ended(code, (output + errors).decode(errors="replace"))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def command(*arguments: str | Path) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fastrelay.cli",
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def publish(relay: RelayProcess, certificate: Certificate, *arguments: str | Path) -> Any:
    pin = ("--pin", certificate.sha256.hex(), "--namespace", NAMESPACE)
    return command("publish", relay.url(), *pin, *arguments)


@dataclass(slots=True)
class Viewer:
    """What a subscriber writes, in files of its own."""

    directory: Path
    name: str

    @property
    def film(self) -> Path:
        return self.directory / f"{self.name}.mp4"

    @property
    def digests(self) -> Path:
        return self.directory / f"{self.name}.jsonl"

    @property
    def report(self) -> Path:
        return self.directory / f"{self.name}.json"

    def watch(
        self,
        relay: RelayProcess,
        certificate: Certificate,
        *arguments: str,
        webtransport: bool = False,
    ) -> Any:
        return command(
            *("subscribe", relay.url(webtransport=webtransport), "--namespace", NAMESPACE),
            *("--pin", certificate.sha256.hex(), "--wait", str(PATIENCE)),
            *("--output", self.film, "--json", self.report, "--digests", self.digests),
            *arguments,
        )

    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.report.read_text()))


def digests(path: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {(line["track"], line["group"], line["object"]): line for line in lines}
    assert len(found) == len(lines), "an object twice"
    return found


def wait_for_bytes(film: Path, size: int) -> None:
    """Until a file that another process writes has so many."""
    deadline = time.monotonic() + PATIENCE
    while not film.exists() or film.stat().st_size < size:
        assert time.monotonic() < deadline, f"{film} does not grow"
        time.sleep(0.05)


def wait_for_viewers(relay: RelayProcess, count: int) -> None:
    """Until so many are there, of a broadcast that ends by itself: who comes late may miss it."""
    deadline = time.monotonic() + PATIENCE
    while len(relay.status()["sessions"]) < count:
        assert time.monotonic() < deadline, f"not {count} sessions: {relay.status()}"
        time.sleep(0.05)


async def decoded_frames(film: Path, *, whole: bool = True) -> dict[str, int]:
    """Frames by codec that ffmpeg decodes; without a word of complaint if the film is whole."""
    process = await asyncio.create_subprocess_exec(
        *(program("ffprobe"), "-v", "warning", "-count_frames", "-of", "csv=p=0"),
        *("-show_entries", "stream=codec_name,nb_read_frames", str(film)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert not (whole and errors), errors.decode(errors="replace")
    pairs = (line.split(",") for line in output.decode().split())
    return {codec: int(count) for codec, count in pairs}


async def check(viewer: Viewer, sent: dict[tuple[str, int, int], dict[str, Any]]) -> dict[str, Any]:
    """The viewer has all that was sent on its tracks from its first group on, and only that."""
    report = viewer.told()
    for fault in ("gaps", "duplicates", "missing_groups", "late", "resets", "malformed"):
        assert report[fault] == 0, f"{viewer.name}: {fault}: {json.dumps(report)}"
    received = digests(viewer.digests)
    for track in report["tracks"]:
        first = min(group for name, group, _ in received if name == track)
        expected = {key for key in sent if key[0] == track and key[1] >= first}
        assert {key for key in received if key[0] == track} == expected
    for key, line in received.items():
        for field in ("sha256", "time"):
            assert line[field] == sent[key][field], key
        assert line["latency"] == pytest.approx(line["received"] - line["time"], abs=1e-5)
        assert line["received"] >= sent[key]["sent"] - 0.005
    frames = await decoded_frames(viewer.film)
    by_kind = {track["kind"]: track["frames"] for track in report["tracks"].values()}
    assert frames.get("h264") == by_kind["video"]
    assert frames.get("aac") == by_kind.get("audio")
    return report


async def test_cmaf_to_viewers_of_every_draft_and_transport(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    best, small, old = (Viewer(tmp_path, name) for name in ("best", "small", "old"))
    sent_file = tmp_path / "sent.jsonl"
    async with (
        best.watch(relay, certificate, "--draft", "18") as a,
        small.watch(
            relay, certificate, "--draft", "22", "--rendition", "180", webtransport=True
        ) as b,
        old.watch(relay, certificate, "--draft", "16", "--bandwidth", "500k", "--no-audio") as c,
        publish(relay, certificate, "test", "--digests", sent_file, *QUICK) as publisher,
    ):
        for viewer in (best, small, old):
            await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
        publisher.signal(signal.SIGTERM)
        for running in (publisher, a, b, c):
            ended = await running.ended()
            assert ended.code == 0, ended.errors
    sent = digests(sent_file)
    reports = [await check(viewer, sent) for viewer in (best, small, old)]
    assert [report["draft"] for report in reports] == ["moqt-18", "moqt-22", "moqt-16"]
    assert [report["transport"] for report in reports] == ["QUIC", "WebTransport", "QUIC"]
    assert [list(report["tracks"]) for report in reports] == [
        ["video-360", "audio"],
        ["video-180", "audio"],
        ["video-180"],
    ]
    for report in reports:
        video = next(iter(report["tracks"].values()))
        assert 0 < video["latency_ms"]["p50"] < 10_000


async def test_loc_across_drafts(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    """Properties are re-encoded between draft 16 and the others; payloads stay as they are. One
    viewer leaves the rendition to the relay: a film of several of them can be decoded, too."""
    viewers = [Viewer(tmp_path, "new"), Viewer(tmp_path, "old"), Viewer(tmp_path, "auto")]
    sent_file = tmp_path / "sent.jsonl"
    async with (
        viewers[0].watch(relay, certificate, "--draft", "22") as a,
        viewers[1].watch(relay, certificate, "--draft", "16", webtransport=True) as b,
        viewers[2].watch(relay, certificate, "--auto") as c,
    ):
        await asyncio.to_thread(wait_for_viewers, relay, len(viewers))
        async with publish(
            relay,
            certificate,
            "test",
            *("--packaging", "loc", "--loc-properties", "full", "--draft", "16"),
            *("--duration", str(SECONDS), "--digests", sent_file),
            *QUICK,
        ) as publisher:
            for running in (publisher, a, b, c):
                ended = await running.ended()
                assert ended.code == 0, ended.errors
    sent = digests(sent_file)
    assert sum(key[0] == "video-360" for key in sent) == SECONDS * FRAMERATE
    for viewer in viewers:
        received = digests(viewer.digests)
        video = "auto:1" if viewer.name == "auto" else "video-360"
        for (track, *place), line in received.items():
            names = ("video-360", "video-180") if track == "auto:1" else (track,)
            originals = {sent[(name, *place)]["sha256"]: sent[(name, *place)] for name in names}
            assert line["time"] == pytest.approx(originals[line["sha256"]]["time"], abs=1e-5)
        report = viewer.told()
        assert (report["gaps"], report["duplicates"], report["malformed"]) == (0, 0, 0)
        frames = await decoded_frames(viewer.film)
        assert frames["h264"] == report["tracks"][video]["frames"]
        assert frames["aac"] == report["tracks"]["audio"]["frames"]


async def test_a_film_without_sound_published_once(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    viewer = Viewer(tmp_path, "viewer")
    sent_file = tmp_path / "sent.jsonl"
    async with viewer.watch(relay, certificate, "--start", "current") as watching:
        await asyncio.to_thread(wait_for_viewers, relay, 1)
        async with publish(
            relay, certificate, FILM, "--digests", sent_file, "--preset", "ultrafast"
        ) as publisher:
            for running in (publisher, watching):
                ended = await running.ended()
                assert ended.code == 0, ended.errors
    sent = digests(sent_file)
    assert sum(key[0] == "video-108" for key in sent) == FILM_FRAMES
    report = await check(viewer, sent)
    assert list(report["tracks"]) == ["video-108"]


async def test_late_viewer_has_a_picture_from_the_start_of_the_current_group(
    certificate: Certificate, tmp_path: Path
) -> None:
    """With groups of a minute, waiting for the next one would take longer than this test. The
    relay keeps the track while nobody watches."""
    early, late = Viewer(tmp_path, "early"), Viewer(tmp_path, "late")
    sent_file = tmp_path / "sent.jsonl"
    source = ("test", "--gop", "60", "--digests", sent_file)
    spec = {"cache": {"lingerSeconds": 120}}
    with running_relay(certificate, tmp_path / "relay.log", spec=spec) as relay:
        async with publish(relay, certificate, *source, *QUICK) as publisher:
            await asyncio.to_thread(wait_for_bytes, sent_file, 10_000)
            async with early.watch(relay, certificate, "--wait", "2") as watching:
                ended = await watching.ended()
                assert ended.code == 1, "there is no next group in time"
                assert "no frame" in ended.errors
            async with late.watch(
                relay, certificate, "--start", "current", "--duration", "1"
            ) as watching:
                ended = await watching.ended()
                assert ended.code == 0, ended.errors
            publisher.signal(signal.SIGTERM)
            assert (await publisher.ended()).code == 0
    report = late.told()
    assert (report["gaps"], report["duplicates"], report["missing_groups"]) == (0, 0, 0)
    received = digests(late.digests)
    for track in report["tracks"]:
        assert min(number for name, _, number in received if name == track) == 0
    assert (await decoded_frames(late.film))["h264"] == report["tracks"]["video-360"]["frames"]


async def test_signals_end_both_in_good_order(
    relay: RelayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    leaving, staying = Viewer(tmp_path, "leaving"), Viewer(tmp_path, "staying")
    sent_file = tmp_path / "sent.jsonl"
    async with (
        leaving.watch(relay, certificate) as first,
        staying.watch(relay, certificate) as second,
        publish(relay, certificate, "test", "--digests", sent_file, *QUICK) as publisher,
    ):
        for viewer in (leaving, staying):
            await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
        first.signal(signal.SIGINT)
        ended = await first.ended()
        assert ended.code == 0, ended.errors
        publisher.signal(signal.SIGTERM)
        for running in (publisher, second):
            ended = await running.ended()
            assert ended.code == 0, ended.errors
    frames = await decoded_frames(leaving.film)
    assert frames["h264"] == leaving.told()["tracks"]["video-360"]["frames"]
    await check(staying, digests(sent_file))


async def test_publisher_comes_back_after_the_relay_did(
    certificate: Certificate, tmp_path: Path
) -> None:
    port = free_port()
    log = tmp_path / "relay.log"
    report_file = tmp_path / "published.json"
    before, after = Viewer(tmp_path, "before"), Viewer(tmp_path, "after")
    with running_relay(certificate, log, port=port) as relay:
        publisher = publish(relay, certificate, "test", "--json", report_file, *QUICK)
        running = await publisher.__aenter__()
        async with before.watch(relay, certificate, "--duration", "0.5") as watching:
            ended = await watching.ended()
            assert ended.code == 0, ended.errors
    try:
        with running_relay(certificate, log, port=port) as relay:
            async with after.watch(relay, certificate, "--duration", "1") as watching:
                ended = await watching.ended()
                assert ended.code == 0, ended.errors
            running.signal(signal.SIGTERM)
            ended = await running.ended()
            assert ended.code == 0, ended.errors
    finally:
        await publisher.__aexit__(None, None, None)
    assert json.loads(report_file.read_text())["sessions"] == 2
    assert after.told()["gaps"] == 0
    assert min(key[1] for key in digests(after.digests)) > max(
        key[1] for key in digests(before.digests)
    )


async def test_no_broadcast_and_no_relay_are_told(
    relay: RelayProcess, certificate: Certificate
) -> None:
    pin = ("--pin", certificate.sha256.hex(), "--namespace", NAMESPACE)
    async with command("subscribe", relay.url(), *pin, "--wait", "0") as running:
        ended = await running.ended()
        assert ended.code == 1
        assert "no broadcast live/demo" in ended.errors
    nowhere = f"moqt://127.0.0.1:{free_port()}"
    async with command("subscribe", nowhere, *pin) as running:
        ended = await running.ended()
        assert ended.code == 69, ended.errors
    wrong = ("--pin", "00" * 32, "--namespace", NAMESPACE)
    async with command("subscribe", relay.url(), *wrong) as running:
        ended = await running.ended()
        assert ended.code == 69, ended.errors
