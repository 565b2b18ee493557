"""The rule of bands, in Python and in the kernel, on the same steps::

    python -m bpf.model_bands --steps 1000000 --seed 1

``fastrelay.fastpath.bands`` is the reference. Both begin with the same numbers and go on with
their own; verdicts are compared step by step, all numbers after each batch.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

from bpf.fuzz_world import same
from bpf.harness import Datapath
from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import ALWAYS, MAX_LEVEL, SECOND, Bands, Shares, Verdict
from fastrelay.fastpath.layout import Reason

STEPS = 150
"""A batch: runs of one PROG_TEST_RUN."""
STEP = np.dtype(
    [
        ("now", "u8"),
        ("group", "u8"),
        ("size", "u4"),
        ("publisher", "u1"),
        ("subscriber", "u1"),
        ("judged", "u1"),
        ("band", "u1"),
        ("reason", "u8"),
        ("limit", "u8"),
    ]
)
WORDS = layout.CONNECTION_BANDS.dtype.itemsize // 8
PROBE = np.dtype([("next", "u8"), ("bands", "u8", WORDS), ("steps", STEP, STEPS)])
REASONS = {
    Verdict.ADMITTED: 0,
    Verdict.LEVEL: int(Reason.B_DROPPED_LEVEL),
    Verdict.SHARE: int(Reason.B_DROPPED_SHARE),
}


class Steps:
    """One seed's sequence; ``verdicts``: what became of those that were judged."""

    def __init__(self, datapath: Datapath, seed: int) -> None:
        datapath.load(Path(__file__).with_name("bands.c"))
        self.verdicts: Counter[Verdict] = Counter()
        self._datapath = datapath
        self._chance = Random(seed)
        self._probe = np.frombuffer(datapath.probe, PROBE, 1)[0]
        self._now = self._chance.randrange(1 << 50)
        self._words = [0] * WORDS
        self._begin()

    def _begin(self) -> None:
        """Another member."""
        chance = self._chance
        ends = (*sorted(chance.sample(range(255), 3)), 255)
        cuts = sorted(chance.choices(range(101), k=3))
        percent = tuple(b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True))
        burst = chance.choice([0, SECOND // 100, SECOND // 2, 5 * SECOND])
        self._bands = Bands(Shares(ends, percent, burst, chance.choice([0, 10, 100])))
        self._bands.enter(self._words, 0, 0)

    def run(self, steps: int) -> None:
        """:raises DifferenceError: program and reference disagree."""
        for _ in range(-(-steps // STEPS)):
            if self._chance.random() < 0.05:
                self._begin()
            if self._chance.random() < 0.2:
                self._decide()
            self._batch()

    def _decide(self) -> None:
        chance = self._chance
        self._bands.set_level(chance.choice([0, 0, 1, 256, 384, 700, chance.randint(0, MAX_LEVEL)]))
        until = self._now + chance.randrange(SECOND)
        self._bands.remember(chance.choice([0, until, ALWAYS, ALWAYS]))
        self._bands.set_window(chance.choice([0, 0, 2_400, chance.getrandbits(24)]))
        rate = chance.choice([0, 1, 2_000, 250_000, 250_000, 12_500_000, 1 << 34])
        self._bands.set_rate(rate, self._now)

    def _batch(self) -> None:
        chance, bands = self._chance, self._bands
        pace = chance.choice([0, 1_000, 1_000_000, 100_000_000])
        groups = chance.choice([2, 8, 64])
        steps = []
        for _ in range(STEPS):
            self._now += chance.randint(0, pace)
            steps.append(
                (
                    self._now,
                    chance.choice([chance.getrandbits(groups), chance.getrandbits(8)]),
                    chance.choice([1, 300, 1200, 1452]),
                    chance.getrandbits(8),
                    chance.choice([128, 128, chance.getrandbits(8)]),
                    chance.choice([0, 0, 1, 2]),
                    0,
                    0,
                    chance.choice([0, chance.getrandbits(16), chance.getrandbits(40)]),
                )
            )
        self._probe["next"] = 0
        self._probe["bands"] = self._words
        self._probe["steps"] = np.array(steps, STEP)
        self._datapath.run("probe_bands", bytes(64), repeat=STEPS)
        expected = []
        for now, group, size, publisher, subscriber, judged, _, _, limit in steps:
            band = bands.band(publisher, subscriber)
            verdict = Verdict.ADMITTED
            if judged:
                verdict = bands.judge(band, group, now, datagram=judged == 2)
                self.verdicts[verdict] += 1
            if verdict is Verdict.ADMITTED:
                bands.charge(band, size, now)
            expected.append((band, REASONS[verdict], bands.limit(band, limit)))
        found = self._probe["steps"][["band", "reason", "limit"]].tolist()
        for at, (step, mine, theirs) in enumerate(zip(steps, expected, found, strict=True)):
            same(theirs, mine, f"band, reason and limit of step {at} of the batch: {step}")
        same(self._probe["bands"].tolist(), self._words, "numbers after a batch")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with Datapath() as datapath:
        steps = Steps(datapath, arguments.seed)
        steps.run(arguments.steps)
    told = ", ".join(f"{verdict.name.lower()} {n}" for verdict, n in sorted(steps.verdicts.items()))
    print(f"{arguments.steps} steps, no difference; {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
