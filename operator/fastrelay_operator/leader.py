"""One operator at a time, by a Lease: two would do the same twice, and tell everything twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubernetes.aio.client import ApiClient, CoordinationV1Api, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from fastrelay.api.objects import OPERATOR

LEASE_SECONDS = 15
RENEW_WITHIN_SECONDS = 10
RENEW_SECONDS = 4

log = logging.getLogger(__name__)


class _Lock(LeaseLock):
    """The library's, whose ``create`` passes an argument that its client refuses (37.0.2)."""

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        lease = V1Lease(
            metadata=V1ObjectMeta(name=name, namespace=namespace),
            spec=self.update_lease(election_record),
        )
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except ApiException as error:
            log.warning("the lease was not made: %s %s", error.status, error.reason)
            return False
        return True


class LeaseLostError(Exception):
    """Somebody else may be working by now."""


async def lead(
    client: ApiClient, namespace: str, identity: str, work: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the lease, work while it is held, give it back.

    :raises LeaseLostError: it could not be renewed in time.
    """
    lock = _Lock(OPERATOR, namespace, identity, client)
    election = LeaderElection(
        Config(lock, LEASE_SECONDS, RENEW_WITHIN_SECONDS, RENEW_SECONDS, _nothing, _nothing)
    )
    await _tell_who_works(client, namespace)
    await election.acquire()
    log.info("%s holds the lease", identity)
    renewing = asyncio.ensure_future(election.renew_loop())
    working = asyncio.ensure_future(work())
    try:
        await asyncio.wait((renewing, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise LeaseLostError(f"{identity} could not renew the lease")
        working.result()
    finally:
        for task in (renewing, working):
            task.cancel()
        await asyncio.gather(renewing, working, return_exceptions=True)
        await _give_back(client, namespace, identity)


async def _tell_who_works(client: ApiClient, namespace: str) -> None:
    """Two operators are one too many; whoever has installed both should know."""
    try:
        lease = await CoordinationV1Api(client).read_namespaced_lease(OPERATOR, namespace)
    except (ApiException, OSError):
        return  # there is none yet, or the election has the same trouble and says so
    if lease.spec is not None and (holder := lease.spec.holder_identity):
        log.warning(
            "the lease %s/%s is held by %s: as long as that operator works, this one waits",
            *(namespace, OPERATOR, holder),
        )


async def _nothing() -> None:
    return


async def _give_back(client: ApiClient, namespace: str, identity: str) -> None:
    """So that the next one need not wait until the lease runs out."""
    leases = CoordinationV1Api(client)
    try:
        lease = await leases.read_namespaced_lease(OPERATOR, namespace)
        if lease.spec is not None and lease.spec.holder_identity == identity:
            lease.spec.holder_identity = None
            await leases.replace_namespaced_lease(OPERATOR, namespace, lease)
    except (ApiException, OSError) as error:
        log.warning("the lease was not given back: %s", error)
