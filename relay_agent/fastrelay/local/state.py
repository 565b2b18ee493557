"""What is running under a name, kept in a file so that another command can see and end it.

``/run/fastrelay/local/NAME.json``, with logs and certificates beside it in ``NAME/``.
The file is written before anything is made, so that a crash never leaves something unknown.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastrelay.local.processes import ProcessId, is_running

DEFAULT_DIRECTORY = Path("/run/fastrelay/local")
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(slots=True)
class Pod:
    """One namespace and what runs in it."""

    namespace: str
    ipv4: str
    ipv6: str
    process: ProcessId | None = None
    command: list[str] = field(default_factory=list)
    log: str = ""


@dataclass(slots=True)
class State:
    """Everything under one name."""

    name: str
    owner: ProcessId | None = None
    """The process that tends to it (the demo); None: it stands by itself."""
    url: str = ""
    network: int | None = None
    """Of a stack that is reached from this machine (:mod:`fastrelay.local.hostlink`)."""
    node: Pod | None = None
    """The node's namespace, with the node agent as its process; it has no address of its own."""
    pods: dict[str, Pod] = field(default_factory=dict)

    def running(self) -> list[ProcessId]:
        """The owner and those of the pods' and the node's processes that still run."""
        places = [*self.pods.values(), *([self.node] if self.node else [])]
        known = [self.owner, *(place.process for place in places)]
        return [process for process in known if process and is_running(process)]


def check_name(name: str) -> str:
    """:raises ValueError: the name could be mistaken for a part of another's namespaces."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: write 1 to 16 of a-z and 0-9, a letter first")
    return name


@dataclass(frozen=True, slots=True)
class Store:
    """The files of all names."""

    directory: Path = DEFAULT_DIRECTORY

    def file(self, name: str) -> Path:
        return self.directory / f"{check_name(name)}.json"

    def workspace(self, name: str) -> Path:
        """The directory for logs and certificates of this name; made if need be."""
        workspace = self.directory / check_name(name)
        workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        return workspace

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.json"))

    def load(self, name: str) -> State | None:
        """:raises ValueError: the file is not ours or was damaged."""
        try:
            content = json.loads(self.file(name).read_text())
            return State(
                content["name"],
                _process(content["owner"]),
                content["url"],
                content["network"],
                _pod(content["node"]) if content["node"] else None,
                {key: _pod(pod) for key, pod in content["pods"].items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.file(name)} is damaged: {error}") from error

    def save(self, state: State) -> None:
        """Whole or not at all."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = self.file(state.name)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(state), indent=2) + "\n")
        os.replace(draft, file)

    def forget(self, name: str) -> None:
        shutil.rmtree(self.directory / check_name(name), ignore_errors=True)
        self.file(name).unlink(missing_ok=True)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One ``up`` or ``down`` of a name at a time; the second waits."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = self.directory / f"{check_name(name)}.lock"
        while True:
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    current = os.path.samestat(os.fstat(file.fileno()), path.stat())
                except FileNotFoundError:
                    current = False
                if not current:
                    continue  # who had it before us removed it
                try:
                    yield
                finally:
                    if not self.file(name).exists():
                        path.unlink()
                return


def _pod(content: dict[str, Any]) -> Pod:
    return Pod(**{**content, "process": _process(content["process"])})


def _process(pair: list[int] | None) -> ProcessId | None:
    return ProcessId(*pair) if pair else None
