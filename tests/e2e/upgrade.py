"""What viewers lose when the release of another commit becomes that of this tree.

    scripts/e2e.sh -- python -m e2e.upgrade [--from HEAD~1]

Makes a cluster of one node, installs that commit's chart with that commit's images, and upgrades
while somebody watches; then the relay is rolled to the new image. Removes everything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e import broadcast, images, pods, relays, release, video
from e2e.broadcast import Broadcast
from e2e.cluster import lifecycle
from e2e.cluster.lifecycle import wait
from e2e.watching import audience

_TREE = Path(__file__).resolve().parents[2]
_PARTS = "operator", "agent"


def unpack(commit: str, directory: Path) -> str:
    """The tree of a commit; its whole name.

    :raises subprocess.CalledProcessError: there is no such commit here.
    """
    git = ["git", "-C", str(_TREE), "-c", f"safe.directory={_TREE}"]
    archive = subprocess.run([*git, "archive", commit], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    found = subprocess.run(
        [*git, "rev-parse", commit], stdout=subprocess.PIPE, text=True, check=True
    )
    return found.stdout.strip()


def run(old: Path, scratch: Path) -> list[object]:
    """Lines that tell what happened."""
    images.load(tree=old)
    release.install(chart=release.chart_of(old))
    with relays.namespace("upgraded") as namespace:
        relay = relays.create(namespace, "demo", broadcast.SPEC, scratch)
        relay.wait_for("Ready")
        with (
            relays.namespace("viewers") as place,
            audience(scratch, place, release.RELAY_IMAGE) as viewers,
        ):
            watched = Broadcast.begin(relay, viewers)
            begin = video.packets(relay)
            before = [pods.of_release(part).name for part in _PARTS]
            [pod] = relay.pods()
            images.load()
            release.install(**{f"{part}.podAnnotations.upgraded": "yes" for part in _PARTS})
            assert not set(before) & {pods.of_release(part).name for part in _PARTS}
            watched.see()
            packets = video.packets(relay).since(begin) if relay.pods() == [pod] else "rolled"
            spec = broadcast.SPEC | {"logging": {"level": "debug"}}
            relays.apply(namespace, relay.name, spec)
            wait("another pod alone", lambda: len(relay.pods()) == 1 and relay.pods() != [pod])
            relay.wait_for("Ready")
            watched.see()
            seen = watched.end()
    return [packets, *seen]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="commit", default="HEAD~1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        old, scratch = Path(text) / "old", Path(text) / "scratch"
        old.mkdir()
        scratch.mkdir()
        commit = unpack(arguments.commit, old)
        try:
            lifecycle.up(nodes=1)
            told = run(old, scratch)
            release.uninstall()
        finally:
            lifecycle.down()
    print(f"from {commit[:12]}:", *told, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
