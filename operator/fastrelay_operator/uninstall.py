"""Removes every relay: what Helm runs before it uninstalls, while operator and agents still work.

``python -m fastrelay_operator.uninstall`` ends when all relays are gone, and with them what the
agents had in the kernel for them: an agent deletes its MoQRelayNodeState last.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from fastrelay_operator.objects import NODE_STATE, RELAY, Kind, name_of, namespace_of

_PAUSE = 0.5
_NOT_FOUND = 404
_log = logging.getLogger("fastrelay.uninstall")


def remove_all(objects: client.CustomObjectsApi) -> None:
    """Delete all relays, also those that are created meanwhile; return when nothing is left."""
    told = -1
    while True:
        relays, states = _list(objects, RELAY), _list(objects, NODE_STATE)
        if not relays and not states:
            return
        for relay in relays:
            if "deletionTimestamp" not in relay["metadata"]:
                _log.info("deleting %s/%s", namespace_of(relay), name_of(relay))
                _delete(objects, relay)
        if len(relays) + len(states) != told:
            told = len(relays) + len(states)
            _log.info("waiting for %d relays and %d node states", len(relays), len(states))
        time.sleep(_PAUSE)


def _list(objects: client.CustomObjectsApi, kind: Kind) -> list[dict[str, Any]]:
    try:
        found: Any = objects.list_cluster_custom_object(kind.group, kind.version, kind.plural)
    except ApiException as error:
        if error.status == _NOT_FOUND:  # the very definition is gone
            return []
        raise
    return list(found["items"])


def _delete(objects: client.CustomObjectsApi, relay: dict[str, Any]) -> None:
    place = RELAY.group, RELAY.version, namespace_of(relay), RELAY.plural, name_of(relay)
    try:
        objects.delete_namespaced_custom_object(*place)
    except ApiException as error:
        if error.status != _NOT_FOUND:
            raise


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config.load_incluster_config()
    remove_all(client.CustomObjectsApi())
