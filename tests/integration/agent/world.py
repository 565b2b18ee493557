"""A node and a pod in namespaces of their own, programs that count, and an agent for them."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastrelay.agent import maps as agent_maps
from fastrelay.agent import pins, programs, syscalls, versions
from fastrelay.agent.hooks import End, Mechanism
from fastrelay.agent.instance import RelaySpec, Settings, Status
from fastrelay.agent.node import Node
from fastrelay.agent.programs import ObjectKind
from fastrelay.local import links, netns

PROGRAMS = Path(__file__).with_name("programs")
PORT = 7777
RELAY = "relay-1"
UID = 65534
_numbers = itertools.count(1)


def until(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {seconds:g} s"
        time.sleep(0.005)


@dataclass
class World:
    """``node`` and ``pod`` are namespaces, joined by a veth: ``relay`` here, ``eth0`` there."""

    directory: Path
    settings: Settings
    tools: versions.Toolchain
    name: str
    addresses: links.Addresses = field(default_factory=lambda: links.Addresses(1))

    @property
    def node(self) -> str:
        return f"{self.name}-node"

    @property
    def pod(self) -> str:
        return f"{self.name}-pod"

    @property
    def tree(self) -> pins.Tree:
        return pins.Tree(self.settings.pins, RELAY)

    def spec(self, end: End = End.HOST, uid: int = UID) -> RelaySpec:
        return RelaySpec(RELAY, uid, (self.addresses.pod6, self.addresses.pod4), end)

    def wire(self) -> None:
        links.join(self.node, "relay", self.pod, links.POD_DEVICE)
        links.address_node_end(self.node, "relay", self.addresses)
        links.address_pod_end(self.pod, self.addresses)

    def unwire(self) -> None:
        netns.netlink(self.node, lambda ipr: ipr.link("del", ifname="relay"))

    def ifindex(self, end: End = End.HOST) -> int:
        where, device = (self.node, "relay") if end is End.HOST else (self.pod, links.POD_DEVICE)
        return netns.netlink(where, lambda ipr: links.index_of(ipr, device))

    def inside(self, end: End) -> str:
        """The namespace of that end."""
        return self.node if end is End.HOST else self.pod

    @contextmanager
    def agent(self, mechanism: Mechanism | None = None, **more: Any) -> Iterator[Agent]:
        """``more``: of its settings."""
        settings = replace(self.settings, mechanism=mechanism, **more)
        agent = Agent(self, Node(settings, self.tools))
        try:
            yield agent
        finally:
            agent.node.close()

    def set_version(self, **values: str | int) -> None:
        """Change definitions of the programs' ``version.h``."""
        path = self.tools.sources / "version.h"
        lines = [
            f"#define {words[1]} {values.get(words[1], words[2])}" if len(words) == 3 else line
            for line in path.read_text().splitlines()
            for words in [line.split()]
        ]
        self.rewrite("version.h", "\n".join(lines) + "\n")

    def rewrite(self, file: str, text: str) -> None:
        """A file of the sources; agents that work already take it for their own, too."""
        (self.tools.sources / file).write_text(text)
        vars(self.tools).pop("digest", None)

    def count(self, key: int, maps: Path | None = None) -> int:
        return agent_maps.counters(maps or self.tree.maps)[1][key]

    @contextmanager
    def echo(self) -> Iterator[Callable[[int], None]]:
        """Something in the pod that answers; to be called with a number of round trips."""
        server = netns.inside(self.pod, _udp)
        server.bind((self.addresses.pod4, PORT))
        client = netns.inside(self.node, _udp)
        client.connect((self.addresses.pod4, PORT))

        def serve() -> None:
            while True:
                data, peer = server.recvfrom(100)
                if not data:
                    return
                server.sendto(data, peer)

        def exchange(times: int) -> None:
            for _ in range(times):
                client.send(b"x")
                assert client.recv(100) == b"x"

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield exchange
        finally:
            end = netns.inside(self.pod, _udp)
            end.sendto(b"", (self.addresses.pod4, PORT))
            thread.join()
            for each in (server, client, end):
                each.close()

    def exchange(self, times: int) -> None:
        with self.echo() as exchange:
            exchange(times)

    def tc(self, end: End, *arguments: str) -> str:
        """What ``tc`` says, at that end."""
        device = "relay" if end is End.HOST else links.POD_DEVICE
        namespace = netns.path(self.inside(end))
        command = ["nsenter", f"--net={namespace}", "tc", *arguments]
        command[command.index("DEV")] = device
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def qdiscs(self, end: End) -> str:
        return self.tc(end, "qdisc", "show", "dev", "DEV")


@dataclass
class Agent:
    """An agent in the node's namespace."""

    world: World
    node: Node

    def reconcile(self, *specs: RelaySpec, waiting: Collection[str] = ()) -> dict[str, Status]:
        desired = {spec.name: spec for spec in specs}
        return netns.inside(self.world.node, lambda: self.node.reconcile(desired, waiting))

    @contextmanager
    def handed(self) -> Iterator[list[int] | None]:
        """What a relay is given."""
        with self.node.handed(RELAY) as descriptors:
            yield descriptors

    def ensure(self, end: End = End.HOST) -> Status:
        return self.reconcile(self.world.spec(end))[RELAY]


@dataclass
class Objects:
    """Everything of a relay's in the kernel, by id."""

    found: set[tuple[ObjectKind, int]]

    @classmethod
    def of(cls, tree: pins.Tree) -> Objects:
        found = set()
        for path in tree.top.rglob("*"):
            if path.is_dir():
                continue
            fd = syscalls.get(path)
            try:
                match path.relative_to(tree.top).parts[0], path.name:
                    case "links", _:
                        found.add((ObjectKind.LINK, programs.link_info(fd).id))
                    case ("programs", "a" | "b") | ("device", _):
                        found.add((ObjectKind.PROGRAM, programs.program_info(fd).id))
                    case _:
                        found.add((ObjectKind.MAP, syscalls.map_info(fd).id))
            finally:
                os.close(fd)
        return cls(found)

    def alive(self) -> set[tuple[ObjectKind, int]]:
        """Those that exist still. Looking at one by its id would keep it alive, or worse: a map
        of programs that is opened and closed while the kernel empties it is never freed."""
        return {(kind, number) for kind in ObjectKind for number in programs.ids(kind)} & self.found


def _udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(60)
    return made


@contextmanager
def new_world(directory: Path, cache: Path) -> Iterator[World]:
    name = f"fra{os.getpid()}x{next(_numbers)}"
    sources = directory / "sources"
    shutil.copytree(PROGRAMS, sources)
    settings = Settings(Path(f"/sys/fs/bpf/{name}"), directory / "records", directory / "relays")
    world = World(directory, settings, versions.Toolchain(cache, sources), name)
    try:
        for namespace in (world.node, world.pod):
            netns.create(namespace)
            netns.set_sysctls(namespace, links.SETTINGS)
        world.wire()
        yield world
    finally:
        pins.remove(settings.pins)
        for namespace in (world.node, world.pod):
            netns.remove(namespace)
