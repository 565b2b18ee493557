"""CPU per object on the sending side: fastrelay's endpoint beside plain aioquic.

A sender gives one object of 1100 bytes, on a stream of its own, to each of N connections,
again and again. Both senders run in a process of their own against the same receivers, and
what counts is the CPU time of the sender's process, system calls and ACKs included::

    python bench/quic_cost.py [--seconds 4] [--rate 50] [--connections 1 20] [--repeat 3]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, QuicEvent
from aioquic.tls import CipherSuite
from rich.console import Console
from rich.table import Table

from fastrelay.moqt.drafts import DRAFT_18
from fastrelay.moqt.transport import Receiver, Transport
from fastrelay.quic.certificates import make_self_signed
from fastrelay.quic.endpoint import Endpoint, connect
from fastrelay.quic.options import Negotiated, QuicOptions, Retry

OBJECT = os.urandom(1100)


class Sink:
    """A receiver that counts finished streams."""

    finished = 0

    def stream_data(self, _stream_id: int, _data: bytes, fin: bool) -> None:
        Sink.finished += fin

    def stream_reset(self, _stream_id: int, _code: int) -> None: ...

    def stream_stopped(self, _stream_id: int, _code: int) -> None: ...

    def datagram(self, _data: bytes) -> None: ...

    def writable(self) -> None: ...

    def closed(self, _code: int, _reason: str) -> None: ...


class AioquicSession(QuicConnectionProtocol):
    """Plain aioquic, as its own server runs it."""

    ready: list[AioquicSession]

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.ready.append(self)

    def give(self) -> None:
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(stream_id, OBJECT, end_stream=True)
        self.transmit()


class EndpointSession(Sink):
    """The same through fastrelay's endpoint."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def give(self) -> None:
        stream_id = self.transport.open_stream(unidirectional=True)
        self.transport.send(stream_id, OBJECT, True)


async def aioquic_server(options: QuicOptions, sessions: list[Any], _scheme: str) -> int:
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=[DRAFT_18.alpn],
        cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256],
    )
    assert options.certificate is not None
    configuration.load_cert_chain(options.certificate, options.private_key)
    AioquicSession.ready = sessions
    server = await serve(
        "127.0.0.1", 0, configuration=configuration, create_protocol=AioquicSession
    )
    assert server._transport is not None
    return int(server._transport.get_extra_info("sockname")[1])


async def endpoint_server(options: QuicOptions, sessions: list[Any], _scheme: str) -> int:
    def accept(_negotiated: Negotiated, transport: Transport) -> Receiver:
        session = EndpointSession(transport)
        sessions.append(session)
        return session

    endpoint = Endpoint(options, accept)
    await endpoint.listen("127.0.0.1", 0)
    return endpoint.address[1]


def sender(
    kind: str, scheme: str, arguments: argparse.Namespace, directory: str, n: int, pipe: Pipe
) -> None:
    """Serves, waits for n sessions, sends, and reports microseconds of CPU per object."""

    async def run() -> None:
        options = QuicOptions(
            drafts=(DRAFT_18,),
            certificate=Path(directory, "certificate.pem"),
            private_key=Path(directory, "private-key.pem"),
            retry=Retry.NEVER,
        )
        sessions: list[Any] = []
        start = aioquic_server if kind == "aioquic" else endpoint_server
        pipe.send(await start(options, sessions, scheme))
        while len(sessions) < n:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        profile = arguments.profile and kind != "aioquic"
        if profile:
            import cProfile

            profiler = cProfile.Profile()
            profiler.enable()
        rounds = int(arguments.seconds * arguments.rate)
        loop = asyncio.get_running_loop()
        begin, used = loop.time(), time.process_time()
        for index in range(rounds):
            await asyncio.sleep(max(0, begin + index / arguments.rate - loop.time()))
            for session in sessions:
                session.give()
        await asyncio.sleep(0.05)
        used = time.process_time() - used
        if profile:
            import pstats

            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
        pipe.send(used / (rounds * n) * 1e6)

    asyncio.run(run())


def receivers(scheme: str, port: int, n: int, pipe: Pipe) -> None:
    async def run() -> None:
        options = QuicOptions(drafts=(DRAFT_18,), insecure=True)
        url = f"{scheme}://127.0.0.1:{port}/"
        connections = [
            await connect(url, options.drafts, options, lambda *_: Sink()) for _ in range(n)
        ]
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        for connection in connections:
            await connection.close()
        pipe.send(Sink.finished)

    asyncio.run(run())


def measure(kind: str, scheme: str, n: int, arguments: argparse.Namespace, directory: str) -> float:
    """Microseconds of CPU per object."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sending = context.Process(target=sender, args=(kind, scheme, arguments, directory, n, theirs))
    sending.start()
    port = ours.recv()
    control, remote = context.Pipe()
    receiving = context.Process(target=receivers, args=(scheme, port, n, remote))
    receiving.start()
    cost: float = ours.recv()
    control.send(None)
    finished = control.recv()
    expected = int(arguments.seconds * arguments.rate) * n
    if finished < expected:
        print(f"{kind} {scheme} {n}: only {finished} of {expected} arrived", file=sys.stderr)
    receiving.join()
    sending.join()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=50.0, help="objects a second and connection")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    arguments = parser.parse_args()
    table = Table(
        title="CPU per 1100-byte object on the sending side, microseconds: median (spread)"
    )
    for column in (
        "connections",
        "aioquic",
        "endpoint, raw",
        "ratio",
        "endpoint, WebTransport",
        "ratio",
    ):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as directory:
        made = make_self_signed()
        made.write(Path(directory, "certificate.pem"), Path(directory, "private-key.pem"))
        for n in arguments.connections:
            runs: dict[str, list[float]] = {"aioquic": [], "raw": [], "webtransport": []}
            for _ in range(arguments.repeat):  # interleaved: the machine drifts
                runs["aioquic"].append(measure("aioquic", "moqt", n, arguments, directory))
                runs["raw"].append(measure("endpoint", "moqt", n, arguments, directory))
                runs["webtransport"].append(measure("endpoint", "https", n, arguments, directory))
            middle = {name: statistics.median(values) for name, values in runs.items()}
            shown = {
                name: f"{middle[name]:.0f} ({min(values):.0f}-{max(values):.0f})"
                for name, values in runs.items()
            }
            table.add_row(
                str(n),
                shown["aioquic"],
                shown["raw"],
                f"{middle['raw'] / middle['aioquic']:.2f}",
                shown["webtransport"],
                f"{middle['webtransport'] / middle['aioquic']:.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
