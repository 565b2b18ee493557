"""Compiles a file with bcc, and ends: no LLVM stays in anybody's memory.

``python -m fastrelay.agent.compiler`` runs under the interpreter that has bcc (Debian's
python3-bpfcc belongs to /usr/bin/python3), so it imports nothing but the standard library. It
needs no privilege. Its one argument is what to do; the answer is JSON on standard output, what
the compiler says goes to standard error.

``identity``: ``["0.26.0", "libLLVM-14.so.1", ...]``, the version of bcc and the libraries that
make the bytecode. ``compile``: the request on standard input is ``{"source": PATH, "cflags":
["-D...", ...]}``, the answer ``{FUNCTION: INSTRUCTIONS, ...}``, in hexadecimal digits.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

NO_BCC = 3
"""Exit status: this interpreter has no bcc."""
REFUSED = 4
"""Exit status: the file does not compile."""
_LIBRARIES = re.compile(r"\S*/(lib(?:bcc|LLVM|clang)\S*)$", re.MULTILINE)


def identity(bcc: Any) -> list[str]:
    loaded = Path("/proc/self/maps").read_text()
    return [str(bcc.__version__), *sorted(set(_LIBRARIES.findall(loaded)))]


def compile_file(bcc: Any, source: str, cflags: list[str]) -> dict[str, str]:
    module = bcc.BPF(src_file=source, cflags=cflags)
    numbers = range(bcc.lib.bpf_num_functions(module.module))
    names = [bcc.lib.bpf_function_name(module.module, number) for number in numbers]
    return {name.decode(): module.dump_func(name).hex() for name in names}


def main() -> int:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # bcc and the compiler write there as they like
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bcc

        _ = bcc.BPF, bcc.lib.bpf_num_functions
    except (ImportError, AttributeError) as error:
        print(f"no bcc in {sys.executable}: {error}", file=sys.stderr)
        return NO_BCC
    if sys.argv[1] == "identity":
        json.dump(identity(bcc), answer)
    else:
        request = json.load(sys.stdin)
        try:
            json.dump(compile_file(bcc, request["source"], request["cflags"]), answer)
        except Exception as error:  # bcc raises nothing more specific
            print(error, file=sys.stderr)
            return REFUSED
    answer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
