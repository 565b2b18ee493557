"""Subscribers of the soak test, many in one process.

usage: python -m integration.soak_subscribers URL SHA256 COUNT SEED SECONDS

Each comes, chooses draft, transport and track, stays a while, checks everything that it
gets, and leaves; then it comes back as another. The last line of the output is JSON: how many
subscriptions, objects and groups there were, and what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from fastrelay.client import (
    ReceivedObject,
    RequestFailedError,
    SubgroupEnd,
    Subscription,
    connect,
)
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.drafts import DRAFTS
from fastrelay.quic.options import QuicOptions
from integration.soak_content import OBJECTS_PER_GROUP, PUBLISHERS, payload, track_name

_STAY = (6.0, 20.0)
_COMPLETION = 30.0
"""Seconds within which a group that has begun must be there whole, whatever was lost."""


@dataclass(slots=True)
class Totals:
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Audit:
    """What one subscription got, group by group."""

    def __init__(self, publisher: int, totals: Totals, name: str) -> None:
        self._publisher = publisher
        self._totals = totals
        self._name = name
        self._objects: dict[int, list[int]] = {}
        self._ended: set[int] = set()

    def add(self, item: ReceivedObject | SubgroupEnd) -> None:
        if isinstance(item, SubgroupEnd):
            if item.reset is not None:
                self._fault(f"group {item.group_id} was reset with {item.reset}")
            self._ended.add(item.group_id)
            return
        group, obj = item.location
        got = self._objects.setdefault(group, [])
        if got and obj != got[-1] + 1:
            self._fault(f"object {obj} of group {group} after {got}")
        if item.payload != payload(self._publisher, group, obj):
            self._fault(f"object {obj} of group {group} differs")
        got.append(obj)
        self._totals.counts["objects"] += 1

    @property
    def largest(self) -> int:
        return max(self._objects, default=-1)

    def missing(self, until: int) -> list[str]:
        """What of the groups up to ``until`` (included) is not there.

        Groups overtake each other where packets are lost; only the oldest may begin late.
        """
        wrong = []
        oldest = min(self._objects, default=until + 1)
        for group in range(oldest, until + 1):
            got = self._objects.get(group, [])
            late = not got or (got[0] > 0 and group > oldest)
            if late or got[-1] != OBJECTS_PER_GROUP - 1 or group not in self._ended:
                wrong.append(f"group {group} has {got}")
        return wrong

    def close(self, until: int) -> None:
        for wrong in self.missing(until):
            self._fault(wrong)
        self._totals.counts["groups"] += len(self._objects)

    def _fault(self, text: str) -> None:
        self._totals.faults.append(f"{self._name}: {text}")


async def subscriber(
    urls: tuple[str, str], options: QuicOptions, chance: random.Random, end: float, totals: Totals
) -> None:
    await asyncio.sleep(chance.uniform(0, 4))
    while time.monotonic() < end:
        number = chance.randrange(PUBLISHERS)
        draft = chance.choice(list(DRAFTS.values()))
        url = chance.choice(urls)
        until = min(time.monotonic() + chance.uniform(*_STAY), end)
        async with connect(url, drafts=(draft,), options=options, connect_timeout=60) as client:
            totals.counts["sessions"] += 1
            name = f"{draft} at {url[:5]} of {number}"
            while time.monotonic() < until:
                try:
                    subscription = await client.subscribe(track_name(number))
                except RequestFailedError as error:
                    if error.code != RequestErrorCode.DOES_NOT_EXIST:
                        raise
                    await asyncio.sleep(0.5)  # this publisher is away
                    continue
                totals.counts["subscriptions"] += 1
                await receive(subscription, Audit(number, totals, name), until)


async def receive(subscription: Subscription, audit: Audit, until: float) -> None:
    """Until the track ends or the time has come, and then until what has begun is whole."""
    async with subscription:
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + until - time.monotonic()
            ):
                async for item in subscription:
                    audit.add(item)
            audit.close(audit.largest)  # the track ended
            return
        except TimeoutError:
            last = audit.largest
        try:
            async with asyncio.timeout(_COMPLETION):
                while audit.missing(last):
                    audit.add(await anext(aiter(subscription)))
        except (TimeoutError, StopAsyncIteration):
            pass  # what is missing is told below
        audit.close(last)


async def main(url: str, sha256: str, count: int, seed: int, seconds: float) -> None:
    options = QuicOptions(
        certificate_sha256=bytes.fromhex(sha256), idle_timeout=30, handshake_timeout=60
    )
    urls = (f"moqt://{url}", f"https://{url}/")
    totals = Totals()
    end = time.monotonic() + seconds
    results = await asyncio.gather(
        *(
            subscriber(urls, options, random.Random(seed * 1000 + n), end, totals)
            for n in range(count)
        ),
        return_exceptions=True,
    )
    totals.faults += [repr(result) for result in results if result is not None]
    print(json.dumps({**totals.counts, "faults": totals.faults}))


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    )
