"""What the relays of this node tell of themselves, asked over HTTP now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from fastrelay.agent.kubernetes_pods import RelayPod
from fastrelay.agent.kubernetes_states import Figures
from fastrelay.api.addresses import format_address
from fastrelay.api.objects import timestamp

MAX_PAGE = 1 << 20
TIMEOUT = ClientTimeout(total=5)
FULL = "at the limit of sessions"
"""What ``/readyz`` says then."""

log = logging.getLogger(__name__)


async def ask(session: ClientSession, pods: Iterable[RelayPod]) -> dict[str, Figures]:
    """By the pods' UIDs; those that do not answer are left out."""
    asked = [pod for pod in pods if pod.note.monitoring_port and pod.addresses]
    answers = await asyncio.gather(*(_ask(session, pod) for pod in asked))
    return {
        pod.uid: answer for pod, answer in zip(asked, answers, strict=True) if answer is not None
    }


async def _ask(session: ClientSession, pod: RelayPod) -> Figures | None:
    base = f"http://{format_address(pod.addresses[0], pod.note.monitoring_port)}"
    try:
        return figures(
            await _page(session, f"{base}/metrics"), await _page(session, f"{base}/readyz")
        )
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        log.debug("relay %s/%s does not tell of itself: %s", pod.namespace, pod.name, error)
        return None


async def _page(session: ClientSession, url: str) -> str:
    async with session.get(url, allow_redirects=False, timeout=TIMEOUT) as response:
        data = await response.content.read(MAX_PAGE)
        return data.decode(errors="replace")


def figures(metrics: str, readiness: str) -> Figures:
    """From the relay's metrics and the words of ``/readyz``.

    :raises ValueError: that is not what a relay says.
    """
    values: dict[str, float] = {}
    down = 0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            values[sample.name] = sample.value
            down += sample.name == "fastrelay_upstream_connected" and not sample.value
    expiry = values.get("fastrelay_certificate_expiry_timestamp_seconds", 0)
    expires = datetime.fromtimestamp(expiry, UTC) if expiry else None
    return Figures(
        subscribers=int(values.get("fastrelay_subscriptions", 0)),
        tracks=int(values.get("fastrelay_tracks", 0)),
        certificate_expires=timestamp(expires) if expires else None,
        upstreams_down=down,
        overloaded=readiness.strip() == FULL,
    )
