"""One relay's data plane on this node: maps, programs, attachment."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fastrelay.agent import device as devices
from fastrelay.agent import discovery, loader, maps, pins, record, sockets, versions
from fastrelay.agent.attach import Attacher, Site
from fastrelay.agent.device import Hook
from fastrelay.agent.discovery import Scan
from fastrelay.agent.hooks import CFLAGS, DeviceGoneError, End, Mechanism
from fastrelay.agent.lock import Lock
from fastrelay.agent.record import Record
from fastrelay.agent.spare import Spare
from fastrelay.agent.tally import Tally
from fastrelay.fastpath import handing
from fastrelay.fastpath.handing import Cause

SILENT_SECONDS = 10.0
"""Without a sign of life, who has the maps loses them to a successor."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """A relay that is to have a data plane here.

    ``name``: of its directories. ``uid``: of its process. ``addresses``: of its pod. ``device``:
    of the node, where its quota refuses first; empty: at none.
    """

    name: str
    uid: int
    addresses: Sequence[str]
    end: End = End.HOST
    device: str = ""


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
    QUOTA_DEVICE = "QuotaDevice"
    """The quota is not refused at the device that the spec names, but at the veth."""
    LOADING = "Loading"
    """Beside all that is done for others."""
    NO_INTERFACE = "NoInterface"
    DEVICE_GONE = "DeviceGone"
    OTHER_VERSION = "OtherVersion"
    LOAD_FAILED = "LoadFailed"
    NOT_PERMITTED = "NotPermitted"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Word:
    """What a relay says of itself. ``reason``: why not, empty if it forwards in the kernel.

    ``kernel``, ``user``: connections that are served by the one and the other.
    """

    forwarding: bool = False
    reason: str = Cause.NOT_CONNECTED.value
    message: str = "the relay has not asked for its maps"
    kernel: int = 0
    user: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """``state``, ``reason``, ``message``: of what is the agent's part."""

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
    quota: Hook = field(default_factory=Hook)
    """Where first packets are refused before they come to the veth."""
    relay: Word = Word()
    """The relay's part."""

    def whole(self) -> tuple[State, str, str]:
        """State, reason, message of both together: the kernel forwards if the relay says so."""
        if self.state is not State.ATTACHED or self.relay.forwarding:
            return self.state, self.reason.value, self.message
        return State.WAITING, self.relay.reason, self.relay.message


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the agent. ``mechanism``: None: the better one that the kernel has. ``quota_devices``: of
    the node, at which relays may have their quota refuse; None: all. ``come_again``: relays that
    went may, to their sockets' directories, which are still mounted; pods do not. ``spare``: have
    one data plane ready for the next relay, as long as there are relays."""

    pins: Path = pins.DEFAULT_ROOT
    records: Path = record.DEFAULT_DIRECTORY
    sockets: Path = sockets.DEFAULT_ROOT
    namespaces: Sequence[Path] = discovery.NAMESPACES
    mechanism: Mechanism | None = None
    silent_seconds: float = SILENT_SECONDS
    quota_devices: Collection[str] | None = None
    come_again: bool = True
    spare: bool = False


class Instance:
    """Nothing is remembered here: each call finds what is there from pins and record."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        tools: versions.Toolchain,
        tally: Tally,
        spare: Spare,
    ) -> None:
        self._spare = spare
        self._tally = tally
        self._settings = settings
        self._tools = tools
        self._tree = pins.Tree(settings.pins, pins.check_name(name))
        self._attacher = Attacher(self._tree, Record(settings.records / f"{name}.json"))
        self._lock = Lock.of(settings.records, name)

    def is_new(self) -> bool:
        """Whether nothing has been made for it."""
        return not self._tree.maps.is_dir()

    def prepare(self, spec: RelaySpec) -> Path:
        """Make the maps and load the programs, which takes longest and needs no interface; or
        take the spare ones.

        :return: the directory with the programs.
        :raises maps.ShapeError: there are maps, but other ones.
        :raises loader.LoadError: the programs cannot be had.
        """
        if self.is_new():
            self._spare.take(self._tree, self._lock, spec.end)
        maps.ensure(self._tree, self._lock)
        return versions.ensure(self._tree, self._tools, CFLAGS[spec.end], self._tally.loaded)

    def ensure(self, spec: RelaySpec, scan: Callable[[], Scan] = discovery.scan) -> Status:
        """Make what is missing, repair what is not as it should be, leave the rest alone.

        Everything that may go wrong with one relay is in the status.
        """
        device = ""
        try:
            if self._tree.maps.is_dir() and not self._lock.exists():
                self.remove()  # nobody knows whether a relay has these maps
            version = self.prepare(spec)
            veth = scan().find(spec.addresses)
            device = veth.device
            site = Site.host(veth)
            if spec.end is End.POD:
                site = Site.pod(veth, discovery.namespace_of(veth, self._settings.namespaces))
            mechanism, positions = self._attacher.ensure(site, version, self._settings.mechanism)
            maps.set_attached(self._tree.maps, True)
            versions.remove_others(self._tree, version)
            allowed = self._settings.quota_devices
            if spec.device and allowed is not None and spec.device not in allowed:
                quota = devices.refuse(self._tree, spec.device)
            else:
                quota = devices.ensure(self._tree, self._tools, spec.device, spec.addresses)
        except Exception as error:
            if isinstance(error, discovery.NotFoundError | DeviceGoneError):
                with contextlib.suppress(OSError, maps.ShapeError):
                    maps.set_attached(self._tree.maps, False)
            return _failure(spec, device, error)
        ahead = max(position.ahead for position in positions.values())
        reason, message = Reason.ATTACHED, ""
        if quota.message:
            reason, message = Reason.QUOTA_DEVICE, quota.message
        if ahead:
            reason = Reason.NOT_FIRST
            message = f"{ahead} programs of others run before ours on {device}"
        return Status(
            spec.name,
            State.ATTACHED,
            reason,
            message,
            spec.end,
            device,
            mechanism,
            versions.program_ids(version),
            version.name,
            quota,
        )

    def erase_if_abandoned(self) -> bool:
        """Wipe what is left of a relay that ended: the programs' own memory, which only we can
        reach, and all keys and plaintext if it did not do so itself."""
        try:
            used = maps.used(self._tree.maps)
        except (OSError, maps.ShapeError):
            return False  # there are no maps, or others than ours: see the status
        return used and self._erase_if_free()

    @contextmanager
    def handed(self) -> Iterator[list[int] | None]:
        """Descriptors of the relay's maps, in order, and last the lock's, which is taken with
        it; closed afterwards, so that only who was sent them has them. Nothing of a predecessor's
        is in them any more. None: somebody has them.

        :raises OSError: there are none.
        """
        with ExitStack() as stack:
            lock = self._lock.take()
            if lock is None:
                yield None
                return
            stack.callback(os.close, lock)
            if maps.used(self._tree.maps):
                self._erase()
            descriptors = stack.enter_context(maps.opened(self._tree.maps))
            maps.begin(self._tree.maps)
            yield [*(descriptors[name] for name in handing.NAMES), lock]

    def stalled(self) -> bool:
        """Whether somebody has the maps and gives no sign of life."""
        try:
            silent = maps.silent(self._tree.maps, self._settings.silent_seconds)
        except (OSError, maps.ShapeError):
            return False
        with self._lock.claimed() as free:
            return silent and not free

    def recall(self) -> None:
        """Tell a living relay that the programs are about to go: it takes everything back from
        the kernel while they are still there, and lets go of the maps."""
        with contextlib.suppress(maps.ShapeError, OSError), maps.opened(self._tree.maps):
            maps.set_attached(self._tree.maps, False)

    def in_use(self) -> bool:
        """Whether somebody alive has the maps."""
        with self._lock.claimed() as free:
            return not free and self._lock.exists()

    def remove(self) -> None:
        """Detach, erase, unpin. What a living relay still uses it keeps until it ends."""
        self.recall()
        devices.remove(self._tree)
        self._attacher.remove()
        if not self._erase_if_free():
            time.sleep(maps.GRACE_SECONDS)
            maps.wipe_scratch(self._tree.maps)
        if self._tree.maps.is_dir():  # whole or not at all, also if we are interrupted
            pins.remove(self._tree.maps_draft)
            self._tree.maps.rename(self._tree.maps_draft)
        pins.remove(self._tree.top)
        self._lock.remove()

    def _erase_if_free(self) -> bool:
        with self._lock.claimed() as free:
            if free:
                self._erase()
            return free

    def _erase(self) -> None:
        """Under the lock."""
        with contextlib.suppress(maps.ShapeError), maps.opened(self._tree.maps) as fds:
            maps.stop(fds)
        maps.wipe(self._tree.maps)
        with contextlib.suppress(OSError, maps.ShapeError):
            maps.disown(self._tree.maps)


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
