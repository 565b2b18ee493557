"""Which rendition a member's path carries: up slowly, down at once. No I/O, no clock.

*Down.* Bytes lag when they wait: in the relay, or in a queue on the path (the round trip is longer
than its least). While they do, the path is busy, so what is acknowledged is what it carries. When
they lag for longer than a player can hide, the largest rendition goes that fits in that.

*Up.* As long as all there is arrives in time, what is acknowledged is only what was sent: nobody
knows what more the path would carry. Two things tell. Frames come in bursts, which the path takes
at its own speed (``burst``): when that is enough for the next rendition, it goes up after a short
calm time. Otherwise, after a long one, the next rendition is tried. Either is a trial of one step:
who lags soon after it, on a path that still carries what it had before, has tried too much, and
waits twice as long before it tries the same once more; unless bursts show that the path is wider
than it was then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

LAG_SECONDS = 0.15
"""More than frames of a usual size wait, less than players buffer."""
CALM_SECONDS = 0.1
"""A lag below is no sign of anything."""
HOPELESS_SECONDS = 1.5
"""With such a lag that still grows, less is sent whatever the path seems to carry."""
LOOK_SECONDS = 0.5
"""Over which it is measured what arrives; hardly longer than the path has been busy, and not over
less than :data:`LEAST_LOOK_SECONDS`."""
LEAST_LOOK_SECONDS = 0.15
CONFIRM_SECONDS = 0.04
"""For how long a lag lasts before it counts: one late acknowledgement is no reason."""
PROVEN_SECONDS = 2.0
"""Calm before the next rendition, when bursts have shown that there is room for it, or when the
path was never busy yet."""
BLIND_SECONDS = 4.0
"""Calm before it is tried without that."""
TRIAL_SECONDS = 20.0
"""Within which a lag says that it was too much: a little too much only shows after a while."""
FIRST_PAUSE_SECONDS = 4.0
LONGEST_PAUSE_SECONDS = 16.0
WIDER = 1.25
"""By how much bursts have to be quicker than they were when a rendition was too much: the path has
changed then."""
USABLE = 0.9
"""Of what the path carries: the rest is for acknowledgements, headers, and larger frames."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a member's session. ``delivered``: bytes acknowledged since it began;
    ``waiting``: bytes that wait in the relay; ``queueing``: seconds that what is on its way waits
    there; ``burst``: bytes a second at which the path seems to take what comes at once, None if
    unknown; ``other``: bytes a second that the session gets beside this track; ``cap``: bytes a
    second that it may get at most, None if that is not limited."""

    now: float
    delivered: int
    waiting: int = 0
    queueing: float = 0.0
    burst: float | None = None
    other: float = 0.0
    cap: float | None = None


class Adapter:
    """For renditions with these ``rates`` (bytes a second, ascending). ``index``: the one that is
    right now; the lowest at first."""

    def __init__(self, rates: Sequence[float]) -> None:
        self._rates = list(rates)
        self.index = 0
        self.lag = 0.0
        self.carried: float | None = None
        """What the path carries, as it was measured last: None: never, it was never busy."""
        self._history: deque[tuple[float, int, float]] = deque()
        """When, what had been delivered by then, the lag."""
        self._bursts: deque[tuple[float, float]] = deque()
        self._busy = False
        self._lags_since: float | None = None
        self._calm_since: float | None = None
        self._tried: tuple[int, float, float] | None = None
        """The last step up, when that was, and how many bytes a second bursts promised then; None:
        there was one down since."""
        self._pauses = [FIRST_PAUSE_SECONDS] * len(self._rates)
        self._not_before = [float("-inf")] * len(self._rates)
        self._promised = [0.0] * len(self._rates)
        """Bytes a second that the path had seemed to carry when it did not carry this rendition."""

    def look(self, sample: Sample) -> int:
        """The rendition that is right from now on."""
        self._measure(sample)
        now = sample.now
        if self._lags_since is not None and now - self._lags_since >= CONFIRM_SECONDS:
            self._step_down(sample)
        elif self._is_due(sample):
            self.index += 1
            self._tried = self.index, now, self._quickest
            self._calm_since = now
        elif not self._is_trial(now):
            self._pauses[self.index] = FIRST_PAUSE_SECONDS
        return self.index

    @property
    def is_busy(self) -> bool:
        """The path has more to carry than it can at once."""
        return self._busy

    def moved(self, index: int, now: float) -> None:
        """Another one had to be taken, for other reasons than the path."""
        self.index = index
        self._calm_since = now

    def _measure(self, sample: Sample) -> None:
        now = sample.now
        history = self._history
        while len(history) > 1 and history[0][0] < now - LOOK_SECONDS:
            history.popleft()
        rate = None
        begin = history[0] if history else (now, 0, 0.0)
        if now - begin[0] >= LEAST_LOOK_SECONDS:
            rate = (sample.delivered - begin[1]) / (now - begin[0])
        self.lag = sample.queueing + sample.waiting / max(rate or 0.0, self._rates[0])
        if self.lag <= CALM_SECONDS:
            self._busy = False
            self._lags_since = None
            if self._calm_since is None:
                self._calm_since = now
        else:
            if not self._busy:
                # What came before says what was sent, not what the path carries.
                while len(history) > 1 and history[1][0] <= now - LEAST_LOOK_SECONDS:
                    history.popleft()
            elif rate is not None:
                self.carried = rate
            self._busy = True
            self._calm_since = None
        history.append((now, sample.delivered, self.lag))
        if self.lag <= LAG_SECONDS:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = now
        if sample.burst is not None:
            self._bursts.append((now, sample.burst))
        while self._bursts and self._bursts[0][0] < now - PROVEN_SECONDS:
            self._bursts.popleft()

    def _step_down(self, sample: Sample) -> None:
        if self.carried is None or not self.index:
            return
        room = min(self.carried, _or_all(sample.cap)) * USABLE - sample.other
        fitting = max((i for i, rate in enumerate(self._rates) if rate <= room), default=0)
        if fitting >= self.index and self._is_hopeless():
            fitting = self.index - 1
        if fitting >= self.index:
            return
        now = sample.now
        narrower = self.carried < self._rates[self.index - 1] * USABLE
        promised = max(self.carried, self._quickest)
        if self._tried is not None and self._is_trial(now) and not narrower:
            pause = min(2 * self._pauses[self.index], LONGEST_PAUSE_SECONDS)
            self._pauses[self.index] = pause
            # What bursts of the smaller rendition promise is not what those of this one tell.
            promised = max(promised, self._tried[2])
        self._tried = None
        for index in range(fitting + 1, len(self._rates)):
            # What is larger was not tried now: its own pause goes on as it was.
            pause = self._pauses[index] if index <= self.index else FIRST_PAUSE_SECONDS
            self._not_before[index] = max(self._not_before[index], now + pause)
            self._promised[index] = promised
        self.index = fitting

    @property
    def _quickest(self) -> float:
        """Of the bursts lately."""
        return max((burst for _, burst in self._bursts), default=0.0)

    def _is_trial(self, now: float) -> bool:
        """Whether it is still open if the rendition was too much."""
        if self._tried is None:
            return False
        index, since, _ = self._tried
        return index == self.index and now - since <= TRIAL_SECONDS

    def _is_hopeless(self) -> bool:
        return self.lag > HOPELESS_SECONDS and self.lag > self._history[0][2]

    def _is_due(self, sample: Sample) -> bool:
        """Whether it is time for one more step up."""
        upper = self.index + 1
        if upper >= len(self._rates) or self._calm_since is None:
            return False
        need = self._rates[upper] / USABLE + sample.other
        rests = sample.now < self._not_before[upper]
        is_wider = self._quickest >= WIDER * self._promised[upper]
        if need > _or_all(sample.cap) or (rests and not is_wider):
            return False
        is_likely = self.carried is None or self._quickest >= need
        calm = PROVEN_SECONDS if is_likely else BLIND_SECONDS
        return sample.now - self._calm_since >= calm


def _or_all(cap: float | None) -> float:
    return float("inf") if cap is None else cap
