"""QUIC under MoQT: a UDP socket in batches, raw QUIC and WebTransport, certificates."""
