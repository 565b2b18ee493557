"""The agent has the capabilities that it needs and no others: docs/agent.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from fastrelay.local.stack import RELAY, fastrelay
from integration.fastpath.harness import FastRelay, fast_relay
from integration.harness import Certificate

NEEDED = {"net_admin": 12, "perfmon": 38, "bpf": 39}
"""By their numbers (``linux/capability.h``)."""
METRICS = 9465
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    with fast_relay(certificate, tmp_path_factory.mktemp("capabilities")) as relay:
        yield relay


def confined(*names: str) -> Callable[..., list[str]]:
    """The agent as uid 0 with these capabilities."""
    bounds = ",".join(("-all", *(f"+{name}" for name in names)))
    prefix = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--no-new-privs"]
    return lambda *arguments: [
        *prefix,
        *fastrelay(*arguments, "--metrics-address", f":{METRICS}"),
    ]


def effective(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("CapEff:")[1].split()[0], 16)


def begin(relay: FastRelay, *capabilities: str) -> dict[str, object]:
    """An agent with these makes everything from nothing; what it says of the relay."""
    relay.take_away()
    relay.kill_agent()
    relay.want_again()
    node = relay.stack.node
    assert node is not None
    node.start(confined(*capabilities)(*node.command()))
    report = node.settle(RELAY)
    assert effective(relay.agent.pid) == sum(1 << NEEDED[name] for name in capabilities)
    return report


def test_with_these_it_does_everything(relay: FastRelay) -> None:
    report = begin(relay, *NEEDED)
    assert report["state"] == "Attached", report
    relay.wait_for_fast_path()
    with urlopen(f"http://{relay.node_addresses[0]}:{METRICS}/metrics", timeout=60) as page:
        assert b"fastrelay_agent_programs_attached 2.0" in page.read()
    relay.take_away()
    relay.give_back()
    relay.wait_for_fast_path()


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ("bpf", "create"),
        ("net_admin", ""),
        ("perfmon", "CAP_PERFMON is needed"),
    ],
)
def test_without_one_of_them_it_says_what_is_missing(
    relay: FastRelay, without: str, words: str
) -> None:
    try:
        report = begin(relay, *(name for name in NEEDED if name != without))
        assert report["state"] == "Failed", report
        assert words in str(report["message"])
    finally:
        relay.kill_agent()
        relay.start_agent()
