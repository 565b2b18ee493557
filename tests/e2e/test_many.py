"""Many relays without pods: what they cost the API server. Times are told, not judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e import bare, many
from e2e.audit import FORBIDDEN

pytestmark = pytest.mark.timeout(900)

RELAYS, RATE, REST = 100, 20.0, 20.0
ONCE = {
    "get secrets": 1,
    "patch moqrelays/status": 2,
    "patch serviceaccounts": 1,
    "patch configmaps": 1,
    "patch networkpolicies": 1,
    "patch services": 1,
    "patch deployments": 1,
    "patch poddisruptionbudgets": 1,
    "create events": 1,
}
"""Requests for one relay without pods."""


def test_requests_are_few_and_at_rest_there_are_none(tell: Callable[..., None]) -> None:
    with bare.bare() as cluster, bare.operator(cluster) as operator:
        found = many.measure(cluster, operator, RELAYS, RATE, REST)
        refused = [each for each in cluster.requests() if each.code == FORBIDDEN]
    tell(f"{RELAYS} relays, {RATE:.0f} applies a second", *many.lines(found, RELAYS))
    assert not refused
    watches = ("watch ", "list ")
    asked = {k: n for k, n in found.requests.items() if not k.startswith(watches)}
    assert asked == {what: number * RELAYS for what, number in ONCE.items()}
    assert [what for what in found.quiet if not what.startswith(watches)] == []
