"""The agent's loop: every relay that should have a data plane here has one, no other has.

The loop remembers nothing that matters: after SIGKILL the next agent finds everything from the
pins. Ending the agent detaches nothing, so a restart is no outage.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastrelay.agent import discovery, lock, maps, pins, record, sockets
from fastrelay.agent.desk import Desk
from fastrelay.agent.discovery import Scan
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import Instance, Reason, RelaySpec, Settings, State, Status
from fastrelay.agent.preparations import Preparations
from fastrelay.agent.spare import Spare
from fastrelay.agent.tally import Tally
from fastrelay.agent.versions import Toolchain

INTERVAL = 2.0
"""Seconds between looks at what nobody tells us of: devices that came and went, silent relays."""
RETRY_LOAD = 30.0
"""Seconds before programs that did not load are compiled again."""
RECALL_SECONDS = 5.0
"""Within which relays take back what they lent to the kernel, before the programs go anyway."""
RECALL_PAUSE = 0.05

log = logging.getLogger(__name__)


class Source(Protocol):
    """Who says which relays there are."""

    def desired(self) -> Mapping[str, RelaySpec] | None:
        """By name. None: not known at the moment; then everything stays as it is."""

    async def changed(self, seconds: float) -> None:
        """Return when something may have changed, at the latest after so many seconds."""

    def news(self) -> bool:
        """Whether something may have changed already. May be asked by any thread."""


class Node:
    """All relays of one node. One agent works on a directory of pins at a time."""

    def __init__(self, settings: Settings, tools: Toolchain) -> None:
        """:raises OSError: the directory is in no bpffs, or another agent works on it."""
        self._settings = settings
        self._tools = tools
        self._failed: dict[str, _Failed] = {}
        self.statuses: Mapping[str, Status] = {}
        """Of the last pass, by relay."""
        self._looked: dict[str, float] = {}
        """When each relay had its turn."""
        self.tally = Tally()
        self._spare = Spare(settings.pins, tools, self.tally.loaded)
        self._spare_failed = -RETRY_LOAD
        self.spare_wanted: End | None = None
        """For which end one should be made that was not there in the last pass."""
        pins.prepare(settings.pins)
        sockets.prepare(settings.sockets)
        self._lock = os.open(settings.pins, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OSError(errno.EBUSY, f"another agent works on {settings.pins}") from None

    def close(self) -> None:
        """Let another agent in. Everything stays attached."""
        os.close(self._lock)

    def reconcile(
        self,
        desired: Mapping[str, RelaySpec],
        waiting: Collection[str] = (),
        preparing: Collection[str] = (),
        hurry: Callable[[], bool] = lambda: False,
    ) -> dict[str, Status]:
        """One pass; blocks for as long as a compiler needs.

        ``waiting``: relays that ask for maps which somebody has. ``preparing``: those that
        somebody prepares, or will, and nothing is done for here. ``hurry``: asked again and
        again, whether relays that are attached can wait, as others may need more; one of them
        has its turn in any case.
        """
        began = time.monotonic()
        if not desired:
            self._spare.remove()
        kept = desired.keys() | preparing
        self._remove([name for name in self.present() if name not in kept])
        sockets.remove_empty(self.sockets, sockets.EMPTY_SECONDS, keep=desired)
        for name in waiting:
            if name in desired and self._instance(name).stalled():
                log.warning("relay %s: who has its maps is silent; there will be others", name)
                self._instance(name).remove()
        scan = _once(discovery.scan)
        statuses: dict[str, Status] = {}
        looked_at_one = False
        for spec in sorted(desired.values(), key=self._turn):
            attached = self._is_attached(spec)
            if spec.name in preparing:
                statuses[spec.name] = _loading(spec)
            elif attached and looked_at_one and hurry():
                statuses[spec.name] = self.statuses[spec.name]
            else:
                statuses[spec.name] = self._ensure(spec, scan)
                self._looked[spec.name] = time.monotonic()
                looked_at_one |= attached
        self._looked = {name: self._looked[name] for name in self._looked.keys() & desired.keys()}
        for name, status in statuses.items():
            if status != self.statuses.get(name):
                expected = not status.message or status.state is State.WAITING
                level = logging.INFO if expected else logging.WARNING
                log.log(level, "relay %s: %s %s", name, status.reason, status.message)
        self.statuses = statuses
        self.spare_wanted = self._wanted_spare(desired)
        self.tally.passed(time.monotonic() - began)
        return statuses

    def new(self, desired: Mapping[str, RelaySpec]) -> list[RelaySpec]:
        """Relays for which nothing is made yet; first those whose pods run already."""
        new = [spec for spec in desired.values() if self._instance(spec.name).is_new()]
        return sorted(new, key=lambda spec: not spec.addresses)

    def prepare(self, spec: RelaySpec) -> None:
        """What takes long, for a new relay; may be done beside passes that leave it alone."""
        try:
            self._instance(spec.name).prepare(spec)
        except Exception as error:  # the next pass meets it, too, and says so
            log.debug("relay %s", spec.name, exc_info=error)

    def prepare_spare(self, end: End) -> None:
        """What the next new relay takes; may be done beside passes."""
        try:
            self._spare.make(end)
        except Exception as error:  # the next new relay meets it, too, and its status says so
            self._spare_failed = time.monotonic()
            log.debug("no spare data plane", exc_info=error)

    def present(self) -> list[str]:
        """Relays of which something is there."""
        pinned, records = self._settings.pins, self._settings.records
        return sorted({*pins.names(pinned), *record.names(records), *lock.names(records)})

    def maps_of(self, name: str) -> Path:
        """The directory of a relay's maps, if it has any."""
        return pins.Tree(self._settings.pins, pins.check_name(name)).maps

    @property
    def spare_maps(self) -> Path:
        """The directory of those that no relay has yet, if there are any."""
        return self._spare.maps

    @property
    def sockets(self) -> Path:
        return self._settings.sockets

    def standing(self, name: str) -> tuple[int, bool]:
        return maps.standing(self.maps_of(name))

    def handed(self, name: str) -> AbstractContextManager[list[int] | None]:
        return self._instance(name).handed()

    def remove_all(self) -> None:
        """Relays whose pods go on do so in user space; the next agent finds them."""
        relays = self.present()
        self._spare.remove()
        self._remove(relays)
        sockets.remove_empty(self.sockets, 0, keep=relays)

    def _ensure(self, spec: RelaySpec, scan: Callable[[], Scan]) -> Status:
        failed = self._failed.get(spec.name)
        if failed and failed.spec == spec and time.monotonic() < failed.again:
            return failed.status
        instance = self._instance(spec.name)
        status = instance.ensure(spec, scan)
        self._failed.pop(spec.name, None)
        if status.reason is Reason.LOAD_FAILED:
            self.tally.load_failures += 1
            again = time.monotonic() + RETRY_LOAD
            self._failed[spec.name] = _Failed(spec, status, again)
        if instance.erase_if_abandoned():
            self.tally.erasures += 1
            log.info("relay %s has ended: what is left of its keys and media is erased", spec.name)
        return status

    def _turn(self, spec: RelaySpec) -> tuple[bool, float]:
        """What relays are sorted by: of those that are attached, who waits for longest is first."""
        return self._is_attached(spec), self._looked.get(spec.name, 0.0)

    def _is_attached(self, spec: RelaySpec) -> bool:
        """Those that are can wait: there is nothing to be done for them, as a rule."""
        status = self.statuses.get(spec.name)
        return status is not None and status.state is State.ATTACHED

    def _remove(self, names: Sequence[str]) -> None:
        """Programs go when the relays have taken back what they lent: nothing is on its way then
        that only the kernel knows of."""
        relays = []
        for name in names:
            with suppress(ValueError):  # of a name that nobody can have; said below
                relays.append(self._instance(name))
                relays[-1].recall()
        until = time.monotonic() + RECALL_SECONDS
        while any(relay.in_use() for relay in relays) and time.monotonic() < until:
            time.sleep(RECALL_PAUSE)
        for name in names:
            self._remove_one(name)

    def _remove_one(self, name: str) -> None:
        try:
            if self._settings.come_again:
                sockets.close(self.sockets, name)
            else:
                sockets.remove(self.sockets, name)
            self._instance(name).remove()
            self.tally.removals += 1
            log.info("relay %s is gone: its data plane is removed", name)
        except (OSError, ValueError):
            log.exception("relay %s: not removed, tried again soon", name)

    def _wanted_spare(self, desired: Mapping[str, RelaySpec]) -> End | None:
        """Not while a pod is about to start: that needs the CPU."""
        specs = desired.values()
        if not (self._settings.spare and specs and all(spec.addresses for spec in specs)):
            return None
        if time.monotonic() - self._spare_failed < RETRY_LOAD:
            return None
        end = min(spec.end for spec in specs)
        return None if self._spare.fits(end) else end

    def _instance(self, name: str) -> Instance:
        return Instance(name, self._settings, self._tools, self.tally, self._spare)


@dataclass(frozen=True, slots=True)
class _Failed:
    spec: RelaySpec
    status: Status
    again: float


def _loading(spec: RelaySpec) -> Status:
    return Status(
        spec.name, State.WAITING, Reason.LOADING, "its programs are being loaded", spec.end
    )


def _once(look: Callable[[], Scan]) -> Callable[[], Scan]:
    """What ``look`` returned at the first call."""
    seen: list[Scan] = []

    def remembered() -> Scan:
        if not seen:
            seen.append(look())
        return seen[0]

    return remembered


async def run(
    node: Node,
    source: Source,
    report: Callable[[Mapping[str, Status]], None],
    *,
    interval: float = INTERVAL,
) -> None:
    """Reconcile until cancelled; ``report`` gets the status of all after each pass, and whenever
    a relay says something new."""
    desk = Desk(node, lambda: report(desk.complete(node.statuses)))
    preparations = Preparations(node)
    try:
        while True:
            desired = await asyncio.to_thread(source.desired)
            if desired is not None:
                preparing = preparations.begin(desired)
                statuses = await asyncio.to_thread(
                    node.reconcile,
                    desired,
                    desk.waiting(),
                    preparing,
                    lambda: source.news() or preparations.news(),
                )
                desk.serve(desired, statuses)
                report(desk.complete(statuses))
                if not source.news():
                    preparations.idle()
            await preparations.changed(source.changed(interval))
    finally:
        desk.close()
