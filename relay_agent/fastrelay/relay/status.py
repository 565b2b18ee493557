"""What the HTTP port of a relay answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastrelay import __version__
from fastrelay.api.addresses import format_address
from fastrelay.api.conditions import PLAINTEXT_WARNING
from fastrelay.quic.certificates import certificate_sha256
from fastrelay.quic.connection import plain_address
from fastrelay.quic.raw import QuicTransport
from fastrelay.relay.metrics import CONTENT_TYPE
from fastrelay.relay.pages import Handler, Page, Pages

if TYPE_CHECKING:
    from fastrelay.relay.server import Server

SLICE = 100
"""Sessions or tracks turned into JSON without giving way to the network."""


class StatusPages:
    """``/healthz``: the loop runs. ``/readyz``: new clients are welcome. ``/servingz``: those
    that are here are served. ``/statusz``: every session and track. ``/metrics``: for
    Prometheus.

    A cluster asks for ``/servingz``: where it says no, kube-proxy forgets the UDP flows of
    the clients that are here, too; so a relay that drains, or has its fill, says yes.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started = time.time()
        self.handlers: Mapping[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/servingz": self._servingz,
            "/statusz": self._statusz,
            "/metrics": self._metrics,
        }
        self._pages = Pages(self.handlers)
        self.address: str | None = None

    async def listen(self, host: str, port: int) -> None:
        """Bind.

        :raises OSError: the address cannot be had.
        """
        await self._pages.listen(host, port)
        self.address = f"[{host}]" if ":" in host else host
        self.address += f":{self._pages.port}"

    async def close(self) -> None:
        await self._pages.close()

    async def _healthz(self) -> Page:
        return Page(b"ok\n")

    async def _readyz(self) -> Page:
        return _verdict(self._not_ready(), b"ready\n")

    async def _servingz(self) -> Page:
        return _verdict(self._not_serving(), b"serving\n")

    def _not_ready(self) -> str:
        server = self._server
        if server.draining:
            return "draining"
        if not server.relay.accepting:
            return "at the limit of sessions"
        return self._not_serving()

    def _not_serving(self) -> str:
        server = self._server
        if not server.endpoint.address[1]:
            return "not listening yet"
        if server.options.fast_path_required and server.kernel.reason:
            return f"the kernel does not forward: {server.kernel.reason}"
        return ""

    async def _metrics(self) -> Page:
        return Page(self._server.metrics.exposition(), CONTENT_TYPE)

    async def _statusz(self) -> Page:
        server = self._server
        document = {
            "process": self._process(),
            "fast_path": server.kernel.status(),
            "quota": None
            if server.door is None
            else server.door.status(asyncio.get_running_loop().time()),
            **server.relay.status(),
        }
        for peer, entry in zip(server.relay.peers, document["sessions"], strict=True):
            transport = server.transports[peer.session]
            entry["path"] = _path(transport)
            entry["user_packets"] = transport.media_packets
        return Page(await _encode(document), "application/json")

    def _process(self) -> dict[str, Any]:
        server = self._server
        certificate = server.endpoint.certificate
        return {
            "version": __version__,
            "uptime_seconds": round(time.time() - self._started, 3),
            "ready": not self._not_ready(),
            "reason": self._not_ready() or None,
            "warnings": [] if server.options.quic.encryption else [PLAINTEXT_WARNING],
            "listen": list(server.endpoint.address),
            "drafts": [draft.number for draft in server.options.quic.drafts],
            "certificate": certificate
            and {
                "sha256": certificate_sha256(certificate).hex(),
                "expires": certificate.not_valid_after_utc.isoformat(),
            },
            "handshakes_unfinished": server.endpoint.half_open,
            "upstreams": server.upstreams.status(),
        }


def _verdict(reason: str, good: bytes) -> Page:
    if reason:
        return Page(f"{reason}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
    return Page(good)


def _path(transport: QuicTransport) -> dict[str, Any]:
    """What the QUIC connection knows of the network."""
    measured = transport.measurements()
    return {
        # Where the peer is now; the session is named after where it was at first.
        "address": format_address(*plain_address(transport.engine.get_peer_address())),
        "cipher": transport.cipher_suite,
        "rtt_ms": _milliseconds(measured.smoothed_rtt),
        "rtt_latest_ms": _milliseconds(measured.latest_rtt),
        "rtt_min_ms": _milliseconds(measured.min_rtt),
        "rtt_variance_ms": _milliseconds(measured.rtt_variance),
        "jitter_ms": _milliseconds(measured.jitter),
        "delivered_bytes": measured.delivered,
        "delivery_rate": _whole(measured.delivery_rate),
        "application_limited": measured.application_limited,
        "bandwidth": _whole(measured.bandwidth),
        "congestion_window": measured.congestion_window,
        "bytes_in_flight": measured.bytes_in_flight,
        "packets_lost": measured.lost,
        "loss": round(measured.loss, 5),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


async def _encode(document: dict[str, Any]) -> bytes:
    """JSON, written in slices so that media does not wait for a page."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list):
            entries = []
            for number, entry in enumerate(value, 1):
                entries.append(json.dumps(entry))
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            text = f"[{', '.join(entries)}]"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(name)}: {text}")
    return f"{{{', '.join(parts)}}}\n".encode()
