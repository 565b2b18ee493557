"""Who takes part in the demo: which viewers, on which software, over which transport, when."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from pathlib import Path

from fastrelay.local.stack import Stack, fastrelay, viewer_name
from fastrelay.moqt.drafts import DRAFTS

NAMESPACE = "live/demo"

_RUN_THIRD_PARTY = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module('fastrelay.local.third_party', run_name='__main__')"
)
_PACKAGES = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Viewer:
    """One viewer: what it runs, and the part of the demo it is there for."""

    name: str
    software: str
    """``fastrelay``, ``aiomoqt`` or ``moqrs``."""
    draft: int
    webtransport: bool
    track: str
    ipv6: bool = False
    joins: float = 0.0
    """When it comes, as a part of the whole time."""
    leaves: float | None = None
    """When it goes before the end."""

    @property
    def label(self) -> str:
        """For people: ``moq-rs · draft 18 · WebTransport · video-360``."""
        software = {"moqrs": "moq-rs"}.get(self.software, self.software)
        transport = "WebTransport" if self.webtransport else "QUIC"
        family = " · IPv6" if self.ipv6 else ""
        return f"{software} · draft {self.draft} · {transport}{family} · {self.track}"

    @property
    def in_kernel(self) -> bool:
        """Whether it writes integers as the publisher does, which the kernel does not translate."""
        return not DRAFTS[self.draft].quic_varints

    def recording(self, directory: Path) -> Path:
        return directory / f"{self.name}.mp4"

    def digests(self, directory: Path) -> Path:
        return directory / f"{self.name}.jsonl"

    def command(self, stack: Stack, third_party: Path | None) -> list[str]:
        """What to run in its pod."""
        url = stack.url(webtransport=self.webtransport, ipv6=self.ipv6)
        output, digests = self.recording(stack.directory), self.digests(stack.directory)
        if self.software == "fastrelay":
            return fastrelay(
                *("subscribe", url, *stack.session_options, "--namespace", NAMESPACE),
                *("--draft", str(self.draft), "--track", self.track, "--quiet"),
                *("--output", str(output), "--digests", str(digests)),
                *("--json", str(stack.directory / f"{self.name}.json")),
            )
        if third_party is None:
            raise ValueError(f"{self.name} needs a Python with {self.software}")
        return [
            *(str(third_party), "-c", _RUN_THIRD_PARTY, str(_PACKAGES)),
            *(self.software, url, NAMESPACE, str(self.draft), self.track),
            *(str(output), str(digests)),
        ]


def viewers(count: int, third_party: Path | None) -> list[Viewer]:
    """The cast: both transports and address families, one late, one leaving early. Draft 16 comes
    with more than seven: the kernel does not translate its integers."""
    high, middle, low = "video-720", "video-360", "video-180"
    aiomoqt, moqrs = ("aiomoqt", "moqrs") if third_party else ("fastrelay", "fastrelay")
    cast = [
        Viewer("", "fastrelay", 18, False, high),
        Viewer("", "fastrelay", 22, True, middle, leaves=0.55),
        Viewer("", "fastrelay", 18, False, middle, ipv6=True, joins=0.4),
        Viewer("", aiomoqt, 22, False, middle),
        Viewer("", moqrs, 18, True, middle),
    ]
    extras = [
        Viewer("", "fastrelay", 18, True, low, ipv6=True),
        Viewer("", "fastrelay", 22, True, low, joins=0.2),
        Viewer("", "fastrelay", 16, False, low, leaves=0.8),
    ]
    chosen = islice(chain(cast, cycle(extras)), count)
    return [replace(viewer, name=viewer_name(i)) for i, viewer in enumerate(chosen, 1)]


def publisher_command(stack: Stack, source: str) -> list[str]:
    """The publisher; its digest lines are what every viewer's are compared with."""
    loop = ["--loop"] if Path(source).is_file() else []
    return fastrelay(
        *("publish", stack.url(), *stack.session_options, "--namespace", NAMESPACE),
        *("--renditions", "720,360,180", *loop),
        *("--digests", str(stack.directory / "publisher.jsonl")),
        *("--json", str(stack.directory / "publisher.json"), source),
    )


def third_party_problem(python: Path) -> str | None:
    """Why this interpreter cannot run third-party viewers; None if it can."""
    check = [str(python), "-c", "import aiomoqt, moq"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["it fails"])[-1] if done.returncode else None
