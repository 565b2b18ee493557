"""The loader: what it says of programs that are not as they should be; which rights suffice."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fastrelay.agent import headers, maps, pins, versions
from fastrelay.agent.hooks import CFLAGS, End
from fastrelay.agent.instance import Reason, State, Status
from fastrelay.agent.lock import Lock
from integration.agent.world import RELAY, World

HERE = Path(__file__).parent


def ensure(world: World) -> Status:
    with world.agent() as agent:
        return agent.ensure()


def replace_in(world: World, file: str, old: str, new: str) -> None:
    text = (world.tools.sources / file).read_text()
    assert old in text
    world.rewrite(file, text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count(KEY_A);", "count(KEY_A;", "error: expected ')'"),
        ("u16 port = 0;", "u16 port; while (1) port++;", "infinite loop detected"),
        (
            "u16 port = 0;",
            "u16 port = *(u8 *)bpf_pseudo_fd(2, 0);",
            "refers to something that is no map",
        ),
        ("server_ingress(", "another(", "server_ingress.c: another is neither the entry nor"),
        ("a_open(", "a_frobnicate(", "a_frobnicate is neither the entry nor a stage"),
    ],
)
def test_a_program_that_cannot_be_had(world: World, old: str, new: str, message: str) -> None:
    replace_in(world, "server_ingress.c", old, new)
    status = ensure(world)
    assert (status.state, status.reason) == (State.FAILED, Reason.LOAD_FAILED)
    assert message in status.message
    assert list(world.tree.programs.iterdir()) == []
    replace_in(world, "server_ingress.c", new, old)
    assert ensure(world).state is State.ATTACHED


def test_a_file_without_its_entry(world: World) -> None:
    world.rewrite("client_egress.c", '#include "count.h"\n')
    assert "client_egress.c has no function client_egress" in ensure(world).message


def test_a_new_version_that_cannot_be_had_leaves_the_old_one_running(world: World) -> None:
    ensure(world)
    replace_in(world, "server_ingress.c", "count(KEY_A);", "nonsense;")
    assert ensure(world).reason is Reason.LOAD_FAILED
    world.exchange(3)
    assert (world.count(0), world.count(1)) == (3, 3)


def test_without_bcc(world: World, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    world.tools = replace(world.tools, interpreters=("/nonexistent/python", bare))
    message = ensure(world).message
    assert "install python3-bpfcc" in message
    assert "/nonexistent/python: not there" in message
    assert f"no bcc in {bare}" in message


def test_without_headers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(headers.VARIABLE, str(tmp_path))
    status = ensure(world)
    assert status.reason is Reason.LOAD_FAILED
    assert "no include/uapi/linux/bpf.h there" in status.message


@pytest.mark.parametrize("end", list(End))
def test_the_real_programs_load(world: World, end: End) -> None:
    tree = pins.Tree(world.settings.pins, "real")
    pins.make(tree.programs)
    maps.ensure(tree, Lock.of(world.settings.records, RELAY))
    tools = versions.Toolchain(world.tools.cache)
    directory = tree.programs / pins.DRAFT
    pins.make(directory)
    with maps.opened(tree.maps) as fds:
        loaded = versions.load(directory, tools, CFLAGS[end], fds)
    assert {*versions.ENTRIES.values(), *versions.STAGES} == {each.name for each in loaded}
    for each in loaded:
        assert each.verified < 1_000_000


def limited(world: World, capabilities: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A pass of the agent by root with these capabilities only."""
    command = [
        *("nsenter", f"--net=/run/netns/{world.node}", "setpriv"),
        *(f"--bounding-set=-all,{capabilities}", "--inh-caps=-all"),
        *(sys.executable, str(HERE / "one_pass.py"), str(world.settings.pins)),
        *map(str, (world.settings.records, world.settings.sockets)),
        *map(str, (world.tools.sources, world.tools.cache)),
        *(RELAY, world.addresses.pod4, *arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CAPABILITIES = "+bpf,+net_admin,+perfmon,+chown,+dac_override"
"""For the host end. PERFMON: else the verifier forbids arithmetic that the real programs do."""


def test_five_capabilities_suffice_for_the_real_programs(world: World) -> None:
    world.tools = versions.Toolchain(world.tools.cache)
    done = limited(world, CAPABILITIES)
    assert done.stdout.strip() == "Attached Attached", done.stdout + done.stderr


def test_five_capabilities_suffice_to_come_back(world: World) -> None:
    for _ in range(2):
        done = limited(world, CAPABILITIES)
        assert done.stdout.strip() == "Attached Attached", done.stdout + done.stderr
    world.exchange(3)
    assert (world.count(0), world.count(1)) == (3, 3)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("+net_admin,", "CAP_BPF and CAP_NET_ADMIN are needed"),
        ("+perfmon,", "CAP_PERFMON is needed"),
    ],
)
def test_what_the_agent_lacks_it_says(world: World, missing: str, message: str) -> None:
    world.tools = versions.Toolchain(world.tools.cache)
    done = limited(world, CAPABILITIES.replace(missing, ""))
    assert done.stdout.startswith(f"Failed LoadFailed {message}"), done.stdout + done.stderr
