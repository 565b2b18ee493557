"""A cluster without nodes: etcd, API server and controller manager on loopback, and the operator
as a process of this tree, with precisely the rights that the chart gives it.

Everything that the operator does can be seen there, and that pods run cannot. It needs no root,
starts in seconds, and several can stand side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from e2e import audit, chart
from e2e.audit import Request
from e2e.cluster import binaries
from e2e.cluster.places import BINARIES, HERE
from e2e.release import NAMESPACE
from fastrelay.api.objects import timestamp
from fastrelay.quic.certificates import make_self_signed

OPERATOR = "fastrelay-operator"
AGENT = "fastrelay-agent"
_SECONDS = 120.0
_KINDS = {
    "CustomResourceDefinition",
    "ServiceAccount",
    *("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
}
"""What is installed of the chart: the rest wants pods."""


class BareError(Exception):
    """It is not as it should be; the message says what is not, and has the end of the log."""


@dataclass
class Bare:
    """A cluster without nodes that runs. ``place``: its folder; goes with it."""

    place: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """Of somebody who may do everything."""
        return self.place / "admin.kubeconfig"

    def ask(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """What kubectl says; it may fail."""
        command = [str(BINARIES / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl says.

        :raises BareError: it fails.
        """
        done = self.ask(*arguments, stdin=stdin)
        if done.returncode:
            raise BareError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def read(self, *arguments: str) -> dict[str, Any]:
        """What ``kubectl get`` finds; empty: nothing."""
        done = self.ask("get", *arguments, "-o", "json", "--ignore-not-found")
        return dict(json.loads(done.stdout)) if done.stdout else {}

    def apply(self, *objects: dict[str, Any], how: str = "apply") -> None:
        self.kubectl(how, "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))

    def give_certificate(self, namespace: str, name: str) -> None:
        """The Secret that a relay of that name looks for by itself."""
        certificate, key = self.place / "tls.crt", self.place / "tls.key"
        make_self_signed([f"{name}-relay.{namespace}"]).write(certificate, key)
        files = [f"--cert={certificate}", f"--key={key}"]
        self.kubectl("-n", namespace, "create", "secret", "tls", f"{name}-tls", *files)

    def requests(self, begin: int = 0) -> list[Request]:
        """Of the chart's accounts: what they asked for, in the audit log from there on."""
        return audit.since(begin, self._audit)

    def requests_end(self) -> int:
        """Where that log ends now."""
        return audit.here(self._audit)

    def access(self, account: str) -> Path:
        """A kubeconfig for one of the chart's accounts."""
        token = self.kubectl("-n", NAMESPACE, "create", "token", account, "--duration=24h")
        return self._kubeconfig(account, token.strip())

    @property
    def _audit(self) -> Path:
        return self.place / "audit.log"

    def _kubeconfig(self, user: str, token: str) -> Path:
        path = self.place / f"{user}.kubeconfig"
        authority = str(self.place / "apiserver.crt")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": user,
            "clusters": [
                {
                    "name": "bare",
                    "cluster": {"server": self.url, "certificate-authority": authority},
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": user, "context": {"cluster": "bare", "user": user}}],
        }
        path.touch(0o600)
        path.write_text(json.dumps(config))
        return path

    def _start(self, processes: contextlib.ExitStack) -> None:
        admin = secrets.token_hex(16)
        (self.place / "tokens.csv").write_text(f'{admin},admin,admin,"system:masters"\n')
        self._make_key()
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        etcd = ["--name=bare", f"--data-dir={self.place / 'etcd'}", "--unsafe-no-fsync"]
        etcd += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        etcd += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        etcd += [f"--initial-cluster=bare={peer}", "--log-level=warn"]
        self._run(processes, "etcd", etcd)
        key = self.place / "accounts.key"
        self._run(
            processes,
            "kube-apiserver",
            [
                *(f"--etcd-servers={client}", f"--cert-dir={self.place}"),
                *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
                f"--secure-port={self.port}",
                *("--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/12"),
                *("--service-account-issuer=https://bare", f"--service-account-key-file={key}"),
                f"--service-account-signing-key-file={key}",
                *("--authorization-mode=RBAC", f"--token-auth-file={self.place / 'tokens.csv'}"),
                # An owner reference that blocks needs a right of its own with this one.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
                *(f"--audit-policy-file={HERE / 'audit.yaml'}", f"--audit-log-path={self._audit}"),
            ],
        )
        wait("the API server's certificate", (self.place / "apiserver.crt").exists)
        config = self._kubeconfig("admin", admin)
        wait("the API server", lambda: not self.ask("get", "--raw", "/readyz").returncode)
        self._run(
            processes,
            "kube-controller-manager",
            [
                f"--kubeconfig={config}",
                *("--leader-elect=false", "--secure-port=0"),
                *("--kube-api-qps=300", "--kube-api-burst=600"),
                f"--service-account-private-key-file={key}",
            ],
        )

    def _make_key(self) -> None:
        pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
        form = serialization.PrivateFormat.TraditionalOpenSSL
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, form, none)
        (self.place / "accounts.key").write_bytes(key)

    def _run(self, processes: contextlib.ExitStack, name: str, options: Sequence[str]) -> None:
        log = processes.enter_context((self.place / f"{name}.log").open("ab"))
        command = [str(BINARIES / name), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.place)
        processes.callback(_end, process)

    def _install(self) -> None:
        self.kubectl("create", "namespace", NAMESPACE)
        objects = [each for each in chart.rendered() if each["kind"] in _KINDS]
        definitions = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
        self.apply(*definitions, how="create")
        self.apply(*(each for each in objects if each not in definitions), how="create")
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@contextlib.contextmanager
def bare() -> Iterator[Bare]:
    """One, with the chart's definitions and accounts; all of it ends afterwards."""
    binaries.build()
    with (
        tempfile.TemporaryDirectory(prefix="fastrelay-bare-") as place,
        contextlib.ExitStack() as processes,
    ):
        made = Bare(Path(place), free_port())
        try:
            made._start(processes)
            made._install()
        except BareError as error:
            logs = Path(place).glob("*.log")
            ends = [f"{each.name}:\n{each.read_text()[-2000:]}" for each in sorted(logs)]
            raise BareError("\n".join((str(error), *ends))) from error
        yield made


@dataclass
class Operator:
    """The operator as a process. ``port``: of its pages."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def cpu(self) -> float:
        """Seconds that it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident, in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise BareError(f"the operator ended: {self.log.read_text()[-4000:]}")
        with contextlib.suppress(OSError):
            return self.page("/readyz") == "ready\n"
        return False


@contextlib.contextmanager
def operator(cluster: Bare, *options: str) -> Iterator[Operator]:
    """Works until the end of the block."""
    port, log = free_port(), cluster.place / "operator.log"
    environment = {**os.environ, "KUBECONFIG": str(cluster.access(OPERATOR))}
    command = [sys.executable, "-m", "fastrelay_operator", "--image", "relay:1", *options]
    command += ["--http-port", str(port), "--identity", "test", "--log-format", "console"]
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=stderr, env=environment)
        try:
            working = Operator(process, port, log)
            wait("the operator", working.ready)
            yield working
        finally:
            _end(process)


def wait(what: str, ready: Callable[[], bool], seconds: float = _SECONDS) -> None:
    """Ask again and again.

    :raises BareError: it was not so in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise BareError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def now() -> str:
    """As the API writes times."""
    return timestamp(datetime.now(UTC))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """One to look at, until interrupted."""
    with bare() as cluster, operator(cluster) as working:
        print(f"KUBECONFIG={cluster.kubeconfig} kubectl={BINARIES / 'kubectl'}")
        print(f"operator: pid {working.process.pid}, http://127.0.0.1:{working.port}/metrics")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            working.process.wait()


if __name__ == "__main__":
    main()
