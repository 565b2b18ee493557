"""Addresses with ports, as text."""

from __future__ import annotations


def bracketed(host: str) -> str:
    """As it stands before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def format_address(host: str, port: int | str) -> str:
    """``host:port``, with brackets around IPv6 addresses."""
    return f"{bracketed(host)}:{port}"
