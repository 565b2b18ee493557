"""The messages between agent and relay."""

from __future__ import annotations

import json
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrelay.fastpath import handing
from fastrelay.fastpath.handing import MAX_MESSAGE, NAMES, HandingError, Offer, Statement

STATEMENT = Statement(maps=7, forwarding=True, kernel=3, user=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=4,
)
FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys(Statement.model_fields, JSON))


def test_what_is_said_is_heard() -> None:
    offer = Offer(maps=7, names=list(NAMES))
    for message in (STATEMENT, offer, Offer(reason="InUse", message="nö"), Statement()):
        assert handing.decode(type(message), handing.encode(message)) == message


def test_what_a_later_version_adds_is_not_looked_at() -> None:
    later = {"version": 2, "maps": 7, "colour": "red"}
    assert handing.decode(Statement, json.dumps(later).encode()).maps == 7


def test_everything_fits() -> None:
    most = Offer(maps=(1 << 32) - 1, names=list(NAMES), message="\N{GRINNING FACE}" * 512)
    assert len(handing.encode(most)) <= MAX_MESSAGE
    assert handing.words("a\nb\0c" + "x" * 999) == "a b c" + "x" * 507


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda each: json.dumps(each).encode()))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    for kind in (Statement, Offer):
        try:
            found = handing.decode(kind, data)
        except HandingError:
            continue
        assert handing.decode(kind, handing.encode(found)) == found


@settings(max_examples=60, deadline=None)
@given(FIELDS)
def test_fields_are_what_they_should_be_or_refused(fields: dict[str, object]) -> None:
    try:
        found = handing.decode(Statement, json.dumps(fields).encode())
    except HandingError:
        return
    for name, value in fields.items():
        assert getattr(found, name) == value
    assert handing.decode(Statement, handing.encode(found)) == found


def test_more_descriptors_than_anybody_would_send_are_closed() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = len(os.listdir("/proc/self/fd"))
    with one, other:
        handing.send(one, STATEMENT, [0] * 100)
        with pytest.raises(HandingError, match="too many"):
            handing.receive_with_descriptors(other)
        assert len(os.listdir("/proc/self/fd")) == before
        handing.send(one, STATEMENT, [0, 1])
        data, found = handing.receive_with_descriptors(other)
        assert handing.decode(Statement, data) == STATEMENT
        assert [os.get_inheritable(each) for each in found] == [False, False]
        for each in found:
            os.close(each)
