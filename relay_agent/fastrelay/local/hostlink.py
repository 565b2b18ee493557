"""The way from this machine's own network into a stack: a veth and a route to its pods.

Every stack that is reached so has a network number of its own, and with it addresses of its
own: the pods of number N are in 10.(80+N).0.0/16 and fd80:0:N::/48.
"""

from __future__ import annotations

import errno
import ipaddress

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastrelay.local import links, netns
from fastrelay.local.links import Addresses

NETWORKS = 64
LINK = 251
"""The number of this link among those of its node."""
NODE_DEVICE = "host"
IFA_F_NODAD = 0x02
_UNAVAILABLE = (errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EINVAL)


def device_of(network: int) -> str:
    return f"fastrelay{network}"


def connect(node: str) -> int:
    """Join us to the node's namespace by a link with a free number, and return the number.

    :raises OSError: no number is free, or we are not root.
    """
    network = _join(node)
    addresses = Addresses(LINK, network)
    links.address_node_end(node, NODE_DEVICE, addresses)
    netns.netlink(netns.OWN, lambda ipr: _configure(ipr, addresses))
    return network


def disconnect(node: str) -> None:
    """Remove that link, if there is one: at once, not some time after the namespace."""

    def remove(ipr: IPRoute) -> None:
        for index in ipr.link_lookup(ifname=NODE_DEVICE):
            ipr.link("del", index=index)

    netns.netlink(node, remove)


def _join(node: str) -> int:
    taken = netns.netlink(netns.OWN, _routes)
    for network in range(NETWORKS):
        wanted = ipaddress.IPv4Network(links.network4(network))
        if any(wanted.overlaps(route) for route in taken):
            continue
        try:
            links.join(node, NODE_DEVICE, netns.OWN, device_of(network))
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            continue  # somebody else took the number just now
        return network
    last = links.network4(NETWORKS - 1)
    raise OSError(f"every network from {links.network4(0)} to {last} is in use on this machine")


def _routes(ipr: IPRoute) -> list[ipaddress.IPv4Network]:
    """What leads anywhere but to the default gateway."""
    return [
        ipaddress.IPv4Network((route.get("dst"), route["dst_len"]))
        for route in ipr.get_routes(family=2)
        if route["dst_len"]
    ]


def _configure(ipr: IPRoute, addresses: Addresses) -> None:
    index = links.index_of(ipr, device_of(addresses.network))
    ipr.addr("add", index=index, address=addresses.pod4, prefixlen=24)
    ipr.route("add", dst=links.network4(addresses.network), gateway=addresses.node4)
    try:
        ipr.addr("add", index=index, address=addresses.pod6, prefixlen=64, flags=IFA_F_NODAD)
        ipr.route("add", dst=links.network6(addresses.network), gateway=addresses.node6)
    except NetlinkError as error:
        if error.code not in _UNAVAILABLE:
            raise  # a machine without IPv6 reaches its relay all the same
