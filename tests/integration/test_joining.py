"""Clients that others wrote join where a group has no more objects."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from fastrelay.client import SubgroupEnd
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from integration.harness import (
    THIRD_PARTY,
    Certificate,
    RelayProcess,
    end,
    running_relay,
    start_third_party,
)
from integration.pair import TIMEOUT, Pair, receive
from integration.third_party.content import OBJECTS_PER_GROUP, digest, payload

TRACK = "track"


@pytest.mark.parametrize("alone", [False, True], ids=["behind-another", "alone"])
@pytest.mark.parametrize("late", [False, True], ids=["after-the-end", "before-the-end"])
@pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22, DRAFT_16], ids=str)
async def test_moq_rs_learns_that_the_group_it_has_fetched_is_whole(
    draft: Draft, late: bool, alone: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """It holds the group for unfinished until a stream of its subscription ends it, and would give
    it up after a minute. Nothing comes that could have made it do so earlier. Alone: the relay
    joins with it, and has only what it fetches, too."""
    spec = {"cache": {"replayCurrentGroup": False}}
    with running_relay(
        certificate, tmp_path / "relay.log", drafts=[draft.number], spec=spec
    ) as relay:
        pair = Pair(relay, certificate, "joining")
        async with pair.track(draft) as track, pair.client(draft) as early:
            first = None if alone else await early.subscribe(pair.name)
            subgroup = track.open_subgroup(0, end_of_group=True)
            for obj in range(OBJECTS_PER_GROUP):
                subgroup.write(payload(TRACK, 0, obj))
            if first is not None:
                await receive(first, OBJECTS_PER_GROUP)
            if not late:
                subgroup.close()
            if first is not None and not late:
                async with asyncio.timeout(TIMEOUT):
                    assert isinstance(await anext(aiter(first)), SubgroupEnd)
            namespace = "/".join(part.decode() for part in pair.name.namespace)
            viewer = await start_third_party(
                str(THIRD_PARTY / "moqrs_subscribe.py"), relay.url(), "-", namespace, TRACK
            )
            try:
                async with asyncio.timeout(TIMEOUT):
                    if late:
                        await until_subscribed(relay, 1 if alone else 2)
                        subgroup.close()
                    lines = [await line(viewer) for _ in range(OBJECTS_PER_GROUP)]
            finally:
                said = await end(viewer)
    expected = [f"0 {obj} {digest(payload(TRACK, 0, obj))}" for obj in range(OBJECTS_PER_GROUP)]
    assert lines == expected, said


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def until_subscribed(relay: RelayProcess, count: int) -> None:
    while True:
        status = await asyncio.to_thread(relay.status)
        if sum(len(each["subscriptions"]) for each in status["sessions"]) >= count:
            return
        await asyncio.sleep(0.1)
