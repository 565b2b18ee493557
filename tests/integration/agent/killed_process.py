"""One pass of the agent that is killed (SIGKILL) at a chosen call.

``killed_process.py FUNCTION NTH MECHANISM PINS RECORDS SOCKETS SOURCES CACHE [NAME ADDRESS]``;
without a name the pass removes everything. FUNCTION is "module:attribute" or "module:class.method".
The variable SPARE names an end: a spare data plane for it is made before the pass.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

from fastrelay.agent.hooks import End, Mechanism
from fastrelay.agent.instance import RelaySpec, Settings
from fastrelay.agent.node import Node
from fastrelay.agent.versions import Toolchain


def arm(function: str, nth: int) -> None:
    """Have the process killed just before the nth call."""
    module, _, path = function.partition(":")
    owner = importlib.import_module(module)
    *between, name = path.split(".")
    for each in between:
        owner = getattr(owner, each)
    original = getattr(owner, name)
    calls = 0

    def counting(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, counting)


if __name__ == "__main__":
    function, nth, mechanism, pins, records, sockets, sources, cache, *relay = sys.argv[1:]
    settings = Settings(Path(pins), Path(records), Path(sockets), mechanism=Mechanism(mechanism))
    node = Node(settings, Toolchain(Path(cache), Path(sources)))
    arm(function, int(nth))
    if "SPARE" in os.environ:
        node.prepare_spare(End(os.environ["SPARE"]))
    device = os.environ.get("DEVICE", "")
    wanted = {relay[0]: RelaySpec(relay[0], 65534, relay[1:], device=device)} if relay else {}
    node.reconcile(wanted)
