"""The samples: right by the models and by the definition in the cluster, and all of them listed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fastrelay.api.load import validate
from unit.api.apiserver import refused
from unit.api.samples import DIRECTORY, SAMPLES
from unit.api.test_crd import RELAY


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_right_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    for document in yaml.safe_load_all(text):
        validate(document)
        assert refused(document, RELAY) == []
    assert text.startswith("# ")


def test_every_sample_is_listed() -> None:
    listed = (DIRECTORY / "README.md").read_text()
    assert SAMPLES
    assert not [path.name for path in SAMPLES if f"]({path.name})" not in listed]
