"""Long random lives with a kernel. Hypothesis (:mod:`.test_fast_model`) finds short ways to
trouble; here many things are under way at once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fastrelay.moqt.drafts import DRAFT_16, DRAFT_18, DRAFT_22
from fastrelay.moqt.messages import FilterKind, LocationFilter
from fastrelay.moqt.names import Location
from unit.relay.test_fast_model import FastRelayMachine

pytestmark = pytest.mark.no_cover


class Dice:
    """Draws from ``sampled_from``."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def draw(self, strategy: Any) -> Any:
        return self._random.choice(list(strategy.elements))


class Life:
    """One relay's; ``publishers``: how many it has at most."""

    def __init__(self, seed: int, publishers: int) -> None:
        self.random = random = Random(seed)
        self.machine = machine = FastRelayMachine()
        machine.seed(seed)
        data = Dice(random)
        choice, chance = random.choice, random.random
        filters = (FilterKind.NEXT_OBJECT, FilterKind.NEXT_GROUP)
        one = 0.2 if publishers > 1 else 0.0
        self.acts: list[tuple[float, Callable[[], object], Callable[[], object]]] = [
            (8, self.published, lambda: machine.a_whole_group(data, random.randint(1, 4))),
            (4, self.published, lambda: machine.open(random.randint(0, 1), chance() < 0.5, data)),
            (6, machine.active, lambda: machine.write(data, random.randint(1, 3), 7)),
            (10, machine.active, lambda: machine.write_ahead(data, random.randint(2, 5))),
            (3, machine.active, lambda: machine.end(data, chance() < 0.8)),
            (3, self.published, lambda: machine.datagram(data)),
            (
                2,
                lambda: self.published() and len(machine.viewers) < 6,
                lambda: machine.viewer_comes(
                    choice([DRAFT_16, DRAFT_18, DRAFT_18, DRAFT_22]),
                    choice([*map(LocationFilter, filters), self.recent()]),
                ),
            ),
            (0.7, self.viewed, lambda: machine.viewer_goes(data, chance() < 0.5)),
            (0.3, self.streaming, lambda: machine.viewer_stops_a_stream(data)),
            (0.3, self.viewed, lambda: machine.viewer_is_slow(data)),
            (1, self.viewed, lambda: machine.viewer_takes_more(data, choice([None, None, 5, 500]))),
            (
                1,
                self.always,
                lambda: machine.the_kernel_behaves(
                    choice([0, 0, 0.05, 0.3]), choice([0, 0, 0.03, 0.2]), choice([0, 0.1, 0.5])
                ),
            ),
            (0.4, self.always, machine.the_kernel_is_switched),
            (0.5, self.always, machine.copies_are_late_or_not),
            (2, self.always, lambda: machine.some_copies_run(random.randint(1, 3))),
            (1, self.always, machine.user_space_claims),
            (1, self.always, machine.losses_are_found),
            (0.3, self.always, lambda: machine.transports(chance() < 0.5)),
            (0.2, self.viewed, lambda: machine.a_link_changes(data, choice(["", "", "away"]))),
            (0.3, self.viewed, lambda: machine.priority_changes(data, random.randint(0, 255))),
            (2, self.always, machine.time_passes),
            (
                one,
                lambda: len(machine.publishers) < publishers,
                lambda: machine.publisher_comes(choice([DRAFT_18, DRAFT_16])),
            ),
            (one, lambda: len(machine.publishers) > 1, lambda: machine.publisher_goes(data)),
        ]

    def always(self) -> bool:
        return True

    def published(self) -> bool:
        return bool(self.machine.publishers)

    def viewed(self) -> bool:
        return bool(self.machine.viewers)

    def streaming(self) -> bool:
        return any(viewer.client.streams for viewer in self.machine.viewers)

    def recent(self) -> LocationFilter:
        return LocationFilter(FilterKind.ABSOLUTE, Location(max(0, self.machine.group - 2), 0))

    def live(self, steps: int) -> None:
        weights = [weight for weight, _, _ in self.acts]
        machine = self.machine
        for _ in range(steps):
            _, possible, act = self.random.choices(self.acts, weights)[0]
            if possible():
                act()
            machine.viewers_are_remembered()
            machine.nothing_is_doubled_or_out_of_place()
            machine.the_backlog_is_bounded()
            machine.legs_belong_to_somebody()
        machine.teardown()


@pytest.mark.parametrize("publishers", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_long_lives(seed: int, publishers: int) -> None:
    life = Life(seed, publishers)
    life.live(250)
    assert life.machine.kernel.packets > 0 or publishers > 1
