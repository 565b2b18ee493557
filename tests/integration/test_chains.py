"""Relays that have relays upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrelay.client import RequestFailedError
from fastrelay.moqt.codes import RequestErrorCode
from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22, Draft
from fastrelay.moqt.names import Location
from integration.harness import Certificate, RelayProcess, free_port, running_relay
from integration.pair import (
    PROPERTY_VALUES,
    TIMEOUT,
    Pair,
    everything,
    places,
    receive,
    write_group,
)

Chain = tuple[RelayProcess, RelayProcess]


def trust(certificate: Certificate) -> tuple[str, ...]:
    """Relays accept each other's certificate."""
    return ("--upstream-ca", str(certificate.certificate))


@pytest.fixture(scope="module")
def chain(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The ends of three relays in a row: origin and edge."""
    logs = tmp_path_factory.mktemp("chain")
    arguments = trust(certificate)
    with (
        running_relay(certificate, logs / "origin.log") as origin,
        running_relay(
            certificate, logs / "middle.log", upstreams=[origin.url()], arguments=arguments
        ) as middle,
        running_relay(
            certificate,
            logs / "edge.log",
            upstreams=[middle.url(webtransport=True)],
            arguments=arguments,
        ) as edge,
    ):
        yield origin, edge


@pytest.mark.parametrize("draft", [DRAFT_18, DRAFT_22, DRAFT_16], ids=str)
async def test_chained_relays(draft: Draft, chain: Chain, certificate: Certificate) -> None:
    """Tracks are found upstream, fetches too, and the end comes through."""
    origin, edge = (Pair(relay, certificate, f"chain-{draft}") for relay in chain)
    async with origin.track(DRAFT_18) as track, edge.client(draft) as client:
        subscription = await client.subscribe(edge.name)
        write_group(track, 0)
        objects = await receive(subscription, 3)
        assert places(objects) == [(0, 0), (0, 1), (0, 2)]
        assert client.decode_properties(objects[0].properties) == PROPERTY_VALUES
        past = await everything(await client.fetch(edge.name, Location(0, 0), 0))
        assert places(past) == [(0, 0), (0, 1), (0, 2)]
        track.end()
        await everything(subscription)
        assert subscription.done is not None


async def test_a_ring_of_relays_does_not_loop(certificate: Certificate, tmp_path: Path) -> None:
    """Each is the other's upstream; an unknown track is refused, not asked for in circles."""
    ports = free_port(), free_port()
    with (
        running_relay(
            certificate,
            tmp_path / "one.log",
            port=ports[0],
            upstreams=[f"moqt://127.0.0.1:{ports[1]}"],
            arguments=trust(certificate),
        ) as one,
        running_relay(
            certificate,
            tmp_path / "two.log",
            port=ports[1],
            upstreams=[one.url()],
            arguments=trust(certificate),
        ),
    ):
        pair = Pair(one, certificate, "ring")
        async with pair.client(DRAFT_18) as client:
            with pytest.raises(RequestFailedError) as error:
                async with asyncio.timeout(TIMEOUT):
                    await client.subscribe(pair.name)
            assert error.value.code == RequestErrorCode.DOES_NOT_EXIST
