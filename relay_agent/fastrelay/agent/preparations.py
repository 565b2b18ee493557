"""What takes long and may be done beside passes: data planes of new relays, and a spare one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

from fastrelay.agent.hooks import End
from fastrelay.agent.instance import RelaySpec

PREPARED_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Data planes whose programs the verifier looks at: one of them keeps a CPU busy for a second."""


class House(Protocol):
    """Who makes them; ``prepare`` and ``prepare_spare`` are called in threads."""

    @property
    def spare_wanted(self) -> End | None:
        """For which end a spare one was missing in the last pass; None: none is wanted."""

    def new(self, desired: Mapping[str, RelaySpec]) -> Sequence[RelaySpec]:
        """Relays for which nothing is made yet, the most urgent first."""

    def prepare(self, spec: RelaySpec) -> None: ...

    def prepare_spare(self, end: End) -> None: ...


class Preparations:
    """Of new relays, once each: no other relay waits for their programs. Of the spare one when
    there is nothing else to do."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._spare: asyncio.Task[None] | None = None
        self._going_on: list[asyncio.Task[None]] = []

    def begin(self, desired: Mapping[str, RelaySpec]) -> frozenset[str]:
        """As many as may be at once; all those that are not done."""
        self._tasks = {
            name: task for name, task in self._tasks.items() if name in desired or not task.done()
        }
        busy = {name for name, task in self._tasks.items() if not task.done()}
        spare = [self._spare] if self._spare is not None and not self._spare.done() else []
        new = [spec for spec in self._house.new(desired) if spec.name not in self._tasks]
        for spec in new[: max(0, PREPARED_AT_ONCE - len(busy) - len(spare))]:
            preparing = asyncio.to_thread(self._house.prepare, spec)
            self._tasks[spec.name] = asyncio.create_task(preparing)
        busy |= {spec.name for spec in new}
        self._going_on = [task for name, task in self._tasks.items() if name in busy] + spare
        return frozenset(busy)

    def idle(self) -> None:
        """After a pass, when nothing else is to be done at once: make the spare one."""
        end = self._house.spare_wanted
        if end is not None and not self._going_on:
            self._spare = asyncio.create_task(asyncio.to_thread(self._house.prepare_spare, end))
            self._going_on = [self._spare]

    def news(self) -> bool:
        """Whether one is done that was not. May be asked by any thread."""
        return any(task.done() for task in self._going_on)

    async def changed(self, other: Coroutine[Any, Any, None]) -> None:
        """Return when one is done, or that is."""
        change = asyncio.ensure_future(other)
        try:
            await asyncio.wait({change, *self._going_on}, return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change.result()
        finally:
            change.cancel()
