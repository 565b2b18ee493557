"""Connections of aioquic's, both ends in memory; one of them is the relay's, which lends it to the
programs: its keys, its connection ids, its credit."""

from __future__ import annotations

import ssl

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoContext, derive_key_iv_hp, next_key_phase
from aioquic.quic.events import QuicEvent
from aioquic.tls import CipherSuite, Epoch
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bpf.packets import Keys
from bpf.scenario import Ends, Peer, Scenario
from fastrelay.quic.certificates import make_self_signed

GENERATIONS = 4
"""Of keys: as many as a connection has room for."""
ADDRESS = ("192.0.2.1", 4443)
_MADE = make_self_signed()


def keys_of(context: CryptoContext, generations: int = GENERATIONS) -> Keys:
    """A direction's, from its secret on."""
    ring, hp = [], b""
    for _ in range(generations):
        suite, secret, version = context.cipher_suite, context.secret, context.version
        key, iv, protection = derive_key_iv_hp(cipher_suite=suite, secret=secret, version=version)
        ring.append((key, iv))
        hp = hp or protection
        context = next_key_phase(context)
    return Keys(hp, tuple(ring))


class Pair:
    """A client of aioquic's, and the relay's end of its connection, which reads everything too."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = QuicConnection(configuration=_configuration(is_client=True))
        self.relay = QuicConnection(
            configuration=_configuration(is_client=False),
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.client.connect(ADDRESS, now=self.now)
        for _ in range(5):
            self.carry(self.client, self.relay)
            self.carry(self.relay, self.client)
        self.events(self.client)
        self.events(self.relay)

    def carry(self, source: QuicConnection, target: QuicConnection) -> list[bytes]:
        """Everything that one end has to send; returned as it went."""
        sent = self.taken(source)
        for datagram in sent:
            target.receive_datagram(datagram, ADDRESS, now=self.now)
        return sent

    def taken(self, source: QuicConnection) -> list[bytes]:
        self.now += 0.001
        return [datagram for datagram, _ in source.datagrams_to_send(now=self.now)]

    @staticmethod
    def events(end: QuicConnection) -> list[QuicEvent]:
        """Those that have not been looked at."""
        return list(iter(end.next_event, None))

    def lend(self, scenario: Scenario, index: int) -> Peer:
        """The relay's end as a registered connection, with the credit that the client gave."""
        crypto = self.relay._cryptos[Epoch.ONE_RTT]
        ends = Ends(
            to_relay=keys_of(crypto.recv),
            from_relay=keys_of(crypto.send),
            cid=self.relay.host_cid,
            dcid=self.relay._peer_cid.cid,
        )
        space = self.relay._spaces[Epoch.ONE_RTT]
        peer = scenario.connect(
            index,
            ends=ends,
            largest=space.largest_received_packet,
            packet_number=self.relay._packet_number,
        )
        entry = scenario.datapath.view("connections")[index]
        entry["stream_number_limit"] = self.relay._remote_max_streams_uni
        entry["stream_data_limit"] = self.relay._remote_max_stream_data_uni
        entry["data_limit"] = self.relay._remote_max_data
        entry["datagram_limit"] = self.relay._remote_max_datagram_frame_size or 0
        return peer


def _configuration(*, is_client: bool) -> QuicConfiguration:
    made = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["test"],
        cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256],
        max_datagram_frame_size=65_535,
        verify_mode=ssl.CERT_NONE,
    )
    if not is_client:
        made.certificate = x509.load_pem_x509_certificate(_MADE.certificate)
        made.private_key = load_pem_private_key(_MADE.private_key, password=None)
    return made
