"""Options of the command line as parts of a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

Tree = dict[str, Any]


def overlay(base: Tree, over: Tree) -> Tree:
    """``base`` with everything that ``over`` says; lists are replaced, not joined."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = overlay(below, value)
        else:
            result[key] = value
    return result


def host_and_port(text: str, option: str, *, default_port: int) -> Tree:
    """``HOST:PORT``, ``[HOST]:PORT``, ``:PORT``, ``PORT`` or ``HOST`` as ``{host, port}``."""
    host, port = text, ""
    if text.isdigit():
        host, port = "", text
    elif text.startswith("["):
        host, _, port = text[1:].partition("]")
        if port and not port.startswith(":"):
            raise _bad(option, text)
        port = port[1:]
    elif text.count(":") == 1:
        host, port = text.split(":")
    if port and not port.isdigit():
        raise _bad(option, text)
    number = int(port or default_port)
    if number > 65535:
        raise typer.BadParameter(f"{option}: port {number} is too large; the largest is 65535")
    return {"host": host, "port": number}


def _bad(option: str, text: str) -> typer.BadParameter:
    return typer.BadParameter(
        f"{option}: {text!r} is no address; write HOST:PORT like 0.0.0.0:4443 or [::1]:4443"
    )


def numbers(text: str, option: str) -> list[int]:
    """``18,22`` as a list."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{option}: {text!r} is no list of numbers; write them with commas, like 18,22,16"
        ) from None


def prefixed_tokens(publish: list[str], subscribe: list[str]) -> list[Tree]:
    """``PREFIX=FILE`` options as rules of ``spec.authorization``, one for each prefix."""
    rules: dict[str, Tree] = {}
    for option, action, values in (
        ("--publish-token", "Publish", publish),
        ("--subscribe-token", "Subscribe", subscribe),
    ):
        for value in values:
            prefix, separator, file = value.partition("=")
            if not separator or not file:
                raise typer.BadParameter(
                    f"{option}: {value!r} names no file; write PREFIX=FILE like live=token.txt"
                )
            rule = rules.setdefault(
                prefix,
                {"prefix": prefix, "publish": "Anyone", "subscribe": "Anyone", "tokens": []},
            )
            rule[action.lower()] = "Token"
            name = f"{action.lower()}-{len(rule['tokens']) + 1}"
            token = {"name": name, "file": str(Path(file)), "allow": [action]}
            rule["tokens"].append(token)
    return list(rules.values())
