"""How an endpoint behaves: every knob of the QUIC layer, with defaults that suit a relay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from fastrelay.moqt.drafts import DRAFTS, Draft

H3_ALPN = "h3"


class Retry(Enum):
    """When a server asks clients to prove their address first (RFC 9000 section 8.1.2)."""

    NEVER = "never"
    AUTO = "auto"
    """While at least ``retry_threshold`` handshakes are unfinished, or were begun within a second
    without one."""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicOptions:
    """Times are seconds, sizes are bytes."""

    drafts: tuple[Draft, ...] = tuple(DRAFTS.values())
    """Offered (client) or accepted (server), best first. A server's own order decides."""
    raw: bool = True
    """Serve MoQT right on QUIC."""
    webtransport: bool = True
    """Serve MoQT on WebTransport over HTTP/3."""

    certificate: Path | None = None
    """PEM chain, leaf first. Needed to listen."""
    private_key: Path | None = None
    reload_interval: float = 2.0
    """How often the two files are looked at for a change."""
    prefer_chacha20: bool = True
    """A server picks ChaCha20-Poly1305 where the client offers it, otherwise AES-GCM."""
    fast_path: bool = False
    """Connections may be lent to the kernel (:mod:`fastrelay.quic.lease`): ChaCha20-Poly1305 is
    preferred, peers are asked for packets of at most 1200 bytes, of which copies fit any path,
    and packets leave unfragmented or not at all, so that a path's size can be probed."""

    encryption: bool = True
    """False, for the laboratory: with peers that offer it too, all packets after the handshake
    travel in the clear, for everybody to read and to change."""

    ca_file: Path | None = None
    """Client: trust these authorities instead of the public ones."""
    insecure: bool = False
    """Client: accept any certificate."""
    certificate_sha256: bytes | None = None
    """Client: accept exactly the certificate whose DER has this SHA-256, and no other."""

    handshake_timeout: float = 10.0
    idle_timeout: float = 30.0
    keep_alive: float | None = None
    """Send a PING when nothing was received for so long, or for a third of the smaller idle
    timeout of both sides, so that an idle session stays; None: never."""
    retry: Retry = Retry.AUTO
    retry_threshold: int = 64
    max_connections: int = 10_000
    """Server connections at a time; further ones are closed with CONNECTION_REFUSED."""

    max_packet_size: int = 1200
    """UDP payload; the path must carry it, there is no discovery."""
    max_datagram_frame_size: int = 65_535
    max_data: int = 16 * 1024 * 1024
    """Flow control: what a peer may send before the first update of the window."""
    max_stream_data: int = 4 * 1024 * 1024
    max_streams_unidirectional: int = 4096
    """Streams a peer may have open at a time."""
    max_streams_bidirectional: int = 1024
    congestion_control: str = "cubic"
    """One of :data:`fastrelay.quic.congestion.CONTROLLERS`."""
    low_water: int = 64 * 1024
    """``Receiver.writable`` is called when the backlog falls below this."""

    receive_buffer: int = 4 * 1024 * 1024
    """SO_RCVBUF; the kernel may grant less (net.core.rmem_max)."""
    send_buffer: int = 4 * 1024 * 1024

    key_log: Path | None = None
    """Append TLS secrets there, in NSS key log format."""
    qlog_directory: Path | None = None
    """Write one qlog file per connection there. Slow: for investigation only."""

    def for_client(self, drafts: tuple[Draft, ...]) -> QuicOptions:
        """The same for one client connection that offers these drafts."""
        return replace(self, drafts=drafts, certificate=None, private_key=None)

    @property
    def alpn_protocols(self) -> list[str]:
        """What a server accepts, in its order of preference."""
        raw = [draft.alpn for draft in self.drafts] if self.raw else []
        return [*raw, H3_ALPN] if self.webtransport else raw


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What is known of a connection when it is ready for a MoQT session."""

    draft: Draft
    path: str
    """From the URL or the CONNECT request; empty for a raw server, where SETUP carries it."""
    authority: str
    webtransport: bool
    peer: tuple[str, int]
    """Address and port; IPv4 addresses are never written as IPv6-mapped ones."""
