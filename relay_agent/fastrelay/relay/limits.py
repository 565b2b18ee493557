"""How much of what is offered a member gets when its path does not carry all: down at once, up
slowly. No I/O, no clock.

The congestion controller says what may be in flight. When that is less than what there is to send,
bytes wait in the relay; while they do, the path is busy, and what is acknowledged is what it
carries: the *estimate*. If that is less than what comes, the level drops, from the last band up,
what does not fit in it, group by group, and for a moment more, until what waits is gone. As long as
nothing waits, nobody knows what more the path would carry: the estimate grows, slowly, until
something waits again, or all that is offered fits in it with room to spare, and there is no limit
any more.

It sets no rate: a bucket would drop single datagrams of groups that go otherwise, and streams of
groups that fit.

The most important band that anything is offered in is never limited by this: the order in which
what waits is sent (:mod:`.lane`) and delivery timeouts are for it.

What a person sets holds instead, until it is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastrelay.fastpath.bands import ALWAYS, MAX_LEVEL, REMEMBERED, Bands, nanoseconds
from fastrelay.fastpath.layout import BAND_LEVELS, BANDS

LAG_SECONDS = 1.0
"""Bytes that would take longer than this wait: the path is busy, and does not carry what is
offered. Shorter lags come from hosts that did nothing for a moment."""
LIMITED_LAG_SECONDS = 0.3
"""The same of a member that is limited already."""
BUSY_SECONDS, LIMITED_BUSY_SECONDS = 1.0, 0.4
"""So long it has to be. While what waits gets less, the path carries what is offered."""
MEASURED_SECONDS = 0.5
"""Over which it is measured what is acknowledged; less at the beginning."""
CALM_SECONDS = 0.05
"""With a lag below, nothing waits."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 8.0
"""So long nothing has waited when the estimate begins to grow: twice as long each time when that
has shown that the path carries no more than before."""
GROWTH, MOST_GROWTH = 0.5, 4.0
"""Of it, in a second: at first, and twice as much each second. An estimate that was wrong is gone
within seconds."""
SAME = 0.7
"""An estimate that is more than this part of the one before says that the path is as it was."""
REMEMBERED_SECONDS = 2.0
"""While the path is busy: the most of these seconds counts, and once it is limited no estimate is
less than what came in them: half a second may be an odd one."""
FITTING_SECONDS = 4.0
"""So long nothing has waited and nothing was dropped when a limit goes: groups that may be sent
again have begun by then."""
USABLE = 0.95
"""Of what the path carries: the rest is for headers and for larger frames."""
DRAIN_SECONDS = 2.0
"""Within which what waits is to be gone."""
SPARE = 1.25
"""An estimate that is so much more than what is offered is no limit."""
FORGOTTEN_SECONDS = 30.0
"""After which the pause is the first one again."""
HURT_SECONDS = 1.0
"""So long something of a band has waited before anything of it is dropped."""
LEAST = 8_000
"""Bytes a second: no estimate is less."""


@dataclass(frozen=True, slots=True)
class Look:
    """``delivered``: bytes acknowledged since the session began; ``waiting``: bytes that were not
    sent yet; ``offered``: bytes a second that come for the member, ``oldest``: seconds that the
    oldest of what waits has waited, each by band; for a limiter that follows the path."""

    now: float
    delivered: int
    waiting: int
    offered: Sequence[float]
    oldest: Sequence[float]


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
    core's clock; ``follows``: bands are dropped when its path does not carry everything."""

    __slots__ = (
        "_busy_since",
        "_calm_since",
        "_configured",
        "_fits_since",
        "_history",
        "_is_watched",
        "_level",
        "_measured",
        "_now",
        "_pause",
        "_rate",
        "_rates",
        "_set",
        "bands",
        "estimate",
        "follows",
        "held_back_at",
        "level_by_hand",
        "rate_by_hand",
    )

    def __init__(
        self, bands: Bands, configured: int, now: Callable[[], float], *, follows: bool = True
    ) -> None:
        self.bands = bands
        self.follows = follows
        self._configured = configured
        self._now = now
        self.estimate: float | None = None
        """Bytes a second that the path carries, as it seems; None: nothing holds it back."""
        self.held_back_at = float("-inf")
        """When there was an estimate last, or what waited would have taken long."""
        self.rate_by_hand: int | None = None
        self.level_by_hand: int | None = None
        self._rate = 0.0
        """Bytes a second, acknowledged lately."""
        self._level = 0
        """What this would have in force."""
        self._history: deque[tuple[float, int]] = deque()
        self._rates: deque[tuple[float, float]] = deque()
        """While the path is busy."""
        self._measured: tuple[float, float] = (float("-inf"), 0.0)
        """When the path was found busy last, and what it carried."""
        self._pause = FIRST_PAUSE_SECONDS
        self._busy_since: float | None = None
        self._calm_since: float | None = None
        self._fits_since: float | None = None
        self._is_watched = False
        self._set: tuple[int, int] = (0, 0)
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
    def carried(self) -> float:
        """Bytes a second that the path is known to carry, as far as anything is."""
        return self._rate if self.estimate is None else min(self.estimate, self._measured[1])

    @property
    def is_idle(self) -> bool:
        """Nothing has to be looked at until something waits again."""
        return self.estimate is None and self._busy_since is None

    def look(self, look: Look) -> None:
        """To be called every tenth of a second or so, from when something waits until
        :attr:`is_idle`."""
        now, history = look.now, self._history
        while len(history) > 1 and history[1][0] <= now - REMEMBERED_SECONDS:
            history.popleft()
        history.append((now, look.delivered))
        rate = self._rate = self._since(now - MEASURED_SECONDS)
        # Seconds of what is offered, or of what the path carries.
        usual = sum(look.offered) if self.estimate is None else self.estimate
        lag = look.waiting / max(rate, usual, LEAST)
        if lag > LIMITED_LAG_SECONDS or self.estimate is not None:
            self.held_back_at = now
        if not self.follows:
            return
        if lag > (LAG_SECONDS if self.estimate is None else LIMITED_LAG_SECONDS):
            self._busy(look)
        else:
            self._busy_since = None
            self._rates.clear()
            if self.estimate is not None:
                self._relax(look, lag)
        self._apply()

    def begin(self) -> None:
        """It will be looked at."""
        self._watched(self.follows)

    def rest(self) -> None:
        """It will not be looked at for a while."""
        self._history.clear()
        self._calm_since = None
        self._watched(False)

    def _watched(self, watched: bool) -> None:
        if watched != self._is_watched:
            self._is_watched = watched
            self._remember()

    def _since(self, begin: float) -> float:
        """Bytes a second that came since the last look that was not after this."""
        now, delivered = self._history[-1]
        since, before = self._history[0]
        for at, there in self._history:
            if at > begin:
                break
            since, before = at, there
        return (delivered - before) / (now - since) if now > since else 0.0

    def _busy(self, look: Look) -> None:
        now = look.now
        if self._busy_since is None:
            self._busy_since = now
        elif look.delivered == self._history[-2][1]:
            self._busy_since = now  # silence tells nothing, nor does what was before it
        limited = self.estimate is not None
        if now - self._busy_since < (LIMITED_BUSY_SECONDS if limited else BUSY_SECONDS):
            return
        rates = self._rates
        rates.append((now, self._since(max(self._busy_since, now - MEASURED_SECONDS))))
        while rates[0][0] < now - REMEMBERED_SECONDS:
            rates.popleft()
        most = max(rate for _, rate in rates) * USABLE
        if limited:
            most = max(most, self._since(now - REMEMBERED_SECONDS) * USABLE)
        if not limited and most > sum(look.offered):
            return
        self._learn(now, most)
        self._calm_since = self._fits_since = None
        self.estimate = max(most, LEAST)
        self._drain(look)

    def _learn(self, now: float, carried: float) -> None:
        """Whether growing was of any use."""
        at, before = self._measured
        if now - at > FORGOTTEN_SECONDS or not SAME < carried / (before or carried) < 1 / SAME:
            self._pause = FIRST_PAUSE_SECONDS
        elif self._calm_since is not None:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._measured = now, carried

    def _drain(self, look: Look) -> None:
        """What waits has to go, too; but no band is dropped for that which fits in what the path
        carries, nor if it, and those before it, get what they need."""
        assert self.estimate is not None
        most = -(-level_for(self.estimate * USABLE, look.offered) // BAND_LEVELS) * BAND_LEVELS
        hurt = (band for band, seconds in enumerate(look.oldest) if seconds > HURT_SECONDS)
        most = min(most, (BANDS - next(hurt, BANDS)) * BAND_LEVELS)
        budget = self.estimate - look.waiting / DRAIN_SECONDS
        self._level = max(self._level, min(level_for(budget, look.offered), most))

    def _relax(self, look: Look, lag: float) -> None:
        assert self.estimate is not None
        now = look.now
        if lag > CALM_SECONDS:
            self._fits_since = None
            self.estimate = max(self.estimate, self._rate * USABLE)
            self._drain(look)
            return
        if self._calm_since is None:
            self._calm_since = now
        self._level = min(self._level, level_for(self.estimate, look.offered))
        calm = now - self._calm_since - self._pause
        if calm < 0:
            return
        growth = min(GROWTH * 2**calm, MOST_GROWTH)
        self.estimate *= 1 + growth * (now - self._history[-2][0])
        if self._level or self.estimate <= SPARE * sum(look.offered):
            self._fits_since = None
        elif self._fits_since is None:
            self._fits_since = now
        elif now - self._fits_since >= FITTING_SECONDS:
            self.estimate = None
            self._calm_since = self._fits_since = None

    def _apply(self) -> None:
        """What is in force, into the numbers that both sides see."""
        rate = self.cap
        level = self._level if self.level_by_hand is None else self.level_by_hand
        before, self._set = self._set, (rate, level)
        if rate != before[0]:
            self.bands.set_rate(rate, nanoseconds(self._now()))
        if level != before[1]:
            self._remember()
            self.bands.set_level(level)

    def _remember(self) -> None:
        """Groups of datagrams that have begun go on as they began while the level may change, and
        for a moment more."""
        is_over = not self._is_watched and not self._set[1]
        self.bands.remember(nanoseconds(self._now()) + REMEMBERED if is_over else ALWAYS)
