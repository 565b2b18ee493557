"""What people see: help, mistakes, exit codes."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from typer.testing import CliRunner

from fastrelay import __version__
from fastrelay.api.conditions import REASONS
from fastrelay.api.load import MINIMAL, load
from fastrelay.api.spec import MoQRelay, RelaySpec
from fastrelay.cli import app
from fastrelay.cli import relay as relay_command
from fastrelay.quic.certificates import SelfSigned, make_self_signed

runner = CliRunner()


def run(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
    """Standard output and error of a command that ends with ``code``."""
    result = runner.invoke(app, list(arguments), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def plain(output: str) -> str:
    """In one line and without the frames of boxes."""
    return " ".join(output.replace("│", " ").split())


@pytest.fixture
def resource(monkeypatch: pytest.MonkeyPatch) -> list[MoQRelay]:
    """What ``fastrelay relay`` would run, instead of running it."""
    seen: list[MoQRelay] = []
    monkeypatch.setattr(relay_command, "_run", lambda relay, *_rest, **_more: seen.append(relay))
    return seen


def test_version() -> None:
    assert run("version") == run("--version") == f"fastrelay {__version__}\n"


def test_help_names_every_command() -> None:
    text = run("--help")
    for command in ("relay", "validate", "explain", "certificate", "version"):
        assert command in text


CLUSTER = ("kopf", "kubernetes")
NEEDLESS = {
    "fastrelay.relay.server": (
        *CLUSTER,
        *("fastrelay.agent", "fastrelay.fastpath.forwarder", "fastrelay.fastpath.maps"),
        *("fastrelay.local", "fastrelay.media", "numpy", "pyroute2", "rich"),
    ),
    "fastrelay.media.publisher, fastrelay.media.subscriber, fastrelay.client": (
        *CLUSTER,
        *("fastrelay.api", "fastrelay.fastpath", "fastrelay.local", "fastrelay.relay"),
        *("numpy", "prometheus_client", "pydantic", "pyroute2", "structlog"),
    ),
    "fastrelay.agent.node, fastrelay.agent.files": (
        *CLUSTER,
        *("aioquic", "fastrelay.api.spec", "fastrelay.client", "fastrelay.local"),
        *("fastrelay.media", "fastrelay.moqt", "prometheus_client", "rich"),
    ),
    "fastrelay.local.stack": (*CLUSTER, "aioquic", "fastrelay.moqt", "fastrelay.relay", "numpy"),
    # The help shows every command.
    "fastrelay.cli; dict(typer.main.get_command(fastrelay.cli.app).commands)": (
        *CLUSTER,
        *("aioquic", "cryptography", "prometheus_client", "pydantic", "structlog", "yaml"),
    ),
    "fastrelay.cli; typer.main.get_command(fastrelay.cli.app).commands['relay']": (
        *("fastrelay.cli.local", "fastrelay.cli.subscribe", "rich"),
    ),
}
"""What programs import, and what of that would only make them start more slowly."""


@pytest.mark.parametrize("imported", NEEDLESS)
def test_nothing_is_loaded_that_is_not_needed(imported: str) -> None:
    program = (
        f"import sys, typer.main, {imported}\n"
        f"needless = {NEEDLESS[imported]}\n"
        "print([m for m in sys.modules if any(f'{m}.'.startswith(f'{n}.') for n in needless)])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


# -- validate


def test_validate_says_that_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(MINIMAL)
    assert run("validate", "-f", str(path)) == f"{path}: MoQRelay my-relay is right\n"
    assert "is right" in run("validate", "-f", "-", stdin=MINIMAL)


def test_validate_tells_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(MINIMAL.replace("{}", "{listen: {port: 70000}, cach: {}}"))
    lines = run("validate", "-f", str(path), code=65)
    assert f"{path}:5: spec.listen.port: 70000 is too large; write a number from 1 to" in lines
    assert f"{path}:5: spec.cach: there is no such field; did you mean cache?" in lines


def test_validate_without_file(tmp_path: Path) -> None:
    assert "there is no such file" in run("validate", "-f", str(tmp_path / "none"), code=66)
    assert "is a directory" in run("validate", "-f", str(tmp_path), code=66)


# -- explain


def test_explain_prints_a_resource_that_works() -> None:
    text = run("explain")
    assert load(text).spec == RelaySpec()
    assert "# How long objects stay" in text
    assert all(len(line) <= 100 or "bands:" in line for line in text.splitlines())


def test_explain_one_field() -> None:
    text = run("explain", "spec.cache.maxSize")
    assert "default  256Mi" in text
    assert "write    a number of bytes" in text
    assert ".prefixes: " in run("explain", "upstreams")
    assert "prefix" in run("explain", "spec.authorization.rules[0].prefix")


def test_explain_what_is_not_there() -> None:
    assert "spec.listen has no field prot; did you mean port?" in run(
        "explain", "listen.prot", code=2
    )
    assert "spec.listen.port has no field x; the fields here: none" in run(
        "explain", "listen.port.x", code=2
    )


def test_explain_conditions() -> None:
    text = run("explain", "conditions")
    for reason in REASONS:
        assert reason.name in text
        assert reason.meaning in text


# -- certificate


def test_certificate_prints_the_hashes_of_what_it_wrote(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    where = ("--certificate", str(certificate), "--private-key", str(key))
    made = json.loads(run("certificate", "--host", "relay.test", "--json", *where))
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    digest = hashlib.sha256(der).digest()
    assert made["sha256"] == digest.hex()
    assert made["sha256-base64"] == base64.b64encode(digest).decode()
    assert made["sha256-colons"].lower().replace(":", "") == digest.hex()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    assert "exists; add --force" in run("certificate", *where, code=2)
    assert certificate.read_text() == ssl.DER_cert_to_PEM_cert(der)
    shown = run("certificate", "--show", *where)
    assert digest.hex() in shown
    assert "serverCertificateHashes" in shown
    run("certificate", "--force", *where)
    assert ssl.PEM_cert_to_DER_cert(certificate.read_text()) != der


def test_certificate_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    where = ("--show", "--certificate", str(path))
    assert "there is no such file" in run("certificate", *where, code=66)
    path.write_text("hello")
    assert "holds no PEM certificate" in run("certificate", *where, code=78)


# -- relay


def test_relay_options_become_the_spec(resource: list[MoQRelay], tmp_path: Path) -> None:
    run(
        *("relay", "--listen", "[::1]:5000", "--drafts", "22,16", "--grace", "5"),
        *("--certificate", "c.pem", "--private-key", "k.pem", "--metrics", "127.0.0.1:9000"),
        *("--upstream", "moqt://a:1", "--upstream", "https://b/c", "--upstream-insecure"),
        *("--publish-token", "live=token.txt", "--log-level", "debug", "--log-format", "json"),
    )
    spec = resource[0].spec
    assert (spec.listen.host, spec.listen.port, spec.listen.drafts) == ("::1", 5000, [22, 16])
    assert spec.tls.files is not None
    assert (spec.tls.files.certificate, spec.tls.files.private_key) == ("c.pem", "k.pem")
    assert [(u.url, u.verify) for u in spec.upstreams] == [
        ("moqt://a:1", False),
        ("https://b/c", False),
    ]
    assert (spec.monitoring.host, spec.monitoring.port) == ("127.0.0.1", 9000)
    assert (spec.logging.level, spec.logging.format) == ("debug", "json")
    assert spec.drain.grace_period_seconds == 5
    assert spec.authorization.rules[0].tokens[0].file == "token.txt"


def test_relay_without_a_file_logs_for_people_and_serves_no_pages(
    resource: list[MoQRelay],
) -> None:
    run("relay")
    assert resource[0].spec.monitoring.port == 0
    assert resource[0].spec.logging.format == "console"


def test_relay_options_win_over_the_file(resource: list[MoQRelay], tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    relay = yaml.safe_load(MINIMAL)
    relay["spec"] = {
        "listen": {"port": 5000, "drafts": [16]},
        "tls": {"secretName": "x"},
        "cache": {"maxSize": "1Mi"},
    }
    path.write_text(yaml.safe_dump(relay))
    run(
        *("relay", "-f", str(path), "--listen", "127.0.0.1:6000"),
        *("--certificate", "c", "--private-key", "k"),
    )
    spec = resource[0].spec
    assert (spec.listen.host, spec.listen.port, spec.listen.drafts) == ("127.0.0.1", 6000, [16])
    assert int(spec.cache.max_size) == 1 << 20
    assert spec.tls.files is not None
    assert spec.tls.secret_name is None
    assert spec.monitoring.port == 9464
    assert spec.logging.format == "json"


def test_relay_options_add_to_the_rules_of_the_file(
    resource: list[MoQRelay], tmp_path: Path
) -> None:
    path = tmp_path / "relay.yaml"
    rule = "{prefix: news, publish: Nobody}"
    path.write_text(MINIMAL.replace("{}", f"{{authorization: {{rules: [{rule}]}}}}"))
    run("relay", "-f", str(path), "--publish-token", "live=t")
    assert [rule.prefix for rule in resource[0].spec.authorization.rules] == ["news", "live"]
    text = run("relay", "-f", str(path), "--publish-token", "news=t", code=65)
    assert "rules has two entries for prefix 'news'; merge them into one" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--drafts", "17"], 65, "spec.listen.drafts[0]: 17 is not known; write 18, 22 or 16"),
        (["--upstream", "http://a"], 65, 'spec.upstreams[0].url: "http://a" does not fit'),
        (["--upstream-insecure"], 2, "need an --upstream"),
        (["--certificate", "c.pem"], 2, "--certificate and --private-key go together"),
        (["--listen", "a:b"], 2, "is no address"),
        (["--listen", "127.0.0.1:0"], 65, "spec.listen.port: 0 is too small"),
        (["-f", "/nowhere.yaml"], 66, "/nowhere.yaml: there is no such file"),
        (["--publish-token", "live=/nowhere"], 78, "the relay has no certificate"),
        ([], 78, "the relay has no certificate; write spec.tls.files or give --certificate"),
        (
            ["--certificate", "/no/c.pem", "--private-key", "/no/k.pem"],
            66,
            "/no/c.pem: there is no such file",
        ),
    ],
)
def test_relay_refuses_with_advice(arguments: list[str], code: int, message: str) -> None:
    assert message in plain(run("relay", *arguments, code=code))


def test_relay_refuses_wrong_certificates(tmp_path: Path) -> None:
    for name in ("one", "other"):
        made = make_self_signed()
        made.write(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    encrypted = serialization.load_pem_private_key(made.private_key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "encrypted.key").write_bytes(encrypted)
    (tmp_path / "junk").write_text("junk")
    write_expired(made, tmp_path / "old.pem")
    for leaf, key, code, text in (
        ("one.pem", "other.key", 78, "is not the key of the certificate"),
        ("junk", "other.key", 78, "junk"),
        ("other.pem", "junk", 78, "junk"),
        ("other.pem", "encrypted.key", 78, "passphrase"),
        ("none", "other.key", 66, "none: there is no such file"),
        ("old.pem", "other.key", 78, "expired at"),
    ):
        files = (
            *("--certificate", str(tmp_path / leaf)),
            *("--private-key", str(tmp_path / key)),
        )
        assert text in plain(run("relay", *files, code=code))


def write_expired(like: SelfSigned, path: Path) -> None:
    """A certificate that expired yesterday, of the same key."""
    key = serialization.load_pem_private_key(like.private_key, None)
    valid = x509.load_pem_x509_certificate(like.certificate)
    now = datetime.datetime.now(datetime.UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(valid.subject)
        .issuer_name(valid.issuer)
        .public_key(valid.public_key())
        .serial_number(valid.serial_number)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    path.write_bytes(old.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("publish", "moqt://127.0.0.1:9", "no-such-film.mp4"), 1, "No such file"),
        (("publish", "http://127.0.0.1:9", "test"), 2, "moqt://"),
        (("publish", "moqt://127.0.0.1:9", "test", "--bitrates", "fast"), 2, "bit rate"),
        (("publish", "moqt://127.0.0.1:9", "test", "--draft", "17"), 2, "17 is not known"),
        (("subscribe", "moqt://127.0.0.1:9", "--pin", "xyz"), 2, "SHA-256"),
        (("subscribe", "moqt://127.0.0.1:9", "--ca", "nowhere.pem"), 66, "no such file"),
        (("subscribe", "moqt://127.0.0.1:9", "--bandwidth", "0"), 2, "bit rate"),
        (("subscribe", "moqt://127.0.0.1:9", "--auto", "--track", "x"), 2, "not with"),
    ],
)
def test_media_commands_refuse_with_advice(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in plain(run(*arguments, "--namespace", "live/demo", code=code))


def test_relay_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(MINIMAL)

    def refuse(*_arguments: object, **_rest: object) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "no permission" in run("relay", "-f", str(path), code=77)
