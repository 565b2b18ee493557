"""Options in the form that aioquic takes."""

from __future__ import annotations

import ssl

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicFileLogger
from aioquic.tls import CipherSuite

from fastrelay.quic.aioquic_private import registered
from fastrelay.quic.certificates import Identity, load_identity
from fastrelay.quic.options import H3_ALPN, QuicOptions
from fastrelay.quic.url import Target

_AES = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384]
_CHACHA20 = [CipherSuite.CHACHA20_POLY1305_SHA256]


def server_configuration(options: QuicOptions) -> QuicConfiguration:
    """One for all connections of a server; :func:`set_identity` may change it at any time.

    :raises OSError, ValueError: the certificate or key cannot be loaded.
    """
    configuration = _common(options, is_client=False)
    configuration.alpn_protocols = options.alpn_protocols
    if options.certificate is None or options.private_key is None:
        raise ValueError("a server needs a certificate and a private key")
    set_identity(configuration, load_identity(options.certificate, options.private_key))
    return configuration


def set_identity(configuration: QuicConfiguration, identity: Identity) -> None:
    """Handshakes that begin from now on use this one."""
    configuration.certificate, *configuration.certificate_chain = identity.chain
    configuration.private_key = identity.private_key


def client_configuration(options: QuicOptions, target: Target) -> QuicConfiguration:
    """For one connection to the target."""
    configuration = _common(options, is_client=True)
    configuration.alpn_protocols = (
        [H3_ALPN] if target.webtransport else [draft.alpn for draft in options.drafts]
    )
    configuration.server_name = target.host
    if options.insecure or target.certificate_sha256 is not None:
        configuration.verify_mode = ssl.CERT_NONE
    elif options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    return configuration


def _common(options: QuicOptions, *, is_client: bool) -> QuicConfiguration:
    prefer_chacha20 = options.prefer_chacha20 or options.fast_path
    qlog = options.qlog_directory
    if qlog is not None:
        qlog.mkdir(parents=True, exist_ok=True)
    return QuicConfiguration(
        is_client=is_client,
        cipher_suites=_CHACHA20 + _AES if prefer_chacha20 else _AES + _CHACHA20,
        congestion_control_algorithm=registered(options.congestion_control),
        idle_timeout=options.idle_timeout,
        max_data=options.max_data,
        max_stream_data=options.max_stream_data,
        max_datagram_size=options.max_packet_size,
        max_datagram_frame_size=options.max_datagram_frame_size,
        quic_logger=QuicFileLogger(str(qlog)) if qlog is not None else None,
    )
