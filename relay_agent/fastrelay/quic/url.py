"""The URLs of MoQT servers."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client wants to go."""

    host: str
    port: int
    path: str
    """With the query, starting with a slash; may be empty on raw QUIC."""
    webtransport: bool
    certificate_sha256: bytes | None = None

    @property
    def authority(self) -> str:
        """``host:port`` as in a URL; port 443 is not written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    def __str__(self) -> str:
        scheme = "https" if self.webtransport else "moqt"
        return f"{scheme}://{self.authority}{self.path}"


def parse_url(url: str, certificate_sha256: bytes | None = None) -> Target:
    """``moqt://host[:port]/path`` is raw QUIC, ``https://...`` WebTransport.

    :raises ValueError: anything else; the message says what to write.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("moqt", "https") or not parts.hostname:
        raise ValueError(f"{url!r}: write moqt://host:port/path or https://host:port/path")
    webtransport = parts.scheme == "https"
    path = parts.path or ("/" if webtransport else "")
    if parts.query:
        path = f"{path}?{parts.query}"
    return Target(
        host=parts.hostname,
        port=parts.port or 443,
        path=path,
        webtransport=webtransport,
        certificate_sha256=certificate_sha256,
    )
