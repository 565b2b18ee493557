"""Certificates and tokens change while a relay runs, as Kubernetes changes mounted Secrets."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fastrelay.api.spec import API_VERSION, KIND
from fastrelay.client import Client, ConnectFailedError, RequestFailedError
from fastrelay.quic.certificates import SelfSigned, make_self_signed
from fastrelay.quic.options import QuicOptions
from integration.harness import Certificate, RelayProcess, connect, running_relay
from integration.test_relay_process import until


class Secret:
    """A directory as the kubelet writes it: all files change in one step, by a link's change."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions = 0
        directory.mkdir()
        for name in ("tls.crt", "tls.key", "token"):
            (directory / name).symlink_to(f"..data/{name}")

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def private_key(self) -> Path:
        return self.directory / "tls.key"

    def write(self, identity: SelfSigned, token: str) -> None:
        self._versions += 1
        version = self.directory / f"..{self._versions}"
        version.mkdir()
        identity.write(version / "tls.crt", version / "tls.key")
        (version / "token").write_text(token)
        draft = self.directory / "..data_tmp"
        draft.symlink_to(version.name)
        os.replace(draft, self.directory / "..data")


def manifest(secret: Secret, path: Path) -> Path:
    rule = {
        "prefix": "live",
        "tokens": [{"name": "studio", "file": str(secret.directory / "token")}],
    }
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "relay"},
        "spec": {"authorization": {"rules": [rule]}},
    }
    path.write_text(json.dumps(document))
    return path


def shown(relay: RelayProcess) -> str:
    return str(relay.status()["process"]["certificate"]["sha256"])


async def may_publish(client: Client, name: bytes) -> bool:
    try:
        await client.publish_namespace((b"live", name))
    except RequestFailedError:
        return False
    return True


@pytest.mark.parametrize("told", [False, True], ids=["noticed", "SIGHUP"])
async def test_a_mounted_secret_changes(tmp_path: Path, told: bool) -> None:
    secret = Secret(tmp_path / "secret")
    first, second = make_self_signed(), make_self_signed()
    secret.write(first, "old words")
    identity = Certificate(secret.certificate, secret.private_key, first.sha256)
    arguments = ["-f", str(manifest(secret, tmp_path / "relay.json"))]
    old, new = (QuicOptions(certificate_sha256=each.sha256) for each in (first, second))
    with running_relay(identity, tmp_path / "log", arguments=arguments) as relay:
        async with connect(relay.url(), options=old, token=b"old words") as client:
            assert await may_publish(client, b"a")
            secret.write(second, "new words")
            if told:
                relay.process.send_signal(signal.SIGHUP)
            await until(lambda: shown(relay) == second.sha256.hex(), "the new certificate")
            await until(lambda: "tokens reloaded" in relay.log.read_text(), "the new token")
            with pytest.raises(ConnectFailedError):
                async with connect(relay.url(), options=old):
                    pass
            for token, allowed in ((b"old words", False), (b"new words", True)):
                async with connect(relay.url(), options=new, token=token) as other:
                    assert await may_publish(other, b"b") is allowed
            # Who is there stays, with what it has been granted; for more it needs the new words.
            assert not client.closed
            assert not await may_publish(client, b"c")
    words = relay.log.read_text()
    assert "old words" not in words
    assert "new words" not in words
