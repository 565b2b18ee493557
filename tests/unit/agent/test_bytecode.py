"""Programs as they are kept."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrelay.agent import bytecode
from fastrelay.agent.bytecode import BytecodeError, Program

NAMES = ("slots", "tracks", "programs")
EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)


def ld_imm64(kind: int, operand: int, high: int = 0) -> bytes:
    return struct.pack("<BBhi", 0x18, kind << 4 | 1, 0, operand) + struct.pack("<IHH", 0, high, 0)


def test_a_map_is_known_by_its_name():
    code = EXIT + ld_imm64(1, 2) + ld_imm64(1, 0) + EXIT
    program = bytecode.symbolic(code, NAMES)
    assert program.maps == ((1, "programs"), (3, "slots"))
    assert program.linked({"slots": 7, "programs": 1000, "tracks": 5}) == (
        EXIT + ld_imm64(1, 1000) + ld_imm64(1, 7) + EXIT
    )
    with pytest.raises(KeyError, match="programs"):
        program.linked({"slots": 7})


def test_a_number_is_no_map_whatever_it_is():
    # The second half of the first one looks like a reference itself.
    number = ld_imm64(0, 1)[:8] + ld_imm64(1, 1)[:8]
    code = number + EXIT
    assert bytecode.symbolic(code, NAMES) == Program(code, ())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (ld_imm64(1, 3), "instruction 0 refers to something that is no map"),
        (EXIT + ld_imm64(1, -1), "instruction 1 refers to something that is no map"),
        (ld_imm64(2, 0), "no map"),  # the value of a map's element
        (EXIT[:7], "no whole number"),
        (ld_imm64(0, 0)[:8], "second half"),
        (ld_imm64(1, 0)[:8], "second half"),
    ],
)
def test_what_cannot_be_kept(code, message):
    with pytest.raises(BytecodeError, match=message):
        bytecode.symbolic(code, NAMES)


def test_the_compiler_is_told_places():
    assert bytecode.places(NAMES) == ["-DMAP_SLOTS=0", "-DMAP_TRACKS=1", "-DMAP_PROGRAMS=2"]


INSTRUCTIONS = st.one_of(
    st.just(EXIT),
    st.builds(ld_imm64, st.just(1), st.integers(0, len(NAMES) - 1)),
    st.builds(ld_imm64, st.just(0), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, 65535)),
)


@given(st.dictionaries(st.text(), st.lists(INSTRUCTIONS)))
def test_written_and_read(functions):
    programs = {name: bytecode.symbolic(b"".join(code), NAMES) for name, code in functions.items()}
    assert bytecode.decode(bytecode.encode(programs)) == programs
    places = {name: place for place, name in enumerate(NAMES)}
    for name, code in functions.items():
        assert programs[name].linked(places) == b"".join(code)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("0aF", max_size=32) | st.floats(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.fixed_dictionaries({"instructions": inner, "maps": inner})
    ),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_refused(content):
    try:
        programs = bytecode.decode(content)
    except BytecodeError:
        return
    for program in programs.values():
        program.linked({name: 1 for _, name in program.maps})


def test_a_reference_outside_of_the_program_is_refused():
    content = bytecode.encode({"f": Program(EXIT * 2, ((1, "slots"),))})
    with pytest.raises(BytecodeError, match="there is no instruction 1"):
        bytecode.decode(content)
