"""What an agent has done since it began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    passes: int = 0
    pass_seconds: float = 0.0
    """Of all passes together; so are the others."""
    loads: int = 0
    """Times that programs were put into the kernel."""
    load_seconds: float = 0.0
    load_failures: int = 0
    removals: int = 0
    """Relays whose data plane was removed."""
    erasures: int = 0
    """Times that what an ended relay had left was erased."""

    def passed(self, seconds: float) -> None:
        self.passes += 1
        self.pass_seconds += seconds

    def loaded(self, seconds: float) -> None:
        self.loads += 1
        self.load_seconds += seconds
