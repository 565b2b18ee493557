"""A relay's pinned maps, to look at them."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

from fastrelay.agent import syscalls
from fastrelay.fastpath import layout
from fastrelay.fastpath.maps import Maps, MapsError, maps_of


def open_pinned(directory: Path) -> Maps:
    """
    :raises MapsError: not there, not permitted, or of another version.
    """
    with ExitStack() as stack:
        found = {}
        for each in layout.MAPS:
            if each.relay:
                path = directory / each.name
                try:
                    found[each.name] = syscalls.get(path)
                except OSError as error:
                    raise _explained(error, path) from error
                stack.callback(os.close, found[each.name])
        stack.pop_all()
    return maps_of(found)


def _explained(error: OSError, path: Path) -> MapsError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MapsError(f"{path}: there are no maps: is the agent running on this node?")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MapsError(f"{path}: not permitted for user {os.geteuid()}: be root")
    return MapsError(f"{path}: {error}")
