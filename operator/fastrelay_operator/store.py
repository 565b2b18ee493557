"""What the watches have shown, by relay. Only the parts that decisions are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from sys import intern
from typing import Any, NamedTuple, TypeVar

from fastrelay.api.objects import RELAY_LABEL
from fastrelay_operator.acceptance import upstream_names
from fastrelay_operator.objects import (
    AUTOSCALER,
    CERTIFICATE,
    DAEMON_SET,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    NODE_STATE,
    POD,
    RELAY,
    SERVICE,
    Kind,
    Object,
    label,
    name_of,
    namespace_of,
    uid_of,
)
from fastrelay_operator.observed import Key

K = TypeVar("K")


class RelayKey(NamedTuple):
    """A relay."""

    namespace: str
    name: str


class Store:
    """Filled by watches, read by the controller."""

    def __init__(self) -> None:
        self._relays: dict[str, dict[str, Object]] = defaultdict(dict)
        self._children: dict[RelayKey, dict[Key, Object]] = defaultdict(dict)

    def put(self, kind: Kind, found: Object) -> bool:
        """An object is there, or has changed.

        :returns: whether that may change a decision.
        """
        found = _shared(_trimmed(kind, found))
        if kind is RELAY:
            return _put(self._relays[namespace_of(found)], name_of(found), found)
        return _put(self._children[owner(kind, found)], (kind.name, name_of(found)), found)

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


def _put(objects: dict[K, Object], key: K, found: Object) -> bool:
    known = objects.get(key)
    if known is None:
        objects[key] = found
        return True
    if uid_of(known) == uid_of(found) and _age(known) > _age(found):
        return False  # an answer to us and a watch have overtaken each other
    objects[key] = found
    return _content(known) != _content(found)


def _age(found: Object) -> int:
    """Grows with each change of an object; 0: not known."""
    version = str(found["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


def _content(found: Object) -> Object:
    metadata = {k: v for k, v in found["metadata"].items() if k != "resourceVersion"}
    return {**found, "metadata": metadata}


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
_STATUS = {
    POD: ("phase", "hostIP", "startTime", "conditions", "containerStatuses"),
    DEPLOYMENT: ("readyReplicas",),
    DAEMON_SET: ("desiredNumberScheduled", "numberReady"),
    SERVICE: ("loadBalancer",),
    **dict.fromkeys((NETWORK_POLICY, DISRUPTION_BUDGET, AUTOSCALER, CERTIFICATE), ()),
}
"""Of kinds with a status that is not ours: what of it is looked at."""
_NOTES_OF_OTHERS = ("kubectl.kubernetes.io/", "deployment.kubernetes.io/")


def _shared(value: Any) -> Any:
    """The same with each text once in memory, however many objects have it: that halves them."""
    if isinstance(value, dict):
        return {intern(key): _shared(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shared(each) for each in value]
    return intern(value) if type(value) is str else value


def _trimmed(kind: Kind, found: Object) -> Object:
    metadata = {key: found["metadata"][key] for key in _METADATA if key in found["metadata"]}
    notes = metadata.pop("annotations", None) or {}  # kubectl's can be as large as the rest
    kept = {key: each for key, each in notes.items() if not key.startswith(_NOTES_OF_OTHERS)}
    if kept and kind is not POD:
        metadata["annotations"] = kept
    trimmed = {**found, "metadata": metadata}
    if kind in _STATUS:
        status = found.get("status") or {}
        trimmed["status"] = {key: status[key] for key in _STATUS[kind] if key in status}
    if kind is POD:
        trimmed["spec"] = {"nodeName": (found.get("spec") or {}).get("nodeName")}
    return trimmed
