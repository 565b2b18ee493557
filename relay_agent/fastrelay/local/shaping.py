"""Make a pod's link as bad as a real one: rate, loss, delay, each in both directions.

Rate is a token bucket (tbf) at both ends, loss is nftables' random drop where the node
forwards, delay is netem where the kernel has it. Where it has not (see
:func:`has_netem`), a delay line of ours sits in the wire: :mod:`fastrelay.local.delay`.
"""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fastrelay.local import netns
from fastrelay.local.links import POD_DEVICE, index_of

MAX_QUEUE_SECONDS = 0.2
"""How long a packet may wait for its turn at a limited rate, as in a router of the field."""

_BUCKET = 0x20000
"""The token bucket's handle."""
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a link misbehaves; the default does not."""

    rate: float | None = None
    """Bits a second in each direction; None: as fast as it goes."""
    loss: float = 0.0
    """The part of packets that is dropped in each direction, 0 to 1."""
    delay: float = 0.0
    """Seconds that each packet takes longer, in each direction."""

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate < 1000:
            raise ValueError(f"rate {self.rate:g} bit/s is too low; at least 1kbit")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss {self.loss:g} is not a part of 1; write 5% or 0.05")
        if not 0 <= self.delay <= 10:
            raise ValueError(f"delay {self.delay:g} s is out of range; at most 10 s")


def parse_rate(text: str) -> float:
    """``3mbit``, ``3M``, ``800kbit/s`` or plain bits a second."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:b(?:it)?)?(?:/s|ps)?", text.strip().lower())
    if not match:
        raise ValueError(f"rate {text!r} is not understood; write it like 3mbit")
    return float(match[1]) * _UNITS[match[2]]


def parse_loss(text: str) -> float:
    """``5%`` or ``0.05``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if not match:
        raise ValueError(f"loss {text!r} is not understood; write it like 5%")
    return float(match[1]) / (100 if match[2] else 1)


def parse_delay(text: str) -> float:
    """``40ms``, ``0.04s`` or plain milliseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|)", text.strip().lower())
    if not match:
        raise ValueError(f"delay {text!r} is not understood; write it like 40ms")
    return float(match[1]) * (1 if match[2] == "s" else 1e-3)


def has_netem(namespace: str) -> bool:
    """Whether the kernel can delay packets itself; asked on the namespace's loopback."""

    def ask(ipr: IPRoute) -> bool:
        loopback = index_of(ipr, "lo")
        try:
            ipr.tc("add", "netem", index=loopback, handle=0x10000, delay=1)
        except NetlinkError as error:
            if error.code in (errno.ENOENT, errno.EOPNOTSUPP):
                return False
            raise
        ipr.tc("del", index=loopback, handle=0x10000)
        return True

    return netns.netlink(namespace, ask)


def apply(node: str, pods: Mapping[str, tuple[str, Shape]], *, netem: bool) -> None:
    """Shape links. ``pods`` is device on the node -> (namespace of the pod, shape)."""
    for device, (namespace, shape) in pods.items():
        _limit(node, device, shape, netem)
        _limit(namespace, POD_DEVICE, shape, netem)
    rules = loss_rules({device: shape for device, (_, shape) in pods.items()})
    if rules:
        command = ["nsenter", f"--net={netns.path(node)}", "nft", "-f", "-"]
        done = subprocess.run(command, input=rules, text=True, capture_output=True, check=False)
        if done.returncode:
            raise OSError(f"nft refused the loss rules: {done.stderr.strip()}")


def change_rate(namespace: str, device: str, rate: float) -> None:
    """Bits a second that leave by a device whose rate is limited already, from now on."""
    bucket = _bucket(rate)

    def configure(ipr: IPRoute) -> None:
        ipr.tc("change", "tbf", index=index_of(ipr, device), handle=_BUCKET, **bucket)

    netns.netlink(namespace, configure)


def loss_rules(shapes: Mapping[str, Shape]) -> str:
    """nftables rules that drop at random what is forwarded from or to each device; or nothing."""
    drops = [
        f'    {side} "{device}" numgen random mod 100000 < {round(shape.loss * 100_000)} drop'
        for device, shape in shapes.items()
        if shape.loss
        for side in ("iifname", "oifname")
    ]
    if not drops:
        return ""
    lines = [
        "table inet fastrelay {",
        "  chain loss {",
        "    type filter hook forward priority filter; policy accept;",
        *drops,
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _bucket(bits: float) -> dict[str, int]:
    rate = round(bits / 8)
    # One timer tick's worth at least, and never less than a few packets.
    burst = max(rate // 100, 16_000)
    return {"rate": rate, "burst": burst, "limit": round(rate * MAX_QUEUE_SECONDS) + burst}


def _limit(namespace: str, device: str, shape: Shape, netem: bool) -> None:
    """The queue discipline of one end: netem, with the token bucket below it, or either."""

    def configure(ipr: IPRoute) -> None:
        index = index_of(ipr, device)
        parent = {}
        if shape.delay and netem:
            delay = round(shape.delay * 1e6)
            ipr.tc("add", "netem", index=index, handle=0x10000, delay=delay, limit=10_000)
            parent = {"parent": 0x10001}
        if shape.rate is not None:
            ipr.tc("add", "tbf", index=index, handle=_BUCKET, **_bucket(shape.rate), **parent)

    if shape.rate is not None or (shape.delay and netem):
        netns.netlink(namespace, configure)
