"""The wires: veth pairs between a routing namespace and each pod, with both address families.

The routing namespace stands for a node: every pod hangs on a veth of its own, packets between
pods are routed. The node's end has the pod's name (``relay``, ``viewer-1``), the pod's end is
``eth0``: both are points where packets of that pod can be seen or programs attached.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyroute2 import IPRoute

from fastrelay.local import netns

POD_DEVICE = "eth0"

SETTINGS = {
    # Looking for duplicate addresses would keep IPv6 from working for the first second.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    # As container runtimes do: who has no right may listen on port 443 in a pod of its own.
    "ipv4/ip_unprivileged_port_start": "0",
}
ROUTER_SETTINGS = {
    **SETTINGS,
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
}
NO_IPV6 = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Both ends of the link with this number (1 to 251), in a stack with that network."""

    number: int
    network: int = 0

    @property
    def pod4(self) -> str:
        return f"10.{80 + self.network}.{self.number}.2"

    @property
    def node4(self) -> str:
        return f"10.{80 + self.network}.{self.number}.1"

    @property
    def pod6(self) -> str:
        return f"fd80:0:{self.network:x}:{self.number:x}::2"

    @property
    def node6(self) -> str:
        return f"fd80:0:{self.network:x}:{self.number:x}::1"


def network4(network: int) -> str:
    """All IPv4 addresses of a stack."""
    return f"10.{80 + network}.0.0/16"


def network6(network: int) -> str:
    return f"fd80:0:{network:x}::/48"


@dataclass(frozen=True, slots=True)
class Counters:
    """Bytes and packets that passed the node's end, as the pod sees directions."""

    to_pod_bytes: int
    to_pod_packets: int
    from_pod_bytes: int
    from_pod_packets: int


def join(first: str, first_device: str, second: str, second_device: str) -> None:
    """A veth pair with one end in each namespace; both ends are up."""
    with open(netns.path(second)) as peer:

        def make(ipr: IPRoute) -> None:
            ipr.link(
                "add",
                ifname=first_device,
                kind="veth",
                peer={"ifname": second_device, "net_ns_fd": peer.fileno()},
            )
            ipr.link("set", index=index_of(ipr, first_device), state="up")

        netns.netlink(first, make)
    netns.netlink(
        second, lambda ipr: ipr.link("set", index=index_of(ipr, second_device), state="up")
    )


def address_node_end(namespace: str, device: str, addresses: Addresses) -> None:
    netns.netlink(namespace, lambda ipr: _address(ipr, device, addresses.node4, addresses.node6))


def address_pod_end(namespace: str, addresses: Addresses) -> None:
    """Addresses, loopback up, and default routes through the node."""

    def configure(ipr: IPRoute) -> None:
        ipr.link("set", index=index_of(ipr, "lo"), state="up")
        _address(ipr, POD_DEVICE, addresses.pod4, addresses.pod6)
        ipr.route("add", dst="default", gateway=addresses.node4)
        ipr.route("add", dst="default", gateway=addresses.node6)

    netns.netlink(namespace, configure)


def counters(namespace: str) -> dict[str, Counters]:
    """What passed each device of the node's namespace, by device name."""

    def read(ipr: IPRoute) -> dict[str, Counters]:
        found = {}
        for link in ipr.get_links():
            if statistics := link.get("stats64"):
                found[link.get("ifname")] = Counters(
                    to_pod_bytes=statistics["tx_bytes"],
                    to_pod_packets=statistics["tx_packets"],
                    from_pod_bytes=statistics["rx_bytes"],
                    from_pod_packets=statistics["rx_packets"],
                )
        return found

    return netns.netlink(namespace, read)


def index_of(ipr: IPRoute, device: str) -> int:
    """:raises OSError: there is no such device."""
    found = ipr.link_lookup(ifname=device)
    if not found:
        raise OSError(f"no device {device}")
    return int(found[0])


def _address(ipr: IPRoute, device: str, ipv4: str, ipv6: str) -> None:
    index = index_of(ipr, device)
    ipr.addr("add", index=index, address=ipv4, prefixlen=24)
    ipr.addr("add", index=index, address=ipv6, prefixlen=64)
