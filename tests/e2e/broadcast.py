"""A broadcast that somebody watches while something happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e import video
from e2e.cluster.places import made_nodes
from e2e.relays import Relay
from e2e.video import Packets, Seen
from e2e.watching import Audience, Client

FRAMES = 100
"""What the viewers have to see after what happened."""
_SECONDS = 240.0
"""Until somebody who has lost a relay without a word has found another one."""
SPEC: dict[str, Any] = {
    "listen": {"service": {"type": "NodePort", "externalTrafficPolicy": "Cluster"}},
    "fastPath": {"mode": "Required"},
    "drain": {"gracePeriodSeconds": 10},
}
"""Of a relay to which every node leads, so that clients find it when it moves."""
Tell = Callable[..., None]


@dataclass
class Broadcast:
    """From a publisher outside to a viewer in a pod and one outside."""

    relay: Relay
    audience: Audience
    publisher: Client
    watching: list[Client]

    @classmethod
    def begin(cls, relay: Relay, audience: Audience) -> Broadcast:
        """All see the picture. Clients outside come by a node without the relay, if there is one:
        the other may go."""
        [where] = relay.nodes()
        url = relay.url(next((each for each in made_nodes() if each != where), where))
        publisher = audience.publish(url)
        watching = [
            audience.watch_from_pod("viewer-pod", relay.inner_url()),
            audience.watch("viewer", url),
        ]
        audience.see(watching, video.FIRST_FRAMES)
        return cls(relay, audience, publisher, watching)

    def see(self) -> None:
        """Everybody sees something new, be it after a while."""
        self.audience.see(self.watching, FRAMES, _SECONDS)

    def mostly_in_kernel(self) -> Packets:
        """The same, until the kernel has its share."""
        return video.mostly_in_kernel(self.relay, self.audience, self.watching, FRAMES)

    def end(self) -> list[Seen]:
        """What the viewers saw in all."""
        return video.end(self.watching, self.publisher)
