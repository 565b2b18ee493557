import json
import os

import pytest

from fastrelay.api.load import load, load_file
from fastrelay.local.projection import project

MANIFEST = """\
apiVersion: fastrelay.io/v1alpha1
kind: MoQRelay
metadata: {{name: mine}}
spec:
  tls:
    files: {{certificate: {0}/cert.pem, privateKey: {0}/key.pem}}
  upstreams:
    - url: moqt://origin:4443
      caFile: {0}/other/cert.pem
  authorization:
    rules:
      - prefix: live
        publish: Token
        tokens:
          - {{name: camera, file: {0}/token}}
          - {{name: spare, file: {0}/token}}
"""


@pytest.fixture
def files(tmp_path):
    place = tmp_path / "files"
    (place / "other").mkdir(parents=True)
    for name in ("cert.pem", "key.pem", "other/cert.pem", "token"):
        (place / name).write_text(name)
    return place


def test_files_are_copied_and_named_in_the_copy_of_the_manifest(files, tmp_path):
    manifest = project(load(MANIFEST.format(files)), tmp_path / "relay", os.getuid())
    spec = load_file(manifest).spec
    tokens = [token.file for token in spec.authorization.rules[0].tokens]
    named = {
        "cert.pem": spec.tls.files.certificate,
        "key.pem": spec.tls.files.private_key,
        "other/cert.pem": spec.upstreams[0].ca_file,
        "token": tokens[0],
    }
    for content, path in named.items():
        assert (manifest.parent / path).read_text() == content
        assert path.startswith(str(manifest.parent))
    assert tokens[0] == tokens[1]
    assert json.loads(manifest.read_text())["spec"]["upstreams"][0]["url"] == "moqt://origin:4443"


def test_nobody_else_can_read_them(files, tmp_path):
    manifest = project(load(MANIFEST.format(files)), tmp_path / "relay", os.getuid())
    assert manifest.parent.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in manifest.parent.iterdir())


def test_a_file_that_is_missing_is_named(files, tmp_path):
    (files / "token").unlink()
    with pytest.raises(FileNotFoundError, match="token"):
        project(load(MANIFEST.format(files)), tmp_path / "relay", os.getuid())
