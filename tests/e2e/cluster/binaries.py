"""The cluster's programs: Kubernetes, etcd, CoreDNS, Helm and kubeconform compiled from their Go
modules, containerd, runc, CNI plugins and Prometheus unpacked from Debian's packages. Nothing is
installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cluster import archive
from e2e.cluster.places import BINARIES, COREDNS, DEBIAN, HERE, IMAGES, PAUSE

KUBERNETES, CONFORM = HERE / "kubernetes", HERE / "conform"
_DNS = HERE / "coredns"
_COMPONENTS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)
_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "prometheus")
_LEAST_GO = (1, 24)


def build() -> None:
    """Make what is missing or older than its sources. Minutes the first time, else nothing."""
    unpack_debian()
    build_helm()
    version = _version("k8s.io/kubernetes")
    component = "k8s.io/component-base/version"
    stamps = {
        f"{component}.gitVersion": version,
        f"{component}.gitMajor": "1",
        f"{component}.gitMinor": version.split(".")[1],
        f"{component}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": version,
    }
    _compile("kubernetes", KUBERNETES, ".", stamps)
    for name in _COMPONENTS:
        if not (BINARIES / name).is_symlink():
            (BINARIES / name).symlink_to("kubernetes")
    IMAGES.mkdir(exist_ok=True)
    for name, reference, module, package in (
        ("pause", PAUSE, KUBERNETES, "./pause"),
        ("coredns", COREDNS, _DNS, "."),
    ):
        image = IMAGES / f"{name}.tar"
        if _compile(name, module, package) or not image.exists():
            archive.write(image, reference, BINARIES / name)


def build_helm() -> Path:
    """Helm alone: a minute the first time."""
    helm, (major, minor, _) = "helm.sh/helm/v3", _version("k8s.io/kubernetes").split(".")
    stamps = {f"{helm}/internal/version.version": _version(helm)}
    for package in ("pkg/chartutil", "pkg/lint/rules"):  # what `helm template` renders for
        stamps[f"{helm}/{package}.k8sVersionMajor"] = major.removeprefix("v")
        stamps[f"{helm}/{package}.k8sVersionMinor"] = minor
    _compile("helm", KUBERNETES, f"{helm}/cmd/helm", stamps)
    return BINARIES / "helm"


def build_kubeconform() -> Path:
    """Half a minute the first time."""
    _compile("kubeconform", CONFORM, "github.com/yannh/kubeconform/cmd/kubeconform")
    return BINARIES / "kubeconform"


def module(name: str, required_by: Path) -> Path:
    """The sources of a Go module."""
    _require_go()
    command = ["go", "mod", "download", "-json", name]
    done = subprocess.run(command, cwd=required_by, stdout=subprocess.PIPE, check=True)
    return Path(json.loads(done.stdout)["Dir"])


def _version(module: str) -> str:
    """What go.mod requires of a module, like v1.34.4."""
    text = (KUBERNETES / "go.mod").read_text()
    match = re.search(rf"^\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    assert match is not None, module
    return match[1]


def _compile(name: str, module: Path, package: str, stamps: dict[str, str] | None = None) -> bool:
    """Compile into :data:`BINARIES` unless its sources are those of last time."""
    sources = sorted(path for path in module.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    note = BINARIES / f".{name}"
    if (BINARIES / name).exists() and note.exists() and note.read_text() == digest:
        return False
    _require_go()
    print(f"cluster: compiling {name} (this takes its time once)", file=sys.stderr, flush=True)
    BINARIES.mkdir(parents=True, exist_ok=True)
    stamped = "".join(f" -X {key}={value}" for key, value in (stamps or {}).items())
    flags = ["-buildvcs=false", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w{stamped}"]
    subprocess.run(
        ["nice", "go", "build", *flags, "-o", str(BINARIES / name), package],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
        check=True,
    )
    note.write_text(digest)
    return True


def _require_go() -> None:
    advice = f"Go {'.'.join(map(str, _LEAST_GO))} or newer is needed to compile Kubernetes"
    if not shutil.which("go"):
        raise RuntimeError(f"{advice}; there is no go on the PATH")
    words = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True)
    numbers = tuple(int(each) for each in re.findall(r"\d+", words.stdout)[:2])
    if numbers < _LEAST_GO:
        raise RuntimeError(f"{advice}; here is {words.stdout.strip()}")


def unpack_debian() -> Path:
    """Debian's packages alone; returns where their files are."""
    note = DEBIAN / ".packages"
    if note.exists() and note.read_text().split() == list(_PACKAGES):
        return DEBIAN
    print("cluster: fetching Debian packages", file=sys.stderr, flush=True)
    draft = DEBIAN.with_name("debian.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    apt = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *_PACKAGES]
    if subprocess.run(apt, cwd=draft, check=False).returncode:  # lists are missing or old
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(apt, cwd=draft, check=True)
    for package in draft.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(draft)], check=True)
        package.unlink()
    (draft / note.name).write_text("\n".join(_PACKAGES))
    shutil.rmtree(DEBIAN, ignore_errors=True)
    draft.rename(DEBIAN)
    return DEBIAN
