"""Desired relays and their status as files: for one host, and for looking at with ``cat``."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fastrelay.agent import pins
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import RelaySpec, Status

POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


class DirectorySource:
    """``NAME.json`` in a directory, one for each relay, each written whole (renamed)::

        {"name": NAME, "uid": 65534, "addresses": ["10.80.1.2", "fd80::2"], "attach": "Host",
         "device": ""}

    A file that goes is a relay that is gone; one that cannot be understood counts as it was.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, RelaySpec] = {}
        self._seen: object = None

    def desired(self) -> Mapping[str, RelaySpec] | None:
        self._seen = self._stamp()
        if not self._directory.is_dir():
            return None
        read: dict[str, RelaySpec] = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                read[path.stem] = parse(path.stem, path.read_text())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                log.error("%s: %s", path, error)
                if path.stem in self._known:
                    read[path.stem] = self._known[path.stem]
        self._known = read
        return read

    async def changed(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._stamp() == self._seen and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    def news(self) -> bool:
        return self._stamp() != self._seen

    def _stamp(self) -> object:
        try:
            return sorted(
                (entry.name, entry.stat().st_mtime_ns, entry.stat().st_ino)
                for entry in os.scandir(self._directory)
            )
        except FileNotFoundError:
            return None


def parse(name: str, text: str) -> RelaySpec:
    """:raises ValueError: it is no description of a relay of that name."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("an object is needed: name, uid, addresses, attach")
    try:
        if content["name"] != name:
            raise ValueError(f"the file of {name!r} describes {content['name']!r}")
        uid, addresses = content["uid"], content["addresses"]
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    if not isinstance(uid, int) or isinstance(uid, bool) or not 0 <= uid < 1 << 32:
        raise ValueError(f"uid {uid!r}: a number is needed")
    if not isinstance(addresses, list) or not addresses:
        raise ValueError(f"addresses {addresses!r}: a list of the pod's addresses is needed")
    texts = tuple(str(ipaddress.ip_address(address)) for address in addresses)
    end = End(content.get("attach", End.HOST.value))
    device = content.get("device", "")
    if not isinstance(device, str):
        raise ValueError(f"device {device!r}: a name like eth0 is needed")
    return RelaySpec(pins.check_name(name), uid, texts, end, device)


class DirectoryReporter:
    """Writes each relay's status to ``NAME.json`` when it changes; removes what is gone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, statuses: Mapping[str, Status]) -> None:
        for path in self._directory.glob("*.json"):
            if path.stem not in statuses:
                path.unlink(missing_ok=True)
        for name, status in statuses.items():
            path = self._directory / f"{name}.json"
            text = json.dumps(asdict(status), indent=2) + "\n"
            if not path.exists() or path.read_text() != text:
                draft = path.with_suffix(".new")
                draft.write_text(text)
                os.replace(draft, path)
