"""What benches have in common of what they find: where and when it was, its file, quantiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from bench.report import this_machine


@dataclass(slots=True, kw_only=True)
class Kept:
    """To be derived from by a dataclass of what JSON has, and of dataclasses."""

    machine: dict[str, Any] = field(default_factory=this_machine)
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """:raises ValueError: it is not such a file."""
        return TypeAdapter(cls).validate_python(json.loads(path.read_text()))


def quantile(values: Sequence[float], part: float) -> float:
    """Of values that need not be in order; ``inf``: there are none."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("inf")
