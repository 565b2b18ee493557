"""One relay's two programs on its veth: attached, kept attached, replaced, removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastrelay.agent import clsact, namespaces, pins, syscalls, tcx
from fastrelay.agent.discovery import Veth
from fastrelay.agent.hooks import HOOKS, Direction, End, Mechanism, Position
from fastrelay.agent.record import Entry, Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a relay's programs go. ``namespace``: the pod's, for that end; None: ours."""

    end: End
    ifindex: int
    namespace: Path | None

    @classmethod
    def host(cls, veth: Veth) -> Site:
        return cls(End.HOST, veth.ifindex, None)

    @classmethod
    def pod(cls, veth: Veth, namespace: Path) -> Site:
        return cls(End.POD, veth.pod_ifindex, namespace)


@dataclass(frozen=True, slots=True)
class Attacher:
    """Attaches the programs of one relay."""

    tree: pins.Tree
    record: Record

    def ensure(
        self, site: Site, version: Path, mechanism: Mechanism | None = None
    ) -> tuple[Mechanism, Mapping[str, Position]]:
        """Have both programs of a version run at a site, and nowhere else.

        ``mechanism``: None: TCX if the kernel has it.

        :raises DeviceGoneError: the device went away.
        """
        if mechanism is None:
            mechanism = Mechanism.TCX if tcx.supported() else Mechanism.CLSACT
        self._leave_others(site, mechanism)
        attach = self._tcx if mechanism is Mechanism.TCX else self._clsact
        return mechanism, _at(site.namespace, lambda: self._attach(site, version, attach))

    def remove(self) -> None:
        """Detach both, wherever they are. Nothing there: no error."""
        for role in HOOKS[End.HOST]:
            tcx.remove(self.tree.links / role)
        for entry in sorted(self.record.entries(), key=lambda entry: entry.role, reverse=True):
            self._remove_entry(entry)  # qdiscs, whose role is empty, last
        pins.remove(self.tree.links)

    def _attach(
        self, site: Site, version: Path, attach: Callable[[Site, str, Direction, int], Position]
    ) -> Mapping[str, Position]:
        positions = {}
        # B first: copies that nobody would take must not be made.
        for role, direction in sorted(HOOKS[site.end].items(), reverse=True):
            program = syscalls.get(version / role)
            try:
                positions[role] = attach(site, role, direction, program)
            finally:
                os.close(program)
        return positions

    def _tcx(self, site: Site, role: str, direction: Direction, program: int) -> Position:
        pins.make(self.tree.links)
        return tcx.ensure(self.tree.links / role, program, site.ifindex, direction)

    def _clsact(self, site: Site, role: str, direction: Direction, program: int) -> Position:
        namespace = _text(site.namespace)
        self.record.add(Entry.of_filter(role, site.ifindex, direction, namespace))
        return clsact.ensure(
            self._filter_name(role),
            program,
            site.ifindex,
            direction,
            lambda: self.record.add(Entry.of_qdisc(site.ifindex, namespace)),
        )

    def _leave_others(self, site: Site, mechanism: Mechanism) -> None:
        """Detach from where the programs are not to be any more."""
        if mechanism is not Mechanism.TCX:
            for role in HOOKS[site.end]:
                tcx.remove(self.tree.links / role)
        wanted = set()
        if mechanism is Mechanism.CLSACT:
            namespace = _text(site.namespace)
            wanted = {
                Entry.of_filter(role, site.ifindex, direction, namespace)
                for role, direction in HOOKS[site.end].items()
            } | {Entry.of_qdisc(site.ifindex, namespace)}
        for entry in sorted(
            self.record.entries() - wanted, key=lambda entry: entry.role, reverse=True
        ):
            self._remove_entry(entry)

    def _remove_entry(self, entry: Entry) -> None:
        def work() -> None:
            if entry.role:
                direction = Direction(entry.direction)
                clsact.remove(self._filter_name(entry.role), entry.ifindex, direction)
            else:
                clsact.remove_qdisc(entry.ifindex)

        # A file that is gone: so is the namespace, and with it the device.
        with contextlib.suppress(FileNotFoundError):
            _at(Path(entry.namespace) if entry.namespace else None, work)
        self.record.discard(entry)

    def _filter_name(self, role: str) -> str:
        return f"fastrelay/{self.tree.name}/{role}"


def _at(namespace: Path | None, work: Callable[[], T]) -> T:
    return work() if namespace is None else namespaces.inside(namespace, work)


def _text(namespace: Path | None) -> str:
    return "" if namespace is None else str(namespace)
