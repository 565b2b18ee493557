"""A relay that does on a signal what real ones do after hours: new keys, other connection ids."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastrelay.local import stack
from integration.fastpath.harness import FastRelay, fast_relay

NEW_KEYS = signal.SIGUSR1
NEW_CONNECTION_IDS = signal.SIGUSR2

_SCRIPT = """
import signal
from fastrelay.cli import main
from fastrelay.quic.endpoint import Endpoint

listen = Endpoint.listen

async def scripted(self, host, port):
    await listen(self, host, port)

    def on_all(change):
        for connection in self.connections:
            change(connection.engine)
            connection.touch()

    def new_keys(engine):
        engine.request_key_update()
        engine.send_ping(0)  # with the next packet of user space's own

    add = self.loop.add_signal_handler
    add(signal.SIGUSR1, on_all, new_keys)
    add(signal.SIGUSR2, on_all, lambda engine: engine.change_connection_id())

Endpoint.listen = scripted
main()
"""


@contextmanager
def scripted_relay(*arguments: Any, **options: Any) -> Iterator[FastRelay]:
    """As ``fast_relay``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "fastrelay", _command)
        with fast_relay(*arguments, **options) as relay:
            yield relay


def _command(*arguments: str) -> list[str]:
    program = ("-c", _SCRIPT) if arguments[0] == "relay" else ("-m", "fastrelay.cli")
    return [sys.executable, *program, *arguments]
