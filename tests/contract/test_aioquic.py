"""What fastrelay.quic.aioquic_private mirrors or replaces has not changed in aioquic.

A failure here after an upgrade means: read the diff of that function, adapt the package,
run the other contract tests, and only then write the new digest down.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from typing import Any

import pytest
from aioquic import _crypto
from aioquic.h3.connection import H3Connection
from aioquic.quic import crypto, packet_builder, stream
from aioquic.quic.congestion.base import QuicCongestionControl, QuicRttMonitor
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_ack_frame, push_ack_frame
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import (
    QuicPacketNumberWindow,
    QuicPacketPacer,
    QuicPacketRecovery,
    QuicPacketSpace,
)
from aioquic.quic.stream import QuicStreamSender

from fastrelay.quic.aioquic_private import Engine
from fastrelay.quic.aioquic_private.streams import OwnStream, SendBuffer

MIRRORED: dict[Any, str] = {
    QuicConnection._flush_builder: "ac4bd66d7c3892df",
    QuicConnection._get_or_create_stream: "aee09c84cd0da114",
    QuicConnection._get_or_create_stream_for_send: "b68479a29862b421",
    QuicConnection._handle_ack_frame: "a9cf2707aa0f99a5",
    QuicConnection._handle_max_data_frame: "e5c49776cb2c9b0b",
    QuicConnection._handle_max_stream_data_frame: "c94e4873026aaa68",
    QuicConnection._handle_reset_stream_frame: "0a1801842064e9dd",
    QuicConnection._handle_stop_sending_frame: "57b0b54a8467ecb5",
    QuicConnection._handle_stream_frame: "8c79348a854e307d",
    QuicConnection._idle_timeout: "8549f45b09415b1a",
    QuicConnection._on_ack_delivery: "14648d79ecc50a3d",
    QuicConnection._on_max_stream_data_delivery: "76e906ea95ee03fe",
    QuicConnection._payload_received: "612b67759a96c701",
    QuicConnection._replenish_connection_ids: "73b127efb89c53a3",
    QuicConnection._serialize_transport_parameters: "be651f3ddfcd3f39",
    QuicConnection._stream_is_discarded: "d4812b6968024ae7",
    QuicConnection._unblock_streams: "cfde0b0287e2a38d",
    QuicConnection._write_ack_frame: "dc0bde63adda7ae4",
    QuicConnection._write_application: "c37bf64378f72b2f",
    QuicConnection._write_connection_limits: "02c42c5455ae1a31",
    QuicConnection._write_datagram_frame: "ec62fd6f1ce24a10",
    QuicConnection._write_stream_frame: "9bc0be962394a322",
    QuicConnection._write_stream_limits: "398d4a898f7c580f",
    QuicConnection.datagrams_to_send: "f4eb22c8add260fe",
    QuicConnection.get_timer: "07184a05f894e968",
    QuicConnection.handle_timer: "8ebd76a179bf5e25",
    QuicConnection.receive_datagram: "3c7f29826050cbfe",
    QuicConnection.reset_stream: "f5a5e1ff5935b8a1",
    QuicConnection.send_datagram_frame: "4626750e09d541ba",
    QuicConnection.send_stream_data: "d10cbdd766b528a6",
    QuicConnection.stop_stream: "c48810656a6b518a",
    QuicPacketPacer: "d845e32503fbe1f3",
    QuicPacketRecovery.get_loss_detection_time: "de155cb9bef95f8e",
    QuicPacketRecovery.get_probe_timeout: "782ca5036a10bc2f",
    QuicPacketRecovery.on_ack_received: "1a7c693479084333",
    QuicPacketRecovery.on_packet_sent: "a83baa6e05702f89",
    QuicPacketRecovery.reschedule_data: "a012ca1263fb6af0",
    QuicPacketSpace: "c7cc186fce73f0b8",
    stream.QuicStream: "e8b366bbfb2316f4",
    stream.QuicStreamReceiver: "78596a9b1406685c",
    stream.QuicStreamSender: "f14fb859f32d053a",
    packet_builder.QuicSentPacket: "cf8cb41c7ff005d9",
    packet_builder.QuicPacketBuilder._end_packet: "585948d0382505b3",
    packet_builder.QuicPacketBuilder.start_frame: "53af20167bc2f0e0",
    QuicConnection.__init__: "81aea715e34447e1",
    QuicConnection._abandon_path_validation: "bd71c1680e703738",
    QuicConnection._consume_peer_cid: "13a5b8e0d4da30b8",
    QuicConnection._discard_epoch: "124889133f0c2ef0",
    QuicConnection._handle_datagram_frame: "38fb0c3c9f00a28e",
    QuicConnection._handle_max_streams_uni_frame: "ee2cb5b4991be1c8",
    QuicConnection._handle_new_connection_id_frame: "8a802ee5e62d1e3f",
    QuicConnection._handle_path_response_frame: "7fbf9c34446cbc95",
    QuicConnection._handle_retire_connection_id_frame: "4f53abae92fa4017",
    QuicConnection._parse_transport_parameters: "0da95a03bd5bf00b",
    QuicConnection._send_probing_frames: "7968d5d37ef81a11",
    QuicConnection._set_state: "17a16075473180b2",
    QuicConnection._update_traffic_key: "44917755daf961b0",
    QuicConnection._use_reserved_peer_cid: "ddb0329e0e84209b",
    QuicConnection._write_handshake: "0e6a413ccb165864",
    QuicConnection._write_connection_close_frame: "d3c969978b01bb30",
    QuicConnection.change_connection_id: "60bf2f7b2c8600fe",
    QuicConnection.close: "f24ea1b2912e68d7",
    QuicConnection.request_key_update: "5f5b283854898c8e",
    QuicPacketRecovery.__init__: "11dd9eddeac78a3a",
    QuicPacketRecovery._detect_loss: "56e5a246bb22cb69",
    QuicPacketRecovery._get_loss_space: "3b10f42fefbdb4e7",
    QuicPacketRecovery._in_persistent_congestion: "6c04346ace9ecfb6",
    QuicPacketRecovery._on_packets_lost: "77a0ba7595137455",
    QuicPacketRecovery.on_loss_detection_timeout: "50d7fd652fe671d4",
    QuicPacketNumberWindow: "3dd3a30b91254283",
    RangeSet: "70eb25378fd30906",
    packet_builder.QuicPacketBuilder.flush: "b09066e03f9342d6",
    crypto.next_key_phase: "92c61aab180e0f29",
    crypto.apply_key_phase: "f0cdd78e573aedcd",
    crypto.derive_key_iv_hp: "5fab012172998d09",
    QuicCongestionControl: "bddfb2c015f780fe",
    QuicRttMonitor: "c94f3ef2e9712b5e",
    pull_ack_frame: "4226facfbe35b7be",
    push_ack_frame: "121c52341e802eac",
    crypto.CryptoContext: "2e18271cdbb7f31b",
    crypto.CryptoPair: "b15d4150ed1808c1",
    _crypto.AEAD: "f9a6d18394533a45",
    _crypto.HeaderProtection: "3c96518aef24acee",
    H3Connection.__init__: "dd6af01c0d7519db",
    H3Connection._get_local_settings: "6d1ff1ffc25833d2",
    H3Connection._init_connection: "5dbdb7d87fbc17f3",
}


def digest(thing: Any) -> str:
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aioquic") == "1.7.2"


@pytest.mark.parametrize("thing", MIRRORED, ids=lambda thing: thing.__qualname__)
def test_mirrored_source_is_unchanged(thing: Any) -> None:
    assert digest(thing) == MIRRORED[thing]


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("__")}


def test_send_buffer_has_all_that_aioquic_uses() -> None:
    aioquics = vars(QuicStreamSender(0, True)).keys() | public(QuicStreamSender)
    ours = set(SendBuffer.__slots__) | public(SendBuffer)
    assert {name for name in aioquics if not name.startswith("_")} <= ours


def test_own_stream_has_all_that_aioquic_uses() -> None:
    aioquics = vars(stream.QuicStream(0)).keys() | public(stream.QuicStream)
    assert aioquics <= set(OwnStream.__slots__) | public(OwnStream)


@pytest.mark.parametrize("is_client", [False, True])
def test_recovery_begins_as_aioquics_does(is_client: bool) -> None:
    from contract.wire import configuration

    config = configuration(is_client=is_client, congestion_control_algorithm="cubic")
    identifiers = {} if is_client else {"original_destination_connection_id": bytes(8)}
    theirs = vars(QuicConnection(configuration=config, **identifiers)._loss)
    ours = vars(
        Engine(
            config, max_streams_unidirectional=1, max_streams_bidirectional=1, **identifiers
        )._loss
    )
    plain = {name for name, value in theirs.items() if isinstance(value, int | float | None)}
    assert {name: ours[name] for name in plain} == {name: theirs[name] for name in plain}
    assert type(ours["_cc"]) is type(theirs["_cc"])
    assert not {"_lease", "_account", "packets_lost"} & theirs.keys()


def test_no_new_attribute_hides_one_of_aioquics() -> None:
    """The engine's own names must not collide with names that aioquic gives its instances."""
    from contract.wire import configuration

    theirs = vars(QuicConnection(configuration=configuration(is_client=True))).keys()
    engine = Engine(
        configuration(is_client=True), max_streams_unidirectional=1, max_streams_bidirectional=1
    )
    added = vars(engine).keys() - theirs
    assert added == {
        "_application",
        "_connection_ids_due",
        "_control",
        "_datagram_bytes_unsent",
        "_datagram_index",
        "_encryption",
        "_datagram_number",
        "_first_secrets",
        "_frame_handlers",
        "_gone_codes",
        "_max_udp_payload_size",
        "_keys",
        "_lease",
        "_lease_over",
        "_lent_path",
        "_lets",
        "_one_rtt",
        "_one_rtt_crypto",
        "_parked",
        "_partial_resets",
        "_path_probe",
        "_patience",
        "_path_probe_losses",
        "_path_size",
        "_path_size_limit",
        "_plain_sending",
        "_ready",
        "_resets",
        "_recovery",
        "_scratch",
        "_stopping",
        "_stream_bytes_written",
        "_unacknowledged",
        "_ack_every",
        "_asked_every",
        "_frequencies_sent",
        "_frequency_received",
        "_held_back",
        "_holes_at_once",
        "_peers_min_ack_delay",
        "_urgent",
        "_wrote_media",
        "ends_of_path",
        "is_interrupted",
        "is_unmoved",
        "has_new_media",
        "is_plaintext",
        "media_packets",
        "on_acknowledgements",
        "on_due",
    }
    for kind in Engine.__mro__[: Engine.__mro__.index(QuicConnection)]:
        overridden = {name for name in public(kind) if hasattr(QuicConnection, name)}
        assert overridden <= {
            "_consume_peer_cid",
            "_discard_epoch",
            "_flush_builder",
            "_get_or_create_stream",
            "_get_or_create_stream_for_send",
            "_handle_datagram_frame",
            "_handle_max_data_frame",
            "_handle_max_stream_data_frame",
            "_handle_max_streams_uni_frame",
            "_handle_reset_stream_frame",
            "_handle_stop_sending_frame",
            "_handle_stream_frame",
            "_on_max_stream_data_delivery",
            "_on_new_connection_id_delivery",
            "_parse_transport_parameters",
            "_replenish_connection_ids",
            "_serialize_transport_parameters",
            "_set_state",
            "_unblock_streams",
            "_update_traffic_key",
            "_use_reserved_peer_cid",
            "_write_application",
            "_write_datagram_frame",
            "_write_reset_stream_frame",
            "close",
            "datagrams_to_send",
            "get_timer",
            "handle_timer",
            "receive_datagram",
            "request_key_update",
            "reset_stream",
            "send_datagram_frame",
            "send_stream_data",
            "stop_stream",
        }
