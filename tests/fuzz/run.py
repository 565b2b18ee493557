"""Fuzz the codec and the session with coverage guidance (atheris, libFuzzer).

::

    python tests/fuzz/run.py --seconds 600              # every target in turn
    python tests/fuzz/run.py --seconds 60 --target session
    python tests/fuzz/run.py --target session FILE...   # run inputs again, e.g. a crash

What the fuzzer finds interesting is kept in --corpus, so that the next run goes on from
there. A crash ends the run with exit code 1; its input is written beside the corpus.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def load() -> tuple[dict[str, Callable[[bytes], None]], list[tuple[str, bytes]]]:
    """All targets, and inputs to begin with."""
    from fuzz import codec_targets, session_targets

    parts = (codec_targets, session_targets)
    targets = {name: target for part in parts for name, target in part.TARGETS.items()}
    return targets, [seed for part in parts for seed in part.seeds()]


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["fastrelay.moqt"]):
        targets, seeds = load()
    inputs = corpus / name
    inputs.mkdir(parents=True, exist_ok=True)
    for number, (target, data) in enumerate(seeds):
        if target == name:
            (inputs / f"seed-{number:04}").write_bytes(data)
    arguments = [
        sys.argv[0],
        str(inputs),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={corpus}/crash-{name}-",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, targets[name])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--corpus", type=Path, default=default_corpus())
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("inputs", nargs="*", type=Path, help="run these instead of fuzzing")
    options = parser.parse_args()
    if options.child:
        fuzz(options.target, options.seconds, options.corpus)
    targets, _ = load()
    if options.target and options.target not in targets:
        parser.error(f"no target {options.target!r}; there are {', '.join(targets)}")
    if options.inputs:
        for path in options.inputs:
            targets[options.target](path.read_bytes())
        return 0
    names = [options.target] if options.target else list(targets)
    seconds = max(1, options.seconds // len(names))
    for name in names:
        print(f"== {name}: {seconds} s", flush=True)
        command = [sys.executable, __file__, "--child", "--target", name]
        command += ["--seconds", str(seconds), "--corpus", str(options.corpus)]
        if subprocess.run(command, check=False).returncode:
            print(f"== {name}: crashed; the input is in {options.corpus}", flush=True)
            return 1
    print("== no crash")
    return 0


def default_corpus() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if not cache:
        return Path(tempfile.gettempdir()) / "fastrelay-fuzz"
    base = Path(cache) if os.environ.get("XDG_CACHE_HOME") else Path(cache) / ".cache"
    return base / "fastrelay" / "fuzz"


if __name__ == "__main__":
    sys.exit(main())
