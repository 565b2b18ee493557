"""Links to upstreams: dialled, kept, dialled again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastrelay.quic.connection import ConnectError
from fastrelay.quic.options import QuicOptions
from fastrelay.relay import upstreams
from fastrelay.relay.configuration import UpstreamOptions
from fastrelay.relay.upstreams import UpstreamLinks

URL = "moqt://upstream:4443"


class FakeConnection:
    def __init__(self) -> None:
        self.kept, self.gone = asyncio.Event(), asyncio.Event()

    async def wait_closed(self) -> None:
        self.kept.set()
        await self.gone.wait()

    async def close(self, _code: int, _reason: str) -> None:
        self.gone.set()


@dataclass
class Network:
    """Stands for ``connect``: answers each dial with what the test put there."""

    answers: asyncio.Queue[FakeConnection | Exception] = field(default_factory=asyncio.Queue)
    urls: list[str] = field(default_factory=list)
    dialled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def dials(self) -> int:
        return len(self.urls)

    async def connect(self, url: str, *_arguments: Any) -> FakeConnection:
        self.urls.append(url)
        self.dialled.set()
        answer = await self.answers.get()
        self.dialled.clear()
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Setting:
    network: Network
    links: UpstreamLinks
    failures: asyncio.Queue[str]

    async def connect(self) -> FakeConnection:
        """Let the dial succeed."""
        connection = FakeConnection()
        self.network.answers.put_nowait(connection)
        await connection.kept.wait()
        return connection


@pytest.fixture
async def setting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    network = Network()
    monkeypatch.setattr(upstreams, "connect", network.connect)
    failures: asyncio.Queue[str] = asyncio.Queue()
    options = UpstreamOptions(URL, QuicOptions(), (), None, reconnect_max_seconds=1.0)
    links = UpstreamLinks((options,), lambda _: None, failures.put_nowait)  # type: ignore[arg-type, return-value]
    links.start()
    yield Setting(network, links, failures)
    await links.close()


async def test_connected_until_it_leaves(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(upstreams, "STABLE_AFTER", 0.0)
    connection = await setting.connect()
    assert setting.links.connected == {URL: True}
    assert setting.links.want() == 0
    assert setting.links.status() == [{"url": URL, "connected": True, "attempts": 0, "error": None}]
    connection.gone.set()
    await setting.network.dialled.wait()
    assert setting.links.connected == {URL: False}
    assert setting.links.want() == 1


async def test_failures_are_told_and_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreams, "FIRST_PAUSE", 0.0)
    setting.network.answers.put_nowait(ConnectError("nobody is there"))
    assert await setting.failures.get() == URL
    assert setting.links.status()[0]["error"] == "nobody is there"
    await setting.connect()
    assert setting.links.status()[0]["error"] is None


async def test_who_wants_does_not_wait(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1e6)
    assert setting.links.want() == 1
    setting.network.answers.put_nowait(OSError("network is unreachable"))
    await setting.failures.get()
    assert setting.network.dials == 1
    assert setting.links.want() == 0, "it has just been tried"
    monkeypatch.setattr(upstreams, "FRESH_FAILURE", 0.0)
    assert setting.links.want() == 1
    await setting.network.dialled.wait()
    assert setting.network.dials == 2
    assert setting.links.want() == 1


async def test_the_end(setting: Setting) -> None:
    connection = await setting.connect()
    await setting.links.close()
    assert connection.gone.is_set()
    assert setting.links.want() == 0


async def test_pauses_double_up_to_the_limit(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: asyncio.Queue[float] = asyncio.Queue()

    async def record(waited: Any, pause: float) -> None:
        waited.close()
        pauses.put_nowait(pause)
        raise TimeoutError

    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1.0)
    monkeypatch.setattr(asyncio, "wait_for", record)
    for _ in range(5):
        setting.network.answers.put_nowait(ConnectError("no"))
        await setting.failures.get()
    assert [await pauses.get() for _ in range(5)] == [0.25, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("stable", [True, False])
async def test_a_leaving_upstream_is_dialled_at_once_if_it_was_stable(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, stable: bool
) -> None:
    pauses: asyncio.Queue[float] = asyncio.Queue()
    monkeypatch.setattr(upstreams, "STABLE_AFTER", 0.0 if stable else 1e6)
    monkeypatch.setattr(random, "uniform", lambda _low, _high: pauses.put_nowait(0) or 0.0)
    await setting.connect()
    setting.links.leaving("moqt://another:1")
    assert setting.network.dials == 1
    setting.links.leaving(URL)
    await setting.connect()
    assert setting.network.dials == 2
    assert pauses.empty() is stable


async def test_an_upstream_may_name_another_place(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreams, "STABLE_AFTER", 0.0)
    monkeypatch.setattr(upstreams, "FIRST_PAUSE", 0.0)
    await setting.connect()
    setting.links.leaving(URL, "moqt://elsewhere:1")
    setting.network.answers.put_nowait(ConnectError("nobody is there"))
    await setting.failures.get()
    await setting.connect()
    assert setting.network.urls == [URL, "moqt://elsewhere:1", URL]
