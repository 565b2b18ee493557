"""Options of the command line as parts of a spec."""

from __future__ import annotations

import pytest
import typer

from fastrelay.cli.overrides import host_and_port, numbers, overlay, prefixed_tokens


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:5000", "0.0.0.0", 5000),
        ("[::1]:5000", "::1", 5000),
        ("[::]", "::", 4443),
        (":5000", "", 5000),
        ("5000", "", 5000),
        ("localhost", "localhost", 4443),
        ("2001:db8::1", "2001:db8::1", 4443),
        ("localhost:", "localhost", 4443),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert host_and_port(text, "--listen", default_port=4443) == {"host": host, "port": port}


@pytest.mark.parametrize("text", ["a:b", "[::1]5000", "[::1]:x", "localhost:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--listen"):
        host_and_port(text, "--listen", default_port=4443)


def test_lists_of_numbers() -> None:
    assert numbers("18, 22", "--drafts") == [18, 22]
    with pytest.raises(typer.BadParameter, match="write them with commas, like 18,22,16"):
        numbers("18;22", "--drafts")


def test_what_is_given_wins_and_the_rest_stays() -> None:
    base = {"listen": {"port": 1, "host": "a"}, "upstreams": [1], "tls": {"secretName": "x"}}
    over = {"listen": {"port": 2}, "upstreams": [2], "tls": {"secretName": None}, "drain": {"a": 1}}
    assert overlay(base, over) == {
        "listen": {"port": 2, "host": "a"},
        "upstreams": [2],
        "tls": {"secretName": None},
        "drain": {"a": 1},
    }
    assert base["listen"] == {"port": 1, "host": "a"}


def test_tokens_of_one_prefix_are_one_rule() -> None:
    rules = prefixed_tokens(["live=a", "live=b"], ["live=c", "news=d"])
    assert rules == [
        {
            "prefix": "live",
            "publish": "Token",
            "subscribe": "Token",
            "tokens": [
                {"name": "publish-1", "file": "a", "allow": ["Publish"]},
                {"name": "publish-2", "file": "b", "allow": ["Publish"]},
                {"name": "subscribe-3", "file": "c", "allow": ["Subscribe"]},
            ],
        },
        {
            "prefix": "news",
            "publish": "Anyone",
            "subscribe": "Token",
            "tokens": [{"name": "subscribe-1", "file": "d", "allow": ["Subscribe"]}],
        },
    ]


@pytest.mark.parametrize("text", ["live", "live="])
def test_tokens_need_a_file(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write PREFIX=FILE"):
        prefixed_tokens([text], [])
