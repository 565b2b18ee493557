"""Which kernel headers the compiler gets."""

import os
from pathlib import Path

import pytest

from fastrelay.agent import headers
from fastrelay.agent.headers import NoHeadersError

PROBE = "include/uapi/linux/bpf.h"
RELEASE = os.uname().release


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv(headers.VARIABLE, raising=False)


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def find(directory: Path) -> Path | None:
    return headers.find(
        directory / "cache",
        sources=directory / "src",
        modules=directory / "modules",
        inside=directory / "kheaders.tar.xz",
    )


def debian(directory: Path, version: str, architecture: str = "amd64") -> None:
    common = directory / "src" / f"linux-headers-{version}-common"
    specific = directory / "src" / f"linux-headers-{version}-{architecture}"
    put(common / PROBE, version)
    put(common / "include/linux/kconfig.h")
    put(common / "arch/x86/include/asm/page.h", "common")
    put(common / "Makefile", "common")
    put(specific / "include/generated/autoconf.h")
    put(specific / "arch/x86/include/generated/asm/bug.h")
    put(specific / "Makefile", "specific")


def test_what_is_named_is_taken(tmp_path, monkeypatch):
    put(tmp_path / "named" / PROBE)
    put(tmp_path / "modules" / RELEASE / "build" / "Makefile")
    monkeypatch.setenv(headers.VARIABLE, str(tmp_path / "named"))
    assert find(tmp_path) == tmp_path / "named"


def test_what_is_named_must_be_headers(tmp_path, monkeypatch):
    monkeypatch.setenv(headers.VARIABLE, str(tmp_path))
    with pytest.raises(NoHeadersError, match=f"no {PROBE} there; unset it, or name the top"):
        find(tmp_path)


@pytest.mark.parametrize("own", [f"modules/{RELEASE}/build/Makefile", "kheaders.tar.xz"])
def test_the_running_kernels_are_left_to_bcc(tmp_path, own):
    put(tmp_path / own)
    debian(tmp_path, "6.1.0-1")
    assert find(tmp_path) is None


def test_debians_halves_become_one(tmp_path):
    debian(tmp_path, "6.1.0-1")
    found = find(tmp_path)
    assert found is not None
    for name in (
        PROBE,
        "include/linux/kconfig.h",
        "include/generated/autoconf.h",
        "arch/x86/include/asm/page.h",
        "arch/x86/include/generated/asm/bug.h",
    ):
        assert (found / name).is_file(), name
    assert (found / "Makefile").read_text() == "specific"
    assert find(tmp_path) == found
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.name]


def test_the_newest_is_taken_by_number_not_by_letter(tmp_path):
    for version in ("6.1.0-9", "6.1.0-56", "5.10.0-99"):
        debian(tmp_path, version)
    found = find(tmp_path)
    assert found is not None
    assert (found / PROBE).read_text() == "6.1.0-56"


def test_arm64(tmp_path):
    debian(tmp_path, "6.12.1", "arm64")
    found = find(tmp_path)
    assert found is not None
    assert found.name.endswith("arm64")


def test_half_of_it_does_not_do(tmp_path):
    put(tmp_path / "src" / "linux-headers-6.1.0-1-common" / PROBE)
    with pytest.raises(NoHeadersError, match="install linux-headers-amd64 or -arm64"):
        find(tmp_path)
