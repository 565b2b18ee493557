"""Dashboards and alerts with a real Prometheus."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from e2e import monitoring, relays, video
from e2e.watching import Audience

pytestmark = pytest.mark.timeout(900)

ALERTS = Path(__file__).resolve().parent / "alerts.yaml"
SECONDS, PAUSE = 120, 2


def test_every_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    written = yaml.safe_load(ALERTS.read_text())
    tried = {
        case["alertname"]: bool(case["exp_alerts"])
        for test in written["tests"]
        for case in sorted(test["alert_rule_test"], key=lambda case: len(case["exp_alerts"]))
    }
    names = [each["alert"] for group in monitoring.rules()["groups"] for each in group["rules"]]
    assert sorted(tried) == sorted(names)
    assert all(tried.values())
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(monitoring.rules()))
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text())
    done = monitoring.tool("test", "rules", str(tmp_path / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_has_data(installed: None, viewers: Audience, tmp_path: Path) -> None:
    with relays.namespace("watched") as namespace:
        spec = {**relays.REQUIRED, "monitoring": {"members": ["0.0.0.0/0", "::/0"]}}
        relay = relays.create(namespace, "demo", spec, tmp_path)
        relay.wait_for("Ready")
        publisher = viewers.publish(relay.url())
        viewer = viewers.watch("viewer", relay.url(), 18, "--feedback")
        viewers.see([viewer], video.FIRST_FRAMES)
        with monitoring.prometheus(tmp_path) as prometheus:
            empty = dict(monitoring.panels())
            until = time.monotonic() + SECONDS
            while empty and time.monotonic() < until:
                time.sleep(PAUSE)
                empty = {name: query for name, query in empty.items() if not prometheus.ask(query)}
            assert not empty
        video.end([viewer], publisher)
