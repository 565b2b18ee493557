"""One relay's data plane on this node: maps, programs, attachment."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fastrelay.agent import discovery, loader, maps, pins, record, versions
from fastrelay.agent.attach import Attacher, Site
from fastrelay.agent.discovery import Scan
from fastrelay.agent.hooks import CFLAGS, DeviceGoneError, End, Mechanism
from fastrelay.agent.record import Record
from fastrelay.agent.tally import Tally

SILENT_SECONDS = 10.0
"""Without a sign of life, a relay whose process is gone as well loses its keys."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """A relay that is to have a data plane here.

    ``name``: of its directory of pins. ``uid``: of its process. ``addresses``: of its pod.
    """

    name: str
    uid: int
    addresses: Sequence[str]
    end: End = End.HOST


class State(StrEnum):
    ATTACHED = "Attached"
    WAITING = "Waiting"
    """For something that is expected to come."""
    FAILED = "Failed"


class Reason(StrEnum):
    """CamelCase, for conditions."""

    ATTACHED = "Attached"
    NOT_FIRST = "NotFirst"
    """Programs of others run before ours and may keep packets to themselves."""
    NO_INTERFACE = "NoInterface"
    DEVICE_GONE = "DeviceGone"
    OTHER_VERSION = "OtherVersion"
    LOAD_FAILED = "LoadFailed"
    NOT_PERMITTED = "NotPermitted"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Status:
    name: str
    state: State
    reason: Reason
    message: str
    attach: End
    device: str = ""
    mechanism: Mechanism | None = None
    programs: dict[str, int] = field(default_factory=dict)
    """Ids by role."""
    generation: str = ""
    """Version of the programs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the agent. ``mechanism``: None: the better one that the kernel has."""

    pins: Path = pins.DEFAULT_ROOT
    records: Path = record.DEFAULT_DIRECTORY
    namespaces: Sequence[Path] = discovery.NAMESPACES
    mechanism: Mechanism | None = None
    silent_seconds: float = SILENT_SECONDS


class Instance:
    """Nothing is remembered here: each call finds what is there from pins and record."""

    def __init__(
        self, name: str, settings: Settings, tools: versions.Toolchain, tally: Tally
    ) -> None:
        self._tally = tally
        self._settings = settings
        self._tools = tools
        self._tree = pins.Tree(settings.pins, pins.check_name(name))
        self._attacher = Attacher(self._tree, Record(settings.records / f"{name}.json"))

    def ensure(self, spec: RelaySpec, scan: Callable[[], Scan] = discovery.scan) -> Status:
        """Make what is missing, repair what is not as it should be, leave the rest alone.

        Everything that may go wrong with one relay is in the status.
        """
        device = ""
        try:
            maps.ensure(self._tree, spec.uid)
            version = versions.ensure(self._tree, self._tools, CFLAGS[spec.end], self._tally.loaded)
            veth = scan().find(spec.addresses)
            device = veth.device
            site = Site.host(veth)
            if spec.end is End.POD:
                site = Site.pod(veth, discovery.namespace_of(veth, self._settings.namespaces))
            mechanism, positions = self._attacher.ensure(site, version, self._settings.mechanism)
            maps.set_attached(self._tree.maps, True)
            versions.remove_others(self._tree, version)
        except Exception as error:
            if isinstance(error, discovery.NotFoundError | DeviceGoneError):
                with contextlib.suppress(OSError, maps.ShapeError):
                    maps.set_attached(self._tree.maps, False)
            return _failure(spec, device, error)
        ahead = max(position.ahead for position in positions.values())
        return Status(
            spec.name,
            State.ATTACHED,
            Reason.NOT_FIRST if ahead else Reason.ATTACHED,
            f"{ahead} programs of others run before ours on {device}" if ahead else "",
            spec.end,
            device,
            mechanism,
            versions.program_ids(version),
            version.name,
        )

    def erase_if_abandoned(self) -> bool:
        """Wipe what is left of a relay that ended: the programs' own memory, which only we can
        reach, and all keys and plaintext if it did not do so itself."""
        try:
            silent = maps.owner_silent(self._tree.maps, self._settings.silent_seconds)
        except (OSError, maps.ShapeError):
            return False  # there are no maps, or others than ours: see the status
        return silent and self._erase()

    def remove(self) -> None:
        """Detach, erase, unpin. What a living relay still uses it keeps until it ends."""
        self._attacher.remove()
        if not self._erase():
            time.sleep(maps.GRACE_SECONDS)
            maps.wipe_scratch(self._tree.maps)
        if self._tree.maps.is_dir():  # whole or not at all, also if we are interrupted
            pins.remove(self._tree.maps_draft)
            self._tree.maps.rename(self._tree.maps_draft)
        pins.remove(self._tree.top)

    def _erase(self) -> bool:
        with pins.claimed(self._tree.maps) as free:
            if not free:
                return False
            with contextlib.suppress(maps.ShapeError), maps.opened(self._tree.maps) as fds:
                maps.stop(fds)
            maps.wipe(self._tree.maps)
            with contextlib.suppress(OSError, maps.ShapeError):
                maps.disown(self._tree.maps)
        return True


_FAILURES: tuple[tuple[type[Exception], State, Reason], ...] = (
    (discovery.NotFoundError, State.WAITING, Reason.NO_INTERFACE),
    (DeviceGoneError, State.WAITING, Reason.DEVICE_GONE),
    (maps.ShapeError, State.FAILED, Reason.OTHER_VERSION),
    (loader.LoadError, State.FAILED, Reason.LOAD_FAILED),
    (PermissionError, State.FAILED, Reason.NOT_PERMITTED),
)


def _failure(spec: RelaySpec, device: str, error: Exception) -> Status:
    for kind, state, reason in _FAILURES:
        if isinstance(error, kind):
            return Status(spec.name, state, reason, str(error), spec.end, device)
    log.debug("relay %s", spec.name, exc_info=error)
    message = f"{type(error).__name__}: {error}"
    return Status(spec.name, State.FAILED, Reason.ERROR, message, spec.end, device)
