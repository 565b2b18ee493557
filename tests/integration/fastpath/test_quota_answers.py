"""Whom the quota's programs refuse is told so, if the spec says that: some of them each second."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bpf.test_quota import initial
from fastrelay.client.errors import ConnectFailedError
from fastrelay.local.hostlink import NODE_DEVICE
from fastrelay.relay.quota import ANSWERS
from integration.fastpath.harness import FastRelay, fast_relay
from integration.fastpath.scene import until
from integration.fastpath.test_quota import (
    SPEC,
    at_device,
    client,
    connections,
    counted,
    full_house,
    grown,
    path_of,
)
from integration.harness import Certificate

FLOOD = 1000


@pytest.fixture(scope="module")
def relay(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FastRelay]:
    spec = {**SPEC, "quota": {**SPEC["quota"], "action": "Refuse"}}
    with fast_relay(certificate, tmp_path_factory.mktemp("answers"), spec=spec) as made:
        yield made


@asynccontextmanager
async def refusing_at(relay: FastRelay, device: str) -> AsyncIterator[None]:
    await at_device(relay, device, "kernel, native XDP" if device else "kernel")
    try:
        yield
    finally:
        await asyncio.to_thread(relay.want_device, "")


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("device", ["", NODE_DEVICE], ids=["veth", "device"])
async def test_who_is_refused_is_told(relay: FastRelay, device: str, ipv6: bool) -> None:
    """A client learns it at once, from user space; of a flood so many a second do, not more."""
    async with refusing_at(relay, device), full_house(relay, ipv6=ipv6) as clients:
        with pytest.raises(ConnectFailedError, match="ended with CONNECTION_REFUSED"):
            async with client(relay, ipv6=ipv6):
                pass
        path = path_of(relay, clients[0])
        before, refused = relay.counters(), counted(relay, "connections_refused")
        with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((path.destination, path.destination_port))
            began = time.monotonic()
            for number in range(FLOOD):
                sock.send(initial(number.to_bytes(8, "big")))
            await until(lambda: grown(relay, before, "C_QUOTA_ADDRESS") >= FLOOD, "all are refused")
            most = ANSWERS.burst + ANSWERS.per_second * (time.monotonic() - began) + 1
            async with asyncio.timeout(60):
                await asyncio.get_running_loop().sock_recv(sock, 1200)
        passed = grown(relay, before, "C_QUOTA_ANSWERED")
        assert 1 <= counted(relay, "connections_refused") - refused <= passed <= most
        assert (grown(relay, before, "C_QUOTA_AT_DEVICE") > 0) == bool(device)
        await connections(relay, len(clients))
