"""URLs of MoQT servers."""

from __future__ import annotations

import pytest

from fastrelay.quic.url import parse_url


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "webtransport", "authority"),
    [
        ("moqt://relay.example/live", "relay.example", 443, "/live", False, "relay.example"),
        ("moqt://h:4443", "h", 4443, "", False, "h:4443"),
        ("https://h:4443", "h", 4443, "/", True, "h:4443"),
        ("https://[::1]:5/a?b=c", "::1", 5, "/a?b=c", True, "[::1]:5"),
    ],
)
def test_urls(
    url: str, host: str, port: int, path: str, webtransport: bool, authority: str
) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert (target.webtransport, target.authority) == (webtransport, authority)


@pytest.mark.parametrize("url", ["http://h", "h:4443", "moqt:///path", "", "moqt://h:99999"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"moqt://|Port"):
        parse_url(url)


def test_a_target_reads_as_its_url() -> None:
    assert str(parse_url("moqt://h:4443/x")) == "moqt://h:4443/x"
    assert str(parse_url("https://h")) == "https://h/"
