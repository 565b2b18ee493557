"""What a Secret has to offer, looked at by name: nobody has to give us all of them."""

from __future__ import annotations

import base64
import binascii
import logging
from datetime import UTC, datetime, timedelta

from cryptography import x509

from fastrelay_operator.cluster import ApiError, Cluster
from fastrelay_operator.objects import SECRET, Object
from fastrelay_operator.observed import SecretFacts
from fastrelay_operator.verdicts import EXPIRY_WARNING

REMEMBERED = timedelta(hours=1)
"""How long what is known of a Secret that exists is taken for true."""
REMEMBERED_EXPIRING = timedelta(minutes=10)
"""The same, where its certificate is about to end."""

log = logging.getLogger(__name__)


class Secrets:
    """Remembers facts, never contents, and only of Secrets that exist."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[tuple[str, str], tuple[datetime, SecretFacts]] = {}

    async def look(
        self, namespace: str, names: list[str], now: datetime, *, anew: bool
    ) -> dict[str, SecretFacts | None]:
        """Those that could be looked at. ``anew``: what is remembered may not be true any more."""
        found: dict[str, SecretFacts | None] = {}
        for name in names:
            until, facts = self._known.get((namespace, name), (now, None))
            if facts is not None and now < until and not anew:
                found[name] = facts
                continue
            try:
                secret = await self._cluster.get(SECRET, namespace, name)
            except ApiError as error:
                log.warning("Secret %s/%s cannot be looked at: %s", namespace, name, error)
                continue
            found[name] = self._remember((namespace, name), secret, now)
        return found

    def _remember(
        self, key: tuple[str, str], secret: Object | None, now: datetime
    ) -> SecretFacts | None:
        if secret is None:
            self._known.pop(key, None)
            return None
        facts = facts_of(secret)
        ends = facts.certificate_expires
        soon = ends is not None and ends - now < EXPIRY_WARNING
        self._known[key] = (now + (REMEMBERED_EXPIRING if soon else REMEMBERED), facts)
        return facts


def facts_of(secret: Object) -> SecretFacts:
    """All that is kept of a Secret."""
    data = secret.get("data") or {}
    return SecretFacts(frozenset(data), _expiry(data.get("tls.crt", "")))


def _expiry(encoded: str) -> datetime | None:
    try:
        certificates = x509.load_pem_x509_certificates(base64.b64decode(encoded))
    except (ValueError, binascii.Error):
        return None
    return certificates[0].not_valid_after_utc.astimezone(UTC)
