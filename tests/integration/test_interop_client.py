"""aiomoqt's own tests of relays, and its benchmarks: every case on each draft and transport."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from integration.harness import Certificate, RelayProcess, running_relay, third_party

CASES = 12
EXTRA_CASES = ("fetch", "join")


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_interop_client(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    with running_relay(certificate, tmp_path / "relay.log") as relay:
        common = [
            *("-m", "aiomoqt.tools.moq_interop_client"),
            *("-r", relay.url(webtransport=webtransport)),
            *("--tls-disable-verify", "--draft", str(draft)),
        ]
        runs = await asyncio.gather(
            third_party(*common, seconds=90),
            *(third_party(*common, "-t", case, seconds=60) for case in EXTRA_CASES),
        )
    for run, cases in zip(runs, (CASES, 1, 1), strict=True):
        report = f"{run.output}\n{run.errors[-3000:]}"
        results = re.findall(r"^(not ok|ok) \d+ - (\S+)(.*)$", run.output, re.MULTILINE)
        assert len(results) == cases, report
        wrong = [name for verdict, name, note in results if verdict != "ok" or note.strip()]
        assert not wrong, f"{wrong}\n{report}"
        assert run.code == 0, report


@pytest.mark.parametrize("datagrams", [False, True], ids=["streams", "datagrams"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_benches(draft: int, datagrams: bool, relay: RelayProcess) -> None:
    """At a rate far below what is possible nothing is lost, and groups are whole."""
    common = [relay.url(), "-k", "--draft", str(draft), "-N", "bench", "-T", "track"]
    publisher = asyncio.create_task(
        third_party(
            *("-m", "aiomoqt.tools.pub_bench", *common),
            *("-s", "1000", "-g", "30", "-r", "60", "--pub-ns", "-t", "8"),
            *(["-D"] if datagrams else []),
            seconds=40,
        )
    )
    subscribed = await third_party("-m", "aiomoqt.tools.sub_bench", *common, "-t", "4", seconds=40)
    await publisher
    report = f"{subscribed.output}\n{subscribed.errors[-3000:]}"
    objects = re.search(r"Objects:\s+([\d,]+)", subscribed.output)
    lost = re.search(r"Lost:\s+(\d+)", subscribed.output)
    assert objects is not None, report
    assert lost is not None, report
    assert int(objects[1].replace(",", "")) >= 120, report
    assert int(lost[1]) == 0, report
