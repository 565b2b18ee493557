import base64
import hashlib
import json
import struct

import pytest

from fastrelay.local.third_party.recorder import Recorder

TIMESCALE = 90_000
MDHD = b"....mdhd" + bytes(12) + struct.pack(">I", TIMESCALE) + bytes(8)
INIT = b"ftyp and moov" + MDHD


def chunk(seconds):
    return b"....moof....tfdt\x01\0\0\0" + struct.pack(">Q", round(seconds * TIMESCALE)) + b"mdat"


def catalog(**track):
    data = base64.b64encode(INIT).decode()
    content = {"tracks": [{"name": "other"}, {"name": "v", **track}], "initDataList": []}
    if "initRef" in track:
        content["initDataList"] = [{"id": track["initRef"], "type": "inline", "data": data}]
    return json.dumps(content).encode()


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder("v", tmp_path / "v.mp4", tmp_path / "v.jsonl")
    yield recorder
    recorder.save()


@pytest.mark.parametrize("track", [{"initRef": "a"}, {"initData": base64.b64encode(INIT).decode()}])
def test_the_file_begins_with_the_initialisation_and_a_key_frame(recorder, tmp_path, track):
    recorder.catalog(catalog(**track))
    for group, object_id in ((6, 3), (7, 1), (7, 0), (8, 0)):
        recorder.add(group, object_id, chunk(group + object_id / 25))
    recorder.save()
    expected = INIT + chunk(7) + chunk(7.04) + chunk(8)
    assert (tmp_path / "v.mp4").read_bytes() == expected


def test_digests_tell_hash_and_capture_time(recorder, tmp_path):
    recorder.catalog(catalog(initRef="a"))
    recorder.add(7, 0, chunk(1795231268.25))
    line = json.loads((tmp_path / "v.jsonl").read_text())
    assert line["sha256"] == hashlib.sha256(chunk(1795231268.25)).hexdigest()
    assert line["time"] == 1795231268.25
    assert line["latency"] == line["received"] - line["time"]
