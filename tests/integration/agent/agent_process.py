"""The agent as a process::

agent_process.py PINS RECORDS SOCKETS SOURCES CACHE DESIRED REPORTS
"""

import asyncio
import sys
from pathlib import Path

from fastrelay.agent.files import DirectoryReporter, DirectorySource
from fastrelay.agent.instance import Settings
from fastrelay.agent.node import Node, run
from fastrelay.agent.versions import Toolchain

if __name__ == "__main__":
    pins, records, sockets, sources, cache, desired, reports = map(Path, sys.argv[1:])
    node = Node(Settings(pins, records, sockets), Toolchain(cache, sources))
    asyncio.run(run(node, DirectorySource(desired), DirectoryReporter(reports), interval=0.2))
