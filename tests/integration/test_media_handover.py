"""Relays that go away under a broadcast: publishers and viewers move to another one."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from integration.harness import Certificate, RelayProcess, free_port, running_relay
from integration.test_chains import trust
from integration.test_media import (
    QUICK,
    SEEN,
    Command,
    Viewer,
    check,
    digests,
    publish,
    wait_for_bytes,
)

GRACE = 120


def redirecting(tmp_path: Path, target: RelayProcess) -> tuple[str, ...]:
    """Arguments of a relay whose clients go to another one when it leaves."""
    spec = tmp_path / "relay.yaml"
    model = {
        "apiVersion": "fastrelay.io/v1alpha1",
        "kind": "MoQRelay",
        "metadata": {"name": "leaving"},
        "spec": {"drain": {"redirect": target.url()}},
    }
    spec.write_text(json.dumps(model))
    return ("-f", str(spec))


async def ends_well(*commands: Command) -> None:
    for running in commands:
        ended = await running.ended()
        assert ended.code == 0, ended.errors


async def grows(viewer: Viewer, size: int) -> None:
    await asyncio.to_thread(wait_for_bytes, viewer.film, viewer.film.stat().st_size + size)


async def test_viewers_follow_a_relay_that_goes_away(
    certificate: Certificate, tmp_path: Path
) -> None:
    """Relay A, which has everything from B, leaves: its viewers go on at B."""
    new, old = Viewer(tmp_path, "new"), Viewer(tmp_path, "old")
    sent_file = tmp_path / "sent.jsonl"
    with running_relay(certificate, tmp_path / "b.log") as b:
        arguments = (*trust(certificate), *redirecting(tmp_path, b))
        with running_relay(
            certificate, tmp_path / "a.log", upstreams=[b.url()], grace=GRACE, arguments=arguments
        ) as a:
            async with (
                publish(b, certificate, "test", "--digests", sent_file, *QUICK) as publisher,
                new.watch(a, certificate, "--draft", "22") as first,
                old.watch(a, certificate, "--draft", "16") as second,
            ):
                for viewer in (new, old):
                    await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
                a.process.send_signal(signal.SIGTERM)
                # Nobody stays, so it need not wait for the end of the grace period.
                assert await asyncio.to_thread(a.process.wait, GRACE / 2) == 0
                for viewer in (new, old):
                    await grows(viewer, SEEN)
                publisher.signal(signal.SIGTERM)
                await ends_well(publisher, first, second)
    sent = digests(sent_file)
    for viewer in (new, old):
        report = await check(viewer, sent)
        assert report["sessions"] == 2


async def test_publisher_and_viewer_move_together(certificate: Certificate, tmp_path: Path) -> None:
    """The publisher is at both relays until nobody watches at the old one."""
    viewer, later = Viewer(tmp_path, "viewer"), Viewer(tmp_path, "later")
    sent_file, published = tmp_path / "sent.jsonl", tmp_path / "published.json"
    with running_relay(certificate, tmp_path / "b.log") as b:
        arguments = redirecting(tmp_path, b)
        with running_relay(certificate, tmp_path / "a.log", grace=GRACE, arguments=arguments) as a:
            async with (
                publish(
                    a,
                    certificate,
                    "test",
                    *("--digests", sent_file, "--json", published),
                    *QUICK,
                ) as publisher,
                viewer.watch(a, certificate) as first,
            ):
                await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
                a.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(a.process.wait, GRACE / 2) == 0
                await grows(viewer, SEEN)
                async with later.watch(b, certificate, "--duration", "1") as second:
                    await ends_well(second)
                publisher.signal(signal.SIGTERM)
                await ends_well(publisher, first)
    assert json.loads(published.read_text())["sessions"] == 2
    report = await check(viewer, digests(sent_file))
    assert report["sessions"] == 2
    assert later.told()["gaps"] == 0


async def test_viewer_comes_back_after_the_relay_did(
    certificate: Certificate, tmp_path: Path
) -> None:
    """A relay that is gone at once costs what was sent meanwhile, and nothing comes twice."""
    port = free_port()
    viewer = Viewer(tmp_path, "viewer")
    with running_relay(certificate, tmp_path / "origin.log") as origin:
        async with publish(origin, certificate, "test", *QUICK) as publisher:
            options: dict[str, Any] = {
                "upstreams": [origin.url()],
                "arguments": trust(certificate),
                "port": port,
            }
            with running_relay(certificate, tmp_path / "edge.log", **options) as edge:
                watching = viewer.watch(edge, certificate)
                running = await watching.__aenter__()
                await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
            try:
                with running_relay(certificate, tmp_path / "edge.log", **options):
                    await grows(viewer, SEEN)
                    publisher.signal(signal.SIGTERM)
                    await ends_well(publisher, running)
            finally:
                await watching.__aexit__(None, None, None)
    report = viewer.told()
    assert (report["sessions"], report["duplicates"], report["late"]) == (2, 0, 0)


async def test_viewer_gives_up_in_time(certificate: Certificate, tmp_path: Path) -> None:
    viewer = Viewer(tmp_path, "viewer")
    with running_relay(certificate, tmp_path / "relay.log") as relay:
        async with publish(relay, certificate, "test", *QUICK):
            watching = viewer.watch(relay, certificate, "--retry", "0")
            running = await watching.__aenter__()
            await asyncio.to_thread(wait_for_bytes, viewer.film, SEEN)
            assert relay.stop() == 0
            try:
                ended = await running.ended()
            finally:
                await watching.__aexit__(None, None, None)
    assert ended.code == 69, ended.errors
    assert "Connection refused" in ended.errors
    assert viewer.told()["gaps"] == 0
