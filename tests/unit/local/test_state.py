import os

import pytest

from fastrelay.local.processes import ProcessId, identify
from fastrelay.local.state import Pod, State, Store, check_name


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def test_what_was_saved_is_loaded(store):
    pods = {
        "relay": Pod("fastrelay-x-relay", "10.80.1.2", "fd80::2", ProcessId(7, 8), ["a"], "log"),
        "viewer-1": Pod("fastrelay-x-viewer-1", "10.80.2.2", "fd80::3"),
    }
    node = Pod("fastrelay-x-node", "", "", ProcessId(9, 10), ["b"], "log")
    state = State("x", ProcessId(1, 2), "moqt://10.80.1.2:4443", 3, node, pods)
    store.save(state)
    assert store.load("x") == state
    assert store.names() == ["x"]


def test_unknown_names_have_no_state(store):
    assert store.load("nothing") is None
    assert store.names() == []


def test_forgetting_removes_state_and_files(store):
    store.save(State("x"))
    (store.workspace("x") / "relay.log").write_text("words")
    store.forget("x")
    store.forget("x")
    assert store.load("x") is None
    assert not (store.directory / "x").exists()


def test_private_keys_lie_in_a_directory_of_ones_own(store):
    assert store.workspace("x").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 1, "pods": {"a": {}}}', "null"])
def test_damaged_files_are_named(store, content):
    store.directory.mkdir()
    store.file("x").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        store.load("x")


@pytest.mark.parametrize("name", ["", "a-b", "A", "1a", "a" * 17, "../x", "a/b"])
def test_names_that_could_reach_further_are_refused(name):
    with pytest.raises(ValueError, match="a letter first"):
        check_name(name)


def test_running_knows_this_process_but_not_an_earlier_one_of_its_id():
    us = identify(os.getpid())
    earlier = ProcessId(us.pid, us.started - 1)
    pods = {"relay": Pod("n", "", "", earlier), "viewer-1": Pod("n", "", "", us)}
    assert State("x", earlier, pods=pods, node=Pod("n", "", "", earlier)).running() == [us]


def test_a_lock_of_nothing_leaves_no_file(store):
    with store.locked("x"):
        store.save(State("x"))
    assert (store.directory / "x.lock").exists()
    with store.locked("x"):
        store.forget("x")
    assert list(store.directory.iterdir()) == []
