"""How much of what is offered a member gets when its path does not carry all: down at once, up
slowly. No I/O, no clock.

The congestion controller says what may be in flight. When that is less than what there is to send,
bytes wait in the relay; while they do, the path is busy, and what is acknowledged is what it
carries: the *estimate*. The rate of the member's bands follows it, and the level drops, from the
last band up, what does not fit in it, group by group. As long as nothing waits, nobody knows what
more the path would carry: the estimate grows, slowly, until something waits again, or all that is
offered fits in it with room to spare, and there is no limit any more.

The most important band that anything is offered in is never limited by this: the order in which
what waits is sent (:mod:`.lane`) and delivery timeouts are for it.

What a person sets holds instead, until it is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastrelay.fastpath.bands import MAX_LEVEL, Bands, nanoseconds
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS

LAG_SECONDS = 0.15
"""Bytes that would take longer than this wait: the path is busy. A frame of a usual size takes
less."""
BUSY_SECONDS = 0.25
"""So long it has to be."""
MEASURED_SECONDS = 0.5
"""Over which it is measured what is acknowledged; less at the beginning."""
CALM_SECONDS = 0.05
"""With a lag below, nothing waits."""
PATIENCE_SECONDS = 2.0
"""So long nothing has waited when the estimate begins to grow."""
GROWTH = 0.06, 0.5
"""Of it, in a second: at first, and at most. It doubles every ``PATIENCE_SECONDS``."""
REMEMBERED_SECONDS = 2.0
"""While the path is busy: the most of these seconds counts. A host that did nothing for a moment
is no narrow path."""
STALL_SECONDS = 1.0
"""So long nothing at all may be acknowledged before that counts."""
USABLE = 0.95
"""Of what the path carries: the rest is for headers and for larger frames."""
DRAIN_SECONDS = 2.0
"""Within which what waits is to be gone."""
SPARE = 1.25
"""An estimate that is so much more than what is offered is no limit, after ``PATIENCE_SECONDS``."""
LEAST = 8_000
"""Bytes a second: no estimate is less."""
_STEP = 0.03
"""Smaller changes of a rate are not worth telling."""


@dataclass(frozen=True, slots=True)
class Look:
    """``delivered``: bytes acknowledged since the session began; ``waiting``: bytes that were not
    sent yet; ``offered``: bytes a second that come for the member, by band."""

    now: float
    delivered: int
    waiting: int
    offered: Sequence[float]


def level_for(budget: float, offered: Sequence[float]) -> int:
    """What has to be dropped so that no more than ``budget`` is sent: never anything of the first
    band with an offer."""
    left = budget
    first = True
    for band, rate in enumerate(offered):
        if rate > max(left, 0.0) and not first:
            part = round((1 - max(left, 0.0) / rate) * BAND_LEVELS)
            return (BANDS - 1 - band) * BAND_LEVELS + part
        left -= rate
        first = first and not rate
    return 0


class Limiter:
    """One member's. ``configured``: bytes a second that it gets at most, 0: no limit; ``now``: the
    core's clock."""

    __slots__ = (
        "_busy_since",
        "_calm_since",
        "_configured",
        "_first",
        "_history",
        "_level",
        "_now",
        "_rate",
        "_rates",
        "_set",
        "bands",
        "estimate",
        "level_by_hand",
        "rate_by_hand",
    )

    def __init__(self, bands: Bands, configured: int, now: Callable[[], float]) -> None:
        self.bands = bands
        self._configured = configured
        self._now = now
        self.estimate: float | None = None
        """Bytes a second that the path carries, as it seems; None: nothing holds it back."""
        self.rate_by_hand: int | None = None
        self.level_by_hand: int | None = None
        self._rate = 0
        """What this would have in force; so is the level."""
        self._level = 0
        self._first = 0
        """The most important band that has an offer."""
        self._history: deque[tuple[float, int]] = deque()
        self._rates: deque[tuple[float, float]] = deque()
        """While the path is busy."""
        self._busy_since: float | None = None
        self._calm_since: float | None = None
        self._set: tuple[int, int, int] = (0, 0, 0)
        self._apply()

    # By hand

    def set_by_hand(self, *, rate: int | None, level: int | None) -> None:
        """``rate``: bytes a second, 0: no limit; ``level``: up to ``MAX_LEVEL``. None: as the
        path says.

        :raises ValueError: there is no such rate or level.
        """
        if rate is not None and not 0 <= rate < 1 << 40:
            raise ValueError(f"a rate is 0 or more bytes a second, not {rate}")
        if level is not None and not 0 <= level <= MAX_LEVEL:
            raise ValueError(f"levels are 0 to {MAX_LEVEL}, not {level}")
        self.rate_by_hand, self.level_by_hand = rate, level
        self._apply()

    @property
    def cap(self) -> int:
        """Bytes a second beyond which the member never gets more, whatever its path carries; 0:
        no limit."""
        return self._configured if self.rate_by_hand is None else self.rate_by_hand

    @property
    def why(self) -> str:
        """Where the limit comes from: ``hand``, ``path``, ``configured``, or nothing if there is
        none."""
        if self.rate_by_hand is not None or self.level_by_hand is not None:
            return "hand"
        if self.estimate is not None:
            return "path"
        return "configured" if self._configured else ""

    # By the path

    @property
    def is_idle(self) -> bool:
        """Nothing has to be looked at until something waits again."""
        return self.estimate is None and self._busy_since is None

    def look(self, look: Look) -> None:
        """To be called every tenth of a second or so, from when something waits until
        :attr:`is_idle`."""
        now, history = look.now, self._history
        while len(history) > 1 and history[1][0] <= now - MEASURED_SECONDS:
            history.popleft()
        history.append((now, look.delivered))
        since, before = history[0]
        rate = (look.delivered - before) / (now - since) if now > since else 0.0
        self._first = next((band for band, each in enumerate(look.offered) if each), 0)
        lag = look.waiting / max(rate, LEAST)
        if lag > LAG_SECONDS:
            self._busy(look)
        else:
            self._busy_since = None
            self._rates.clear()
            if self.estimate is not None:
                self._relax(look, lag)
        self._apply()

    def rest(self) -> None:
        """It will not be looked at for a while."""
        self._history.clear()
        self._calm_since = None

    def _busy(self, look: Look) -> None:
        now = look.now
        self._calm_since = None
        if self._busy_since is None:
            self._busy_since = now
        # Only what was acknowledged while the path was busy tells.
        since, before = next(each for each in self._history if each[0] >= self._busy_since)
        if now - since < BUSY_SECONDS:
            return
        rates = self._rates
        rates.append((now, (look.delivered - before) / (now - since)))
        while rates[0][0] < now - REMEMBERED_SECONDS:
            rates.popleft()
        most = max(rate for _, rate in rates)
        if not most and now - self._busy_since < STALL_SECONDS:
            return
        self.estimate = max(most * USABLE, LEAST)
        self._drain(look)
        self._follow()

    def _drain(self, look: Look) -> None:
        """What waits has to go, too; but no band is dropped for that which fits in what the path
        carries."""
        assert self.estimate is not None
        most = -(-level_for(self.estimate * USABLE, look.offered) // BAND_LEVELS) * BAND_LEVELS
        budget = self.estimate - look.waiting / DRAIN_SECONDS
        self._level = max(self._level, min(level_for(budget, look.offered), most))

    def _relax(self, look: Look, lag: float) -> None:
        assert self.estimate is not None
        now = look.now
        if lag > CALM_SECONDS:
            self._calm_since = None
            self._drain(look)
            return
        if self._calm_since is None:
            self._calm_since = now
        calm = now - self._calm_since
        if calm < PATIENCE_SECONDS:
            return
        begin, end = GROWTH
        growth = min(begin * 2 ** (calm / PATIENCE_SECONDS - 1), end)
        self.estimate *= 1 + growth * (now - self._history[-2][0])
        self._level = min(self._level, level_for(self.estimate, look.offered))
        self._follow()
        if self.estimate > SPARE * sum(look.offered) and not self._level:
            self.estimate = None
            self._rate = 0
            self._calm_since = None

    def _follow(self) -> None:
        assert self.estimate is not None
        rate = int(max(self.estimate, LEAST))
        if abs(rate - self._rate) > _STEP * self._rate:
            self._rate = rate

    def _apply(self) -> None:
        """What is in force, into the numbers that both sides see."""
        cap = self.cap
        rate, first = self._rate, self._first + 1
        if cap and (not rate or rate >= cap):
            rate, first = cap, 0
        if self.rate_by_hand is not None:
            rate, first = self.rate_by_hand, 0
        level = self._level if self.level_by_hand is None else self.level_by_hand
        wanted = (rate, level, first if rate else 0)
        before, self._set = self._set, wanted
        if wanted[0] != before[0] or wanted[2] != before[2]:
            self.bands.set_rate(rate, nanoseconds(self._now()), spared=wanted[2])
        if level != before[1]:
            self.bands.set_level(level)
