"""What viewers lose when something ends while they watch: of the operator's and the agent's
death, nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import broadcast, pods, relays, release, video
from e2e.broadcast import Broadcast, Tell
from e2e.cluster.lifecycle import kubectl, wait
from e2e.relays import Relay
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def relay(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relays.namespace("accidents") as namespace:
        scratch = tmp_path_factory.mktemp("relay")
        made = relays.create(namespace, "demo", broadcast.SPEC, scratch)
        made.wait_for("Ready")
        yield made


@pytest.fixture
def watched(relay: Relay, viewers: Audience) -> Broadcast:
    return Broadcast.begin(relay, viewers)


@pytest.mark.parametrize("part", ["agent", "operator"])
def test_the_death_of_a_part_loses_nothing(watched: Broadcast, tell: Tell, part: str) -> None:
    victim, begin = pods.of_release(part), video.packets(watched.relay)
    pods.kill(victim)
    wait(f"a new {part}", lambda: pods.restarts(victim) > victim.restarts)
    watched.mostly_in_kernel()
    packets, seen = video.packets(watched.relay).since(begin), watched.end()
    tell(f"{part} killed", packets, *seen)
    assert not any(each.findings.faults for each in seen)


def test_an_upgrade_of_operator_and_agents_loses_nothing(watched: Broadcast, tell: Tell) -> None:
    begin = video.packets(watched.relay)
    parts = "operator", "agent"
    before = [pods.of_release(part).name for part in parts]
    release.install(**{f"{part}.podAnnotations.again": "yes" for part in parts})
    assert not set(before) & {pods.of_release(part).name for part in parts}
    watched.mostly_in_kernel()
    packets, seen = video.packets(watched.relay).since(begin), watched.end()
    tell("helm upgrade: operator and agent anew", packets, *seen)
    assert not any(each.findings.faults for each in seen)


def test_a_new_certificate_is_served_without_a_restart(
    watched: Broadcast, tmp_path: Path, tell: Tell
) -> None:
    """The kubelet brings it within a minute or two; who is connected does not notice."""
    relay = watched.relay
    [name] = relay.pods()
    url, before = relay.url(), pods.read(relay.namespace, name)
    sha256 = relays.give_certificate(relay.namespace, relay.name, tmp_path)
    assert not relays.serves(url, sha256)
    wait("the new certificate", lambda: relays.serves(url, sha256), pause=2)
    watched.see()
    seen = watched.end()
    assert relay.pods() == [name]
    assert pods.read(relay.namespace, name) == before
    tell("a new certificate", *seen)
    assert not any(each.findings.faults for each in seen)


def test_relay_rolled(watched: Broadcast, tell: Tell) -> None:
    """A change of its configuration: the new pod first, then the old one drains."""
    [before] = watched.relay.pods()
    spec = broadcast.SPEC | {"logging": {"level": "debug"}}
    relays.apply(watched.relay.namespace, watched.relay.name, spec)
    _await_another(watched.relay, before)
    watched.see()
    seen = watched.end()
    tell("relay rolled", *seen)
    assert not any(each.findings.wrong for each in seen)


def test_relay_pod_deleted(watched: Broadcast, tell: Tell) -> None:
    """It drains: who is connected gets GOAWAY, and finds the next one."""
    [before] = watched.relay.pods()
    kubectl("-n", watched.relay.namespace, "delete", "pod", before, "--wait=false")
    _await_another(watched.relay, before)
    watched.see()
    seen = watched.end()
    tell("relay pod deleted", *seen)
    assert not any(each.findings.wrong for each in seen)


def test_relay_killed(watched: Broadcast, tell: Tell) -> None:
    """Without a word: clients have to notice by themselves."""
    [name] = watched.relay.pods()
    victim = pods.read(watched.relay.namespace, name)
    pods.kill(victim)
    wait("a new relay", lambda: pods.restarts(victim) > victim.restarts)
    watched.see()
    seen = watched.end()
    tell("relay killed", *seen)
    assert not any(each.findings.wrong for each in seen)


def _await_another(relay: Relay, before: str) -> None:
    wait("another pod alone", lambda: len(relay.pods()) == 1 and relay.pods() != [before])
