"""Rates and levels as people write them, and as they are shown."""

from __future__ import annotations

import re

AUTOMATIC = "automatic"
LEVELS_PER_BAND = 256
BANDS = 4
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def automatic_or_rate(text: str) -> int | None:
    """Bytes a second of ``2M`` and the like; 0: no limit; None: automatic.

    :raises ValueError: the message says what to write.
    """
    if text == AUTOMATIC:
        return None
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(|[kMG]|[KMG]i)", text)
    if match is None:
        raise ValueError(f"{text!r} is no rate; write bytes a second, like 250k, 2M or 0")
    return round(float(match[1]) * _FACTORS[match[2]])


def automatic_or_level(text: str) -> int | None:
    """A level in 256th of a band, of bands; None: automatic.

    :raises ValueError: the message says what to write.
    """
    if text == AUTOMATIC:
        return None
    if not re.fullmatch(r"[0-9](\.[0-9]{1,9})?", text) or float(text) > BANDS:
        raise ValueError(f"{text!r} is no level; write how many bands to drop, 0 to 4, like 1.5")
    return round(float(text) * LEVELS_PER_BAND)


def shown(number: float | None) -> str:
    """At most five characters, in powers of 1000."""
    if number is None:
        return "-"
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.0f}{unit}" if number >= 99.95 or not unit else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.0f}T"
