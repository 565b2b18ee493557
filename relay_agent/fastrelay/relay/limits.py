"""What one subscriber may be sent: what a person has set, otherwise what is configured."""

from __future__ import annotations

from collections.abc import Callable

from fastrelay.fastpath.bands import MAX_LEVEL, Bands, nanoseconds


class Limiter:
    """Sets the rate and the level of one peer's bands."""

    __slots__ = (
        "_configured",
        "_now",
        "bands",
        "estimate",
        "level_by_hand",
        "rate_by_hand",
        "why",
    )

    def __init__(self, bands: Bands, configured: int, now: Callable[[], float]) -> None:
        """``configured``: bytes a second, 0: no limit; ``now``: the core's clock."""
        self.bands, self._configured, self._now = bands, configured, now
        self.rate_by_hand: int | None = None
        """Bytes a second; 0: no limit; None: nothing is set."""
        self.level_by_hand: int | None = None
        """As :attr:`Bands.level`; None: nothing is set."""
        self.estimate: float | None = None
        """Bytes a second that the path is believed to carry; None: nothing holds it back."""
        self.why = "configured" if configured else ""
        """What limits: ``hand``, ``configured``, ``path``, or nothing."""
        bands.set_rate(configured, nanoseconds(now()))

    def set_by_hand(self, *, rate: int | None, level: int | None) -> None:
        """None: automatic again.

        :raises ValueError: there is no such rate or level.
        """
        if rate is not None and rate < 0:
            raise ValueError(f"a rate is not negative: {rate}")
        if level is not None and not 0 <= level <= MAX_LEVEL:
            raise ValueError(f"levels are 0 to {MAX_LEVEL}, not {level}")
        self.rate_by_hand, self.level_by_hand = rate, level
        by_hand = rate is not None or level is not None
        self.why = "hand" if by_hand else "configured" if self._configured else ""
        self.bands.set_level(level or 0)
        now = nanoseconds(self._now())
        self.bands.set_rate(self._configured if rate is None else rate, now)
