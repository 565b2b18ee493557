"""Who may publish and who may subscribe, by namespace prefix and token.

Tokens are out-of-band secrets (token type 0, draft-18 section 10.2.2), given in SETUP or with
the request. Every publisher and every subscriber is checked by itself, also where requests are
aggregated (section 9.4).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from fastrelay.moqt.names import Namespace
from fastrelay.relay.options import PolicyRule

OUT_OF_BAND = 0
"""The token type whose meaning both sides agreed on elsewhere."""

Tokens = tuple[tuple[int, bytes], ...]


class Policy:
    """The longest rule that is a prefix of the namespace decides; without one all is allowed."""

    def __init__(self, rules: Iterable[PolicyRule]) -> None:
        self._rules = {rule.prefix: rule for rule in rules}

    def may_publish(self, namespace: Namespace, tokens: Tokens) -> bool:
        rule = self._rule(namespace)
        return rule is None or _matches(rule.publish, tokens)

    def may_subscribe(self, namespace: Namespace, tokens: Tokens) -> bool:
        rule = self._rule(namespace)
        return rule is None or _matches(rule.subscribe, tokens)

    def _rule(self, namespace: Namespace) -> PolicyRule | None:
        if not self._rules:
            return None
        for length in range(len(namespace), -1, -1):
            rule = self._rules.get(namespace[:length])
            if rule is not None:
                return rule
        return None


def _matches(secrets: tuple[bytes, ...] | None, tokens: Tokens) -> bool:
    if secrets is None:
        return True
    found = False
    for kind, value in tokens:
        for secret in secrets:
            found |= kind == OUT_OF_BAND and hmac.compare_digest(secret, value)
    return found
