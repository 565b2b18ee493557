"""Checks of the tree itself: where packages come from is left to the machine, links lead somewhere.

* No file names the host of a package registry or container registry: a mirror or a
  proxy in the machine's configuration must be enough.
* No lock file: those carry download addresses. `constraints.txt` has versions only.
* Every relative link in a Markdown file points to a file of the tree.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent

# In two pieces each, so that this file does not name them.
REGISTRIES = [
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb.debian", "org"),
        ("security.debian", "org"),
        ("registry.npmjs", "org"),
        ("crates", "io"),
        ("proxy.golang", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("registry.k8s", "io"),
    )
]
LOCK_FILES = {
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pylock.toml",
    "Pipfile.lock",
    "package-lock.json",
    "Cargo.lock",
}
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


def tracked_files() -> list[Path]:
    """Files that git knows or would add; outside a checkout, every file."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TREE,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        return [path for path in TREE.rglob("*") if path.is_file() and ".git" not in path.parts]
    names = listing.stdout.decode().split("\0")
    return [path for name in names if name and (path := TREE / name).is_file()]


def faults_in(path: Path) -> Iterator[str]:
    name = path.relative_to(TREE)
    if path.name in LOCK_FILES:
        yield f"{name}: lock files carry download addresses; versions belong into constraints.txt"
    content = path.read_bytes()
    if b"\0" in content[:8192]:
        return
    text = content.decode(errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        for host in REGISTRIES:
            if re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", line):
                yield f"{name}:{number}: names the registry {host}; leave it to the machine"
    if path.suffix == ".md":
        for match in LINK.finditer(text):
            target = match["target"]
            if ":" not in target and not (path.parent / target).exists():
                yield f"{name}: link to {target}, which does not exist"


def main() -> int:
    faults = [fault for path in tracked_files() for fault in faults_in(path)]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
