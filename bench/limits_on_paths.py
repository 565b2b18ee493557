"""What the limiter drops of 4 Mbit/s on simulated paths that carry all of it::

    PYTHONPATH=tests python -m bench.limits_on_paths

320 of them: two controllers, four rates, four round trips, receivers that stand still or hardly get
their turn, jitter. Prints those on which anything was dropped. A minute.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import product

from fastrelay.quic.congestion import Cubic, Delay
from unit.quic.bottleneck import Bottleneck
from unit.relay.paths import MBIT, Media

RATES = 5, 8, 20, 100
"""Mbit/s."""
ROUND_TRIPS = 0.002, 0.02, 0.04, 0.1
PAUSES: dict[str, tuple[tuple[float, float], ...]] = {
    "no pause": (),
    "0.3 s": ((5.3, 5.6),),
    "1 s": ((5.3, 6.3),),
    "3 s": ((5.3, 8.3),),
    "3 % of its time": tuple((5.0 + turn, 5.97 + turn) for turn in range(5)),
}
JITTERS = 0.0, 0.02
BUFFER = 0.2
SECONDS = 14.0


def main() -> int:
    """Play them all."""
    paths = list(product((Delay, Cubic), RATES, ROUND_TRIPS, PAUSES, JITTERS))
    hit = 0
    for rule, rate, round_trip, pause, jitter in paths:
        media = Media(rule(1200), round_trip=round_trip, pauses=PAUSES[pause])
        Bottleneck(rate * MBIT, BUFFER, jitter=jitter).run([media], SECONDS)
        if media.dropped:
            hit += 1
            bands = Counter(band for _, band, _ in media.dropped)
            print(
                f"{rule.__name__}, {rate} Mbit/s, {round_trip * 1e3:g} ms, {pause},"
                f" jitter {jitter * 1e3:g} ms: "
                + ", ".join(f"{bands[band]} groups of band {band}" for band in sorted(bands))
            )
    print(f"{hit} of {len(paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
