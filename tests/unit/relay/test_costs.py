"""What a peer sends costs no more memory than is accounted for, whatever its shape."""

from __future__ import annotations

import tracemalloc

from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.moqt.events import SubgroupHeader
from fastrelay.relay.backlog import Backlog
from fastrelay.relay.body import Body
from fastrelay.relay.ports import Counters
from fastrelay.relay.store import Cache, TrackStore
from fastrelay.relay.subgroup import Subgroup
from fastrelay.relay.timers import Timers


def test_a_body_that_comes_byte_by_byte() -> None:
    content = bytes(range(256)) * 80
    body = Body(DRAFT_18)
    tracemalloc.start()
    try:
        for index in range(len(content)):
            body.append(content[index : index + 1])
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2 * len(content)
    assert body.slice(0, len(content)) == content
    assert body.slice(1000, 3000) == content[1000:3000]
    body.forget(5000)
    assert body.holds(5000)
    assert body.slice(5000, 5100) == content[5000:5100]


def test_streams_that_bring_nothing_but_their_header() -> None:
    cache = Cache(10.0, 10_000_000, Counters(), Backlog(1_000_000, Timers()))
    group = TrackStore(cache).group(0, 0.0)
    tracemalloc.start()
    try:
        for number in range(1000):
            header = SubgroupHeader(1, 0, number, 128, False, False, True)
            group.subgroups.append(Subgroup(group, header, DRAFT_18))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2 * cache.total
