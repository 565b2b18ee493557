"""Third-party publishers and subscribers against each other, through the relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.harness import Certificate, running_relay
from integration.matrix import Cell, every_pair

GROUPS = 3


@pytest.mark.parametrize("webtransport", [False, True], ids=["raw", "webtransport"])
@pytest.mark.parametrize("draft", [18, 22, 16])
async def test_every_pair_delivers(
    draft: int, webtransport: bool, certificate: Certificate, tmp_path: Path
) -> None:
    """moq-rs cannot choose its draft, so the relay speaks one only."""

    async def work(cell: Cell) -> None:
        await cell.receive(GROUPS)

    spec = {"listen": {"idleTimeoutSeconds": 120}}  # on a busy machine clients stand still
    with running_relay(certificate, tmp_path / "relay.log", drafts=[draft], spec=spec) as relay:
        await every_pair(relay, draft, webtransport=webtransport, work=work)
