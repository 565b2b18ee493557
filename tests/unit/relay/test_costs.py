"""What a peer sends costs no more memory than is accounted for, whatever its shape."""

from __future__ import annotations

import tracemalloc

from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.relay.body import Body
from fastrelay.relay.options import CacheOptions, RelayOptions
from unit.relay.harness import World


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
    world = World(RelayOptions(cache=CacheOptions(bytes=100_000)))
    publisher = world.publisher()
    publisher.announce(b"live")
    world.client().subscribe()
    publisher.accept()
    for subgroup in range(500):
        publisher.open(0, subgroup).close()
    (track,) = world.relay.tracks.values()
    assert world.relay.cache.total <= 100_000
    assert track.store.current is not None
    assert len(track.store.current.subgroups) <= 100
