"""What the watches have shown, by relay. Only the parts that decisions are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from fastrelay.api.objects import RELAY_LABEL
from fastrelay_operator.acceptance import upstream_names
from fastrelay_operator.objects import (
    NODE_STATE,
    POD,
    RELAY,
    Kind,
    Object,
    label,
    name_of,
    namespace_of,
)
from fastrelay_operator.observed import Key


class RelayKey(NamedTuple):
    """A relay."""

    namespace: str
    name: str


class Store:
    """Filled by watches, read by the controller."""

    def __init__(self) -> None:
        self._relays: dict[str, dict[str, Object]] = defaultdict(dict)
        self._children: dict[RelayKey, dict[Key, Object]] = defaultdict(dict)

    def put(self, kind: Kind, found: Object) -> None:
        """An object is there, or has changed."""
        found = _trimmed(kind, found)
        if kind is RELAY:
            self._relays[namespace_of(found)][name_of(found)] = found
        else:
            self._children[owner(kind, found)][kind.name, name_of(found)] = found

    def remove(self, kind: Kind, found: Object) -> None:
        """An object is gone."""
        if kind is RELAY:
            self._relays[namespace_of(found)].pop(name_of(found), None)
            return
        key = owner(kind, found)
        self._children[key].pop((kind.name, name_of(found)), None)
        if not self._children[key]:
            del self._children[key]

    def relay(self, key: RelayKey) -> Object | None:
        return self._relays[key.namespace].get(key.name)

    def relays(self, namespace: str) -> dict[str, Object]:
        """By name."""
        return self._relays[namespace]

    def all(self) -> Iterator[Object]:
        """Every relay."""
        for relays in self._relays.values():
            yield from list(relays.values())

    def node_states(self) -> list[Object]:
        """Every one, also of relays that are gone."""
        return [
            each
            for found in self._children.values()
            for (kind, _), each in found.items()
            if kind == NODE_STATE.name
        ]

    def belonging(self, key: RelayKey) -> dict[Key, Object]:
        """Children, pods and states of nodes."""
        return self._children.get(key, {})

    def concerned(self, kind: Kind, found: Object) -> Iterator[RelayKey]:
        """The relays for which a change of this object may mean something."""
        if kind is not RELAY:
            yield owner(kind, found)
            return
        namespace, name = namespace_of(found), name_of(found)
        yield RelayKey(namespace, name)
        for other in self._relays[namespace].values():
            if name in upstream_names(other) and name_of(other) != name:
                yield RelayKey(namespace, name_of(other))


def owner(kind: Kind, found: Object) -> RelayKey:
    """The relay that an object belongs to."""
    name = found["spec"]["relay"] if kind is NODE_STATE else label(found, RELAY_LABEL)
    return RelayKey(namespace_of(found), name)


_METADATA = (
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "labels",
    "annotations",
    "ownerReferences",
    "deletionTimestamp",
)
_POD_STATUS = ("phase", "hostIP", "startTime", "conditions", "containerStatuses")


def _trimmed(kind: Kind, found: Object) -> Object:
    metadata = {key: found["metadata"][key] for key in _METADATA if key in found["metadata"]}
    if kind is POD:
        status = found.get("status") or {}
        return {
            "metadata": {k: v for k, v in metadata.items() if k != "annotations"},
            "spec": {"nodeName": (found.get("spec") or {}).get("nodeName")},
            "status": {key: status[key] for key in _POD_STATUS if key in status},
        }
    if "annotations" in metadata:  # what kubectl keeps there can be as large as the rest
        metadata["annotations"] = {
            key: value
            for key, value in metadata["annotations"].items()
            if not key.startswith("kubectl.kubernetes.io/")
        }
    return {**found, "metadata": metadata}
