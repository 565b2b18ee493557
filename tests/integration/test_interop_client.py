"""aiomoqt's own tests of relays, and its benchmarks: every case on each draft and transport."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest

from integration.harness import (
    RelayProcess,
    end,
    start_third_party,
    third_party,
)

CASES = 12
EXTRA_CASES = ("fetch", "join")
NOT_IN_DRAFT = {18: [], 22: [], 16: ["rendezvous-timeout"]}
"""What the client itself leaves out; everything else must pass without a note."""


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_interop_client(draft: int, webtransport: bool, shared_relay: RelayProcess) -> None:
    common = [
        *("-m", "aiomoqt.tools.moq_interop_client"),
        *("-r", shared_relay.url(webtransport=webtransport)),
        *("--tls-disable-verify", "--draft", str(draft)),
    ]
    runs = await asyncio.gather(
        third_party(*common, seconds=120),
        *(third_party(*common, "-t", case, seconds=120) for case in EXTRA_CASES),
    )
    for run, cases in zip(runs, (CASES, 1, 1), strict=True):
        report = f"{run.output}\n{run.errors[-3000:]}"
        results = re.findall(r"^(not ok|ok) \d+ - (\S+)(.*)$", run.output, re.MULTILINE)
        assert len(results) == cases, report
        wrong = [
            name
            for verdict, name, note in results
            if verdict != "ok" or (note and name not in NOT_IN_DRAFT[draft])
        ]
        assert not wrong, f"{wrong}\n{report}"
        assert run.code == 0, report


@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_benches(draft: int, shared_relay: RelayProcess) -> None:
    """At a rate far below what is possible nothing is lost, in streams and in datagrams."""
    await asyncio.gather(
        bench(shared_relay, draft, "streams", []), bench(shared_relay, draft, "datagrams", ["-D"])
    )


async def bench(relay: RelayProcess, draft: int, track: str, options: list[str]) -> None:
    common = [relay.url(), "-k", "--draft", str(draft), "-N", f"bench{draft}", "-T", track]
    publisher = await start_third_party(
        *("-u", "-m", "aiomoqt.tools.pub_bench", *common),
        *("-s", "1000", "-g", "30", "-r", "60", "--pub-ns", *options),
    )
    try:
        await until(publisher, b"Published")
        run = await third_party("-m", "aiomoqt.tools.sub_bench", *common, "-t", "3", seconds=120)
    finally:
        publisher.send_signal(signal.SIGINT)
        await end(publisher)
    report = f"{run.output}\n{run.errors[-3000:]}"
    objects = re.search(r"Objects:\s+([\d,]+)", run.output)
    lost = re.search(r"Lost:\s+(\d+)", run.output)
    assert objects is not None, report
    assert lost is not None, report
    assert int(objects[1].replace(",", "")) >= 60, report
    assert int(lost[1]) == 0, report


async def until(process: asyncio.subprocess.Process, text: bytes) -> None:
    """Read the program's output until a line has this in it."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while text not in (line := await process.stdout.readline()):
            assert line, "the program ended"
