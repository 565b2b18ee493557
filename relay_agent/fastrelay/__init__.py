"""Fast relays for Media over QUIC: a relay, the tools around it, and its life on a node."""

__version__ = "0.1.0"
