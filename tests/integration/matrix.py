"""Publishers and subscribers that others wrote, in pairs, through one relay."""

from __future__ import annotations

import asyncio
import itertools
import time
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fastrelay.moqt.names import FullTrackName, format_namespace
from integration.harness import THIRD_PARTY, end, start_third_party
from integration.third_party import content

TRACK = "video"
CONCURRENT = 3
"""Cells at a time: one publisher, one subscriber and a share of the relay for two cores."""
PATIENCE = 90.0
"""Seconds for a step of a cell, on a machine with much else to do."""
UNDER_WAY = 3
"""Groups behind the newest that may come after it."""
LOOK_AGAIN = 0.1
"""Seconds until the relay is asked again for what it does not tell by itself."""
LIBRARIES = ("aiomoqt", "moqrs")


class Pair(NamedTuple):
    """``announce``: what the publisher tells the relay of, its ``namespace`` or its ``track``."""

    publisher: str
    subscriber: str
    announce: str = "namespace"

    def __str__(self) -> str:
        return f"{self.publisher} -> {self.subscriber} ({self.announce})"

    @property
    def track(self) -> FullTrackName:
        """Of this pair alone."""
        return FullTrackName((b"matrix", "_".join(self).encode()), TRACK.encode())


PAIRS = (
    *itertools.starmap(Pair, itertools.product(LIBRARIES, LIBRARIES)),
    Pair("aiomoqt", "aiomoqt", "track"),
)


class Relay(Protocol):
    """What is needed of one, wherever it runs."""

    def url(self, *, webtransport: bool = False) -> str: ...

    def status(self) -> dict[str, Any]: ...


@dataclass
class Cell:
    """A pair at work. ``groups``: hashes by object of the groups that the subscriber has got."""

    pair: Pair
    relay: Relay
    groups: dict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    publisher: Process | None = None
    """Goes on when the work is done."""
    _subscriber: Process | None = None

    @asynccontextmanager
    async def at_work(self, draft: int, *, webtransport: bool) -> AsyncIterator[None]:
        """Afterwards the publisher goes on, if all went well: aiomoqt's subscribers close their
        session when any namespace ends that they were told of, whoever's it is.

        :raises AssertionError: anything failed; with what the two said.
        """
        url = self.relay.url(webtransport=webtransport)
        namespace = "/".join(part.decode() for part in self.pair.track.namespace)
        arguments = url, str(draft), namespace, TRACK
        processes: dict[str, Process] = {}
        failure = ""
        try:
            processes["publisher"] = publisher = await start_third_party(
                _script(self.pair.publisher, "publish"), *arguments, self.pair.announce
            )
            ready = await _line(publisher, "the publisher is ready")
            assert ready == "ready\n", ready
            await self.until(self._is_announced, "the relay knows what is published")
            processes["subscriber"] = self._subscriber = await start_third_party(
                _script(self.pair.subscriber, "subscribe"), *arguments
            )
            yield
            self.publisher = processes.pop("publisher")
        except AssertionError as error:
            failure = str(error) or repr(error)
        finally:
            said = {who: await end(process) for who, process in processes.items()}
        assert not failure, "\n".join(
            (f"{self.pair}: {failure}", *(f"{who}: {said[who][-2000:]}" for who in said))
        )

    async def until(self, condition: Callable[[dict[str, Any]], bool], step: str) -> None:
        """Wait for something on the relay's status page."""
        deadline = time.monotonic() + PATIENCE
        fault = ""
        while True:
            try:
                if condition(await asyncio.to_thread(self.relay.status)):
                    return
            except OSError as error:
                fault = f" ({error})"
            assert time.monotonic() < deadline, _too_late(step) + fault
            await asyncio.sleep(LOOK_AGAIN)

    def _is_announced(self, status: dict[str, Any]) -> bool:
        namespace = format_namespace(self.pair.track.namespace)
        return any(each["namespace"] == namespace for each in status["namespaces"]) or any(
            each["track"] == str(self.pair.track) and each["publishers"]
            for each in status["tracks"]
        )

    def session(self, status: dict[str, Any]) -> dict[str, Any] | None:
        """The subscriber's, with its subscription; None: the relay knows of none."""
        for session in status["sessions"]:
            for subscription in session["subscriptions"]:
                if subscription["track"] == str(self.pair.track):
                    return {**session, "subscription": subscription}
        return None

    async def receive(self, groups: int) -> None:
        """Wait for so many further groups, and for all that are between; check every byte. Some
        publishers want the newest first, so that who was behind for a moment has holes for long."""
        assert self._subscriber is not None
        wanted = len(self.groups) + groups
        deadline = time.monotonic() + PATIENCE
        while len(self.groups) < wanted or self._missing:
            step = f"{wanted} groups, of which there are {len(self.groups)}; not {self._missing}"
            assert time.monotonic() < deadline, _too_late(step)
            self._take(await _line(self._subscriber, step))

    def _take(self, line: str) -> None:
        group, obj, digest = line.split()
        objects = self.groups[int(group)]
        assert int(obj) not in objects, f"object {obj} of group {group} came twice"
        expected = content.digest(content.payload(TRACK, int(group), int(obj)))
        assert digest == expected, f"object {obj} of group {group} differs"
        objects[int(obj)] = digest

    @property
    def _missing(self) -> list[int]:
        whole = {n for n, each in self.groups.items() if len(each) == content.OBJECTS_PER_GROUP}
        newest = max(self.groups, default=0)
        first = min(self.groups, default=0)
        return sorted({*range(first, newest - UNDER_WAY), *self.groups} - whole)


async def _line(process: Process, step: str) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            line = await process.stdout.readline()
    except TimeoutError:
        raise AssertionError(_too_late(step)) from None
    assert line, f"it ended; waited for: {step}"
    return line.decode()


def _too_late(step: str) -> str:
    return f"waited {PATIENCE:g} s for: {step}"


def _script(library: str, role: str) -> str:
    return str(THIRD_PARTY / f"{library}_{role}.py")


async def every_pair(
    relay: Relay, draft: int, *, webtransport: bool, work: Callable[[Cell], Awaitable[None]]
) -> None:
    """Do the work with each pair, a few at a time.

    :raises AssertionError: with a line for each that failed first, and what was said behind.
    """
    gate = asyncio.Semaphore(CONCURRENT)

    async def one(cell: Cell) -> None:
        async with gate, cell.at_work(draft, webtransport=webtransport):
            await work(cell)

    cells = [Cell(pair, relay) for pair in PAIRS]
    try:
        results = await asyncio.gather(*map(one, cells), return_exceptions=True)
    finally:
        await asyncio.gather(*(end(cell.publisher) for cell in cells if cell.publisher))
    failures = [str(each) or repr(each) for each in results if each is not None]
    reasons = [failure.partition("\n")[0] for failure in failures]
    assert not failures, "\n".join([*reasons, "", *failures])
