"""What the relays of this node tell of themselves, asked over HTTP now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from fastrelay.agent.kubernetes_pods import RelayPod
from fastrelay.agent.kubernetes_states import Figures
from fastrelay.api.addresses import format_address
from fastrelay.api.objects import timestamp

MAX_PAGE = 1 << 20
TIMEOUT = ClientTimeout(total=5)
KEPT_SECONDS = 60.0
"""For so long what a relay told last is taken for true."""
_SUBSCRIBERS, _TRACKS = "fastrelay_subscriptions", "fastrelay_tracks"
_UPSTREAM = "fastrelay_upstream_connected"
_EXPIRY = "fastrelay_certificate_expiry_timestamp_seconds"
FULL = "at the limit of sessions"
"""What ``/readyz`` says then."""

log = logging.getLogger(__name__)


class Answers:
    """What each relay has told last, as long as that is not too old: one that is busy, or restarts
    in its pod, has not lost its subscribers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.known: dict[str, Figures] = {}
        """By the pods' UIDs."""
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._silent: set[str] = set()

    async def ask(self, session: ClientSession, pods: Iterable[RelayPod]) -> None:
        """All of them at the same time; what was known of others is forgotten."""
        asked = [pod for pod in pods if pod.note.monitoring_port and pod.addresses]
        answers = await asyncio.gather(*(_ask(session, pod) for pod in asked))
        now = self._clock()
        for uid in self._heard.keys() - {pod.uid for pod in asked}:
            self._forget(uid)
        for pod, answer in zip(asked, answers, strict=True):
            if answer is not None:
                self.known[pod.uid], self._heard[pod.uid] = answer, now
                self._silent.discard(pod.uid)
            elif pod.uid in self._heard:
                self._not_heard(pod, now - self._heard[pod.uid])

    def _not_heard(self, pod: RelayPod, seconds: float) -> None:
        if seconds >= KEPT_SECONDS:
            log.warning("relay %s/%s: its figures are too old", pod.namespace, pod.name)
            self._forget(pod.uid)
        elif pod.uid not in self._silent:
            log.warning(
                "relay %s/%s does not tell of itself: its last figures stay for %.0f s",
                *(pod.namespace, pod.name, KEPT_SECONDS - seconds),
            )
            self._silent.add(pod.uid)

    def _forget(self, uid: str) -> None:
        del self.known[uid], self._heard[uid]
        self._silent.discard(uid)


async def _ask(session: ClientSession, pod: RelayPod) -> Figures | None:
    base = f"http://{format_address(pod.addresses[0], pod.note.monitoring_port)}"
    try:
        metrics = await _page(session, f"{base}/metrics", {200})
        return figures(metrics, await _page(session, f"{base}/readyz", {200, 503}))
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        log.debug("relay %s/%s does not tell of itself: %s", pod.namespace, pod.name, error)
        return None


async def _page(session: ClientSession, url: str, statuses: set[int]) -> str:
    async with session.get(url, allow_redirects=False, timeout=TIMEOUT) as response:
        if response.status not in statuses:
            raise ValueError(f"{url} answers {response.status}")
        data = await response.content.read(MAX_PAGE)
        return data.decode(errors="replace")


def figures(metrics: str, readiness: str) -> Figures:
    """From the relay's metrics and the words of ``/readyz``.

    :raises ValueError: that is not what a relay says.
    """
    # Of hundreds of lines; to parse them all for each relay would hold up who comes meanwhile.
    names = (_SUBSCRIBERS, _TRACKS, _UPSTREAM, _EXPIRY)
    wanted = "".join(f"{line}\n" for line in metrics.splitlines() if line.startswith(names))
    values: dict[str, float] = {}
    down = 0
    for family in text_string_to_metric_families(wanted):
        for sample in family.samples:
            values[sample.name] = sample.value
            down += sample.name == _UPSTREAM and not sample.value
    expiry = values.get(_EXPIRY, 0)
    expires = datetime.fromtimestamp(expiry, UTC) if expiry else None
    return Figures(
        subscribers=int(values.get(_SUBSCRIBERS, 0)),
        tracks=int(values.get(_TRACKS, 0)),
        certificate_expires=timestamp(expires) if expires else None,
        upstreams_down=down,
        overloaded=readiness.strip() == FULL,
    )
