"""moq-rs's `Server` as a small relay: what is published to it is what it serves.

Runs under the third-party Python. usage: moqrs_relay.py HOST:PORT CERTIFICATE KEY
"""

import asyncio
import sys

import moq


async def main(bind: str, certificate: str, key: str) -> None:
    origin = moq.OriginProducer()
    server = moq.Server(
        bind, tls_cert=[certificate], tls_key=[key], publish=origin, subscribe=origin
    )
    async with server:
        await server.serve()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
