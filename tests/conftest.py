"""For all tests: how long they may take, which count as coverage, and what is said at the end."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# How long an example takes says something of the machine, nothing of what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# Modules, tests and their parameters are there to the end: they are not looked through again and
# again for garbage.
gc.set_threshold(20_000)

REASON_LINES = 12
REASON_SIZE = 1500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Branches that are found by chance are not to count, or coverage is another each time."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests failed, without tracebacks: where output is long, often its end alone is kept."""
    stats = terminalreporter.stats
    for report in [*stats.get("error", ()), *stats.get("failed", ())]:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message if crash is not None else str(report.longrepr)[-REASON_SIZE:]
        terminalreporter.write_sep("-", f"{report.nodeid} ({report.when})")
        for line in reason[:REASON_SIZE].splitlines()[:REASON_LINES]:
            terminalreporter.write_line(line)
