"""cert-manager may come after us. kopf watches the kinds that were there when it began, so the
operator then ends and is started anew, which no relay notices."""

from __future__ import annotations

import asyncio
import logging

from fastrelay_operator.cluster import ApiError, Cluster
from fastrelay_operator.objects import Kind

log = logging.getLogger(__name__)


async def watch(cluster: Cluster, kind: Kind, taken: asyncio.Event) -> None:
    """Return when a kind is in use that was not there at first; otherwise never.

    ``taken``: the API server has taken one of that kind.
    """
    try:
        served = await cluster.serves(kind)
    except ApiError as error:
        log.warning("whether there is any %s is not known: %s", kind.name, error)
        served = True
    if served:
        await asyncio.Event().wait()
    await taken.wait()
    log.info("%s is there by now: the operator starts anew to watch it", kind.name)
