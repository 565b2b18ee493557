"""One data plane that is no relay's yet: maps, and programs that the verifier has seen.

::

    ROOT/_spare          as ROOT/NAME: maps and programs, no links
    ROOT/_spare-draft    while it is made, or goes

A new relay takes it by a rename, and need not wait for the verifier. No relay has such a name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastrelay.agent import maps, pins, versions
from fastrelay.agent.hooks import CFLAGS, End
from fastrelay.agent.lock import Lock

_NAME = "_spare"


class Spare:
    """Any thread may call anything; nothing is remembered here.

    ``loaded``: as of :func:`versions.ensure`.
    """

    def __init__(
        self, root: Path, tools: versions.Toolchain, loaded: Callable[[float], None]
    ) -> None:
        self._whole, self._draft = pins.Tree(root, _NAME), pins.Tree(root, f"{_NAME}-{pins.DRAFT}")
        self._tools, self._loaded = tools, loaded
        self._changing = threading.Lock()

    @property
    def maps(self) -> Path:
        """The directory of its maps, if there is one."""
        return self._whole.maps

    def fits(self, end: End) -> bool:
        """Whether there is one, for that end, of the version that is wanted now."""
        try:
            return versions.find(self._whole, self._tools, CFLAGS[end]) is not None
        except (OSError, maps.ShapeError):
            return False

    def make(self, end: End) -> None:
        """If there is none that fits; one that does not goes.

        :raises versions.LoadError: the programs cannot be had; nothing is left then.
        """
        with self._changing:
            if self.fits(end):
                return
            self._clear()
            try:
                maps.ensure(self._draft)
                versions.ensure(self._draft, self._tools, CFLAGS[end], self._loaded)
                self._draft.top.rename(self._whole.top)
            except BaseException:
                self._clear()
                raise

    def take(self, tree: pins.Tree, lock: Lock, end: End) -> bool:
        """Let a relay have it that has no maps; whether there was one for it."""
        if not self.fits(end):
            return False
        lock.renew()
        try:
            self._whole.top.rename(tree.top)
        except OSError:  # another relay was faster, or there are remains of this one's
            return False
        return True

    def remove(self) -> None:
        """Not there: no error. Waits for one that is being made."""
        with self._changing:
            self._clear()

    def _clear(self) -> None:
        pins.remove(self._draft.top)
        with suppress(FileNotFoundError):
            self._whole.top.rename(self._draft.top)  # nobody takes half of it
        pins.remove(self._draft.top)
