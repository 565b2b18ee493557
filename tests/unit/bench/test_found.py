"""What benches find has a file and quantiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bench.found import Kept, quantile


@dataclass(slots=True)
class Part:
    seconds: float
    pairs: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Whole(Kept):
    parts: dict[str, Part]
    only: Part | None = None


def test_it_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    whole = Whole({"one": Part(1.5, [(1.0, 2.0)]), "none": Part(float("inf"))})
    whole.save(file)
    assert Whole.load(file) == whole


def test_another_file_is_not_taken_for_it(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    file.write_text('{"parts": 5}')
    with pytest.raises(ValueError, match="parts"):
        Whole.load(file)


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.0) == 1.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 1.0) == 3.0
    assert quantile([float(each) for each in range(200)], 0.99) == 198.0
    assert quantile([], 0.5) == float("inf")
