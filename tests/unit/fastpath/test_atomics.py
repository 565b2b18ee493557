from __future__ import annotations

import mmap
from threading import Thread

from fastrelay.fastpath.atomics import address_of, compare_exchange, fence, fetch_add, fetch_or


def test_each_returns_what_was_there() -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    words, address = memoryview(memory).cast("Q"), address_of(memory)
    assert fetch_add(address + 8, 5) == 0
    assert fetch_add(address + 8, -2) == 5
    assert fetch_add(address + 8, -4) == 3
    assert words[1] == (1 << 64) - 1
    assert fetch_or(address, 0b101) == 0
    assert fetch_or(address, 0b110) == 0b101
    assert words[0] == 0b111
    assert not compare_exchange(address, 1, 2)
    assert compare_exchange(address, 0b111, 1 << 63)
    fence()
    assert words[0] == 1 << 63


def test_threads_take_each_number_once() -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    address = address_of(memory)
    taken: list[list[int]] = [[], []]

    def take(mine: list[int]) -> None:
        for _ in range(20_000):
            mine.append(fetch_add(address, 1))

    threads = [Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == list(range(40_000))
