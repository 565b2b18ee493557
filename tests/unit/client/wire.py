"""Two clients joined without a network: what one sends, the other receives in the next turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastrelay.client import Client
from fastrelay.moqt.drafts import Draft
from fastrelay.moqt.session import Session


class Wire:
    """One end of a connection, as a session's transport."""

    is_webtransport = False
    max_datagram_size = 1200

    def __init__(self, *, is_client: bool) -> None:
        self.is_client = is_client
        self.backlog = 0
        self.other: Wire
        self.session: Session
        self.held: list[tuple[str, tuple[object, ...]]] | None = None
        """What would have been delivered, while it is not to be."""
        self._next = {False: 0 if is_client else 1, True: 2 if is_client else 3}
        self._ended: set[int] = set()
        self._stopped: set[object] = set()

    def _deliver(self, method: str, *arguments: object) -> None:
        if self.held is not None:
            self.held.append((method, arguments))
        else:
            asyncio.get_running_loop().call_soon(self.other._arrive, method, *arguments)

    def _arrive(self, method: str, *arguments: object) -> None:
        if arguments[0] not in self._stopped or method not in ("stream_data", "stream_reset"):
            getattr(self.session, method)(*arguments)

    def release(self) -> None:
        """Deliver what was held back, and everything from now on."""
        held, self.held = self.held or [], None
        for method, arguments in held:
            self._deliver(method, *arguments)

    # -- Transport

    def open_stream(self, *, unidirectional: bool) -> int:
        stream_id = self._next[unidirectional]
        self._next[unidirectional] += 4
        return stream_id

    def send(self, stream_id: int, data: bytes | memoryview, fin: bool = False) -> None:
        if stream_id not in self._ended:
            if fin:
                self._ended.add(stream_id)
            self._deliver("stream_data", stream_id, bytes(data), fin)

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id not in self._ended:
            self._ended.add(stream_id)
            self._deliver("stream_reset", stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        self._stopped.add(stream_id)
        self.other._ended.add(stream_id)
        self._deliver("stream_stopped", stream_id, code)

    def send_datagram(self, data: bytes) -> bool:
        if len(data) > self.max_datagram_size:
            return False
        self._deliver("datagram", data)
        return True

    def close(self, code: int, reason: str) -> None:
        self._deliver("closed", code, reason)


@asynccontextmanager
async def joined(draft: Draft) -> AsyncIterator[tuple[Client, Client]]:
    """A client and, at the server's end, another one."""
    wires = Wire(is_client=True), Wire(is_client=False)
    wires[0].other, wires[1].other = wires[1], wires[0]
    clients = []
    for wire in wires:
        client = Client(draft, wire, ())
        client.session = wire.session = Session(wire, draft, client.on_event)
        clients.append(client)
    for client in clients:
        client.session.start()
    for client in clients:
        await client.ready()
    yield clients[0], clients[1]
    for client in clients:
        client.close()


async def settle() -> None:
    """Let everything that is on its way arrive."""
    for _ in range(20):
        await asyncio.sleep(0)
