"""When a file is compiled and when it is not; a script takes the compiler's place."""

import json
import sys

import pytest

from fastrelay.agent import headers
from fastrelay.agent.compiling import CompileError, Compiler

EXIT = "9500000000000000"
COMPILER = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    if sys.argv[-1] == "identity":
        print(json.dumps(["1.0", "libLLVM-1.so"]))
        sys.exit()
    request = json.load(sys.stdin)
    print(json.dumps(request), file=log)
{body}
print(json.dumps({{"f": {code!r}}}))
"""


class Fake:
    """An interpreter of which the compiler's module does what a test says."""

    def __init__(self, directory):
        self._path, self._log = directory / "interpreter", directory / "log"
        self._log.touch()
        self.behave()

    def behave(self, *, code=EXIT, body="", identity="1.0"):
        text = COMPILER.format(python=sys.executable, log=str(self._log), body=body, code=code)
        self._path.write_text(text.replace('"1.0"', repr(identity)))
        self._path.chmod(0o755)

    @property
    def path(self):
        return str(self._path)

    def requests(self):
        """Since the last call."""
        found = [json.loads(line) for line in self._log.read_text().splitlines()]
        self._log.write_text("")
        return found


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv(headers.VARIABLE, str(tmp_path / "headers"))
    for path, text in {
        "headers/include/uapi/linux/bpf.h": "",
        "headers/include/generated/utsrelease.h": "6.1",
        "sources/file.c": "int f;",
        "sources/other.c": "int g;",
        "sources/header.h": "",
        "include/header.h": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path / "sources" / "file.c"


@pytest.fixture
def compiled(tmp_path, fake, source):
    """Compile; returns what the compiler was asked for."""

    def call(cflags=("-DX",), maps=("slots",), file=source):
        compiler = Compiler(tmp_path / "cache", (fake.path,))
        programs = compiler.compiled(file, [tmp_path / "include"], cflags, maps)
        assert programs["f"].instructions.hex() == EXIT
        return fake.requests()

    return call


def test_once(compiled, source):
    flags = [f"-I{source.parent.parent / 'include'}", "-DX", "-DMAP_SLOTS=0"]
    assert compiled() == [{"source": str(source), "cflags": flags}]
    assert compiled() == []


def test_again_for_whatever_it_depends_on(compiled, source, fake, tmp_path):
    compiled()
    assert compiled(cflags=("-DY",))
    assert compiled(maps=("tracks",))
    assert compiled(file=source.with_name("other.c"))
    beside, included = source.with_name("header.h"), tmp_path / "include" / "header.h"
    for path in (source, beside, included, source.with_name("new.h")):
        path.write_text("changed")
        assert compiled()
        assert not compiled()
    (tmp_path / "headers/include/generated/utsrelease.h").write_text("6.18")
    assert compiled()
    fake.behave(identity="1.1")
    assert compiled()
    assert not compiled()


def test_not_again_for_what_it_does_not_depend_on(compiled, source, tmp_path, monkeypatch):
    compiled()
    source.with_name("other.c").write_text("changed")
    (tmp_path / "headers").rename(tmp_path / "elsewhere")
    monkeypatch.setenv(headers.VARIABLE, str(tmp_path / "elsewhere"))
    assert not compiled()


def test_a_damaged_file_is_made_anew(compiled, tmp_path):
    compiled()
    (file,) = (tmp_path / "cache" / "bytecode").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert compiled()
    assert file.read_bytes() == whole


def test_a_file_of_another_shape_is_made_anew(compiled, tmp_path):
    from fastrelay.agent.cache import Cache

    compiled()
    cache = Cache(tmp_path / "cache" / "bytecode")
    (file,) = cache.directory.iterdir()
    cache.put(file.name, b"[]")
    assert compiled()
    assert not compiled()


def test_a_source_that_changes_meanwhile_is_not_kept(compiled, fake, source):
    fake.behave(body=f"open({str(source)!r}, 'a').write(' ')")
    assert compiled()
    fake.behave()
    source.write_text(source.read_text()[:-1])
    assert compiled()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('file.c:1: nonsense')", "file.c: file.c:1: nonsense"),
        ("os.kill(os.getpid(), 9)", "file.c: the compiler ended with -9 and said nothing"),
    ],
)
def test_what_does_not_compile(compiled, fake, body, message):
    fake.behave(body=body)
    with pytest.raises(CompileError, match=message):
        compiled()


def test_what_refers_to_something_unknown(compiled, fake):
    fake.behave(code="1821000000000000" + 16 * "0")
    with pytest.raises(CompileError, match="instruction 0 refers to"):
        compiled()
