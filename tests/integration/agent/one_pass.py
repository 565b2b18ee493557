"""One pass of the agent: ``one_pass.py PINS RECORDS SOCKETS SOURCES CACHE NAME ADDRESS``."""

import sys
from pathlib import Path

from fastrelay.agent.instance import RelaySpec, Settings
from fastrelay.agent.node import Node
from fastrelay.agent.versions import Toolchain

if __name__ == "__main__":
    pins, records, sockets, sources, cache, name, address = sys.argv[1:]
    settings = Settings(Path(pins), Path(records), Path(sockets))
    node = Node(settings, Toolchain(Path(cache), Path(sources)))
    status = node.reconcile({name: RelaySpec(name, 65534, [address])})[name]
    print(status.state, status.reason, status.message)
