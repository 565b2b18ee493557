"""Header lists, capsules and error codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.quic.http import (
    CLOSE_SESSION,
    DRAIN_SESSION,
    CapsuleReader,
    code_from_http,
    code_to_http,
    decode_close,
    encode_capsule,
    encode_close,
    format_list,
    parse_list,
)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ('"moqt-18", "moqt-16"', ["moqt-18", "moqt-16"]),
        ('"moqt-18"', ["moqt-18"]),
        ('  "moqt-lite-03" ;q=1;x ,"moqt-18"', ["moqt-lite-03", "moqt-18"]),
        ("moqt-18, moqt-22", ["moqt-18", "moqt-22"]),
        (r'"a\"b\\c"', ['a"b\\c']),
        ("", []),
        ('"unfinished', []),
        ('"a" "b"', []),
        (", ,", []),
    ],
)
def test_lists(text: str, members: list[str]) -> None:
    assert parse_list(text) == members


def test_formatted_lists_are_parsed_back() -> None:
    names = ["moqt-18", "moqt-22", "moqt-16"]
    assert parse_list(format_list(names)) == names


@given(st.text(max_size=60))
def test_any_text_is_a_list_or_nothing(text: str) -> None:
    assert all(isinstance(member, str) for member in parse_list(text))


@given(st.integers(0, 2**32 - 1))
def test_codes_survive(code: int) -> None:
    assert code_from_http(code_to_http(code)) == code
    assert (code_to_http(code) - 0x21) % 0x1F != 0


@pytest.mark.parametrize(
    ("code", "http"), [(0, 0x52E4A40FA8DB), (0x1E, 0x52E4A40FA8FA), (2**32 - 1, 0x52E5AC983162)]
)
def test_codes_of_the_draft(code: int, http: int) -> None:
    assert code_to_http(code) == http


@pytest.mark.parametrize("code", [0, 0x100, 0x52E4A40FA8DA, 0x52E4A40FA8F9, 0x52E5AC983163])
def test_foreign_codes(code: int) -> None:
    assert code_from_http(code) is None


@given(st.integers(0, 2**32 - 1), st.text(max_size=2000))
def test_close_survives(code: int, reason: str) -> None:
    (capsule,) = CapsuleReader().feed(encode_close(code, reason))
    assert capsule[0] == CLOSE_SESSION
    decoded, text = decode_close(capsule[1])
    assert decoded == code
    assert reason.encode(errors="replace").startswith(text.encode())
    assert len(text.encode()) > 1020 or text == reason


@pytest.mark.parametrize("content", [b"", b"123", bytes(4 + 1025)])
def test_close_of_a_wrong_length(content: bytes) -> None:
    with pytest.raises(ValueError, match="length"):
        decode_close(content)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([DRAIN_SESSION, CLOSE_SESSION, 0, 0x1234]), st.binary(max_size=70)
        )
    ),
    st.integers(1, 9),
)
def test_capsules_in_pieces(capsules: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(encode_capsule(kind, content) for kind, content in capsules)
    reader = CapsuleReader()
    read = [c for i in range(0, len(data), step) for c in reader.feed(data[i : i + step])]
    assert read == [c for c in capsules if c[0] in (DRAIN_SESSION, CLOSE_SESSION)]


def test_large_unknown_capsules_are_not_kept() -> None:
    reader = CapsuleReader()
    assert reader.feed(encode_capsule(0x99, bytes(100_000))[:50_000]) == []
    rest = 6 + 100_000 - 50_000  # the header takes six bytes
    assert reader.feed(bytes(rest) + encode_capsule(DRAIN_SESSION)) == [(DRAIN_SESSION, b"")]
    with pytest.raises(ValueError, match="large"):
        CapsuleReader().feed(encode_capsule(CLOSE_SESSION, bytes(5000))[:10])
