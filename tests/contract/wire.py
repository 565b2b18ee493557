"""Two QUIC connections joined by a wire made of lists, with a clock of its own."""

from __future__ import annotations

import random
import ssl
from dataclasses import dataclass, field
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fastrelay.quic.aioquic_private import Engine, registered
from fastrelay.quic.certificates import make_self_signed

_MADE = make_self_signed()
_CERTIFICATE = x509.load_pem_x509_certificate(_MADE.certificate)
_KEY = load_pem_private_key(_MADE.private_key, password=None)
_ADDRESS = {True: ("192.0.2.1", 1), False: ("192.0.2.2", 2)}
"""By "is the client's"."""


def configuration(*, is_client: bool, **changes: Any) -> QuicConfiguration:
    made = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["test"],
        max_datagram_frame_size=65_535,
        verify_mode=ssl.CERT_NONE,
        **{"congestion_control_algorithm": registered("cubic"), **changes},
    )
    if not is_client:
        made.certificate, made.private_key = _CERTIFICATE, _KEY
    return made


def make(kind: type[QuicConnection], config: QuicConfiguration, **arguments: Any) -> QuicConnection:
    if kind is Engine:
        return Engine(
            config, max_streams_unidirectional=256, max_streams_bidirectional=128, **arguments
        )
    return kind(configuration=config, **arguments)


@dataclass
class Heard:
    """What the events of one side said."""

    streams: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    stops: dict[int, int] = field(default_factory=dict)
    datagrams: list[bytes] = field(default_factory=list)
    ended: events.ConnectionTerminated | None = None


class Helper(Protocol):
    """Somebody who sends on the connection of a side's, beside its engine."""

    def collect(self) -> None:
        """Tell the side what was sent: before datagrams or timers are handled."""

    def flight(self, own: list[bytes], now: float) -> list[bytes]:
        """The side's own datagrams, and the helper's between them."""

    def takes(self, data: bytes, now: float) -> bool:
        """Whether a datagram to the side ends here."""


class Wire:
    """``client`` and ``server`` with a shared clock; each step takes half a round trip."""

    def __init__(
        self,
        client: type[QuicConnection] = Engine,
        server: type[QuicConnection] = Engine,
        *,
        loss: float = 0.0,
        reordering: float = 0.0,
        seed: int = 0,
        cipher_suites: list[CipherSuite] | None = None,
        client_arguments: dict[str, Any] | None = None,
        server_arguments: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        self.now = 1000.0
        self.packets = 0
        self._random = random.Random(seed)
        self._loss, self._reordering = loss, reordering
        self.client = make(
            client,
            configuration(is_client=True, cipher_suites=cipher_suites, **changes),
            **(client_arguments or {}),
        )
        self.server = make(
            server,
            configuration(is_client=False, cipher_suites=cipher_suites, **changes),
            original_destination_connection_id=self.client.original_destination_connection_id,
            **(server_arguments or {}),
        )
        self.heard = {self.client: Heard(), self.server: Heard()}
        self.helper: Helper | None = None
        """Who else sends on the server's connection."""
        self.client.connect(_ADDRESS[False], self.now)

    def other(self, side: QuicConnection) -> QuicConnection:
        return self.server if side is self.client else self.client

    def handshake(self) -> None:
        self.run(lambda: self.client._handshake_confirmed and self.server._handshake_confirmed)
        for _ in range(12):
            self.step()

    def settle(self, steps: int = 12) -> None:
        """Let pass what is under way, on a wire that is perfect from now on."""
        self._loss = self._reordering = 0.0
        for _ in range(steps):
            self.step()

    def run(self, done: Any, steps: int = 20_000) -> None:
        for _ in range(steps):
            if done():
                return
            self.step()
        raise AssertionError("not done in time")

    def step(self, seconds: float = 0.005) -> None:
        """Timers, then what each side sends reaches the other, perhaps."""
        self.now += seconds
        flights = []
        for side in (self.client, self.server):
            if side.get_peer_address() is None:
                continue  # a server that has heard nothing yet
            helper = self.helper if side is self.server else None
            if helper is not None:
                helper.collect()
            timer = side.get_timer()
            if timer is not None and timer <= self.now:
                side.handle_timer(self.now)
            flight = [data for data, _ in side.datagrams_to_send(self.now)]
            if helper is not None:
                flight = helper.flight(flight, self.now)
            flights.append((side, flight))
        for side, flight in flights:
            self.packets += len(flight)
            flight = [data for data in flight if self._random.random() >= self._loss]
            if self._random.random() < self._reordering:
                self._random.shuffle(flight)
            if self.helper is not None and side is self.client:
                self.helper.collect()
            for data in flight:
                helper = self.helper if side is self.client else None
                if helper is not None and helper.takes(data, self.now):
                    continue
                self.other(side).receive_datagram(data, _ADDRESS[side is self.client], self.now)
        for side in (self.client, self.server):
            self._listen(side)

    def _listen(self, side: QuicConnection) -> None:
        heard = self.heard[side]
        while (event := side.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                assert event.stream_id not in heard.finished
                heard.streams.setdefault(event.stream_id, bytearray()).extend(event.data)
                if event.end_stream:
                    heard.finished.add(event.stream_id)
            elif isinstance(event, events.StreamReset):
                heard.resets[event.stream_id] = event.error_code
            elif isinstance(event, events.StopSendingReceived):
                heard.stops[event.stream_id] = event.error_code
            elif isinstance(event, events.DatagramFrameReceived):
                heard.datagrams.append(event.data)
            elif isinstance(event, events.ConnectionTerminated):
                heard.ended = event
