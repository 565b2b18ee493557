"""The toggle test for as long as wanted; root is needed::

    PYTHONPATH=tests python -m integration.fastpath.soak --minutes 30 --seed 7

A round is a fresh crowd; what was done is printed. Ends with 1 and the reason if anybody misses
a byte or gets one twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from integration.fastpath.crowd import Crowd, Terms, members
from integration.fastpath.harness import FastRelay
from integration.fastpath.scripted import scripted_relay
from integration.fastpath.toggling import Troubles, spread_over_cpus
from integration.harness import Certificate


async def one_round(
    relay: FastRelay, certificate: Certificate, seed: int, subscribers: int, switches: int
) -> None:
    crowd = Crowd(relay, certificate, f"soak{seed}")
    troubles = Troubles(crowd, seed, lambda text: print(f"  {text}", flush=True))
    async with crowd.gathered(
        members(subscribers, bad=True),
        streams=Terms(loss=0.05, late_out=0.05),
        datagrams=Terms(late_out=0.05),
    ):
        await troubles.run(switches=switches, agents=switches // 10, keys=switches // 5)
        await crowd.mend()
        await crowd.settle()
        await relay.mostly_in_kernel(crowd.settle)
    said = relay.status()
    refused = {k: v for k, v in said["fast_path"].items() if v}
    print(f"  {crowd.writer.ticks} ticks, {dict(troubles.done)}")
    print(f"  {json.dumps(refused)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--subscribers", type=int, default=20)
    parser.add_argument("--switches", type=int, default=50, help="a round")
    parser.add_argument("--rps", action="store_true", help="copies on two CPUs")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    seed = arguments.seed
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        certificate = Certificate.make(directory)
        with scripted_relay(certificate, directory / "relay") as relay:
            if arguments.rps:
                spread_over_cpus(relay)
            while seed == arguments.seed or time.monotonic() < end:
                print(f"seed {seed}:", flush=True)
                asyncio.run(
                    one_round(relay, certificate, seed, arguments.subscribers, arguments.switches)
                )
                seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
