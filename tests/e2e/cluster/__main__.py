"""The cluster by hand: see ``--help``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from e2e.cluster import binaries, lifecycle, machines, node
from e2e.cluster.places import MOST_NODES, Node


def main() -> None:
    parser = argparse.ArgumentParser(prog="cluster", description="A cluster for tests.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="fetch and compile what is missing")
    verbs.add_parser("helm", help="print where Helm is; compile it if it is missing")
    up = verbs.add_parser("up", help="start it, or more nodes of it")
    up.add_argument("--nodes", type=int, default=1, choices=range(1, MOST_NODES + 1))
    verbs.add_parser("down", help="end and remove it")
    load = verbs.add_parser("load", help="import images into every node")
    load.add_argument("archives", nargs="+", type=Path)
    for verb in ("power-off", "power-on"):
        verbs.add_parser(verb).add_argument("number", type=int)
    for verb, what in (
        ("kubectl", "kubectl, for this cluster"),
        ("run", "a command in the cluster's network"),
        ("node", "a command inside a node: NUMBER COMMAND"),
    ):
        verbs.add_parser(verb, help=what, add_help=False, prefix_chars="\0")
    arguments, command = parser.parse_known_args()
    match arguments.verb:
        case "build":
            binaries.build()
        case "helm":
            print(binaries.build_helm())
        case "up":
            lifecycle.up(arguments.nodes)
        case "down":
            lifecycle.down()
        case "load":
            lifecycle.load(arguments.archives)
        case "power-off":
            node.stop(Node(arguments.number))
        case "power-on":
            node.start(Node(arguments.number))
        case "kubectl":
            _become(lifecycle.client(["kubectl", *command]))
        case "run":
            _become(lifecycle.client(command))
        case "node":
            number, *rest = command
            _become(machines.inside(Node(int(number)).name, rest))


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main()
    except (lifecycle.ClusterError, RuntimeError) as error:
        sys.exit(f"cluster: {error}")
