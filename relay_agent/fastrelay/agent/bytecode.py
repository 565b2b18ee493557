"""Programs as they are kept: instructions whose references to maps are names.

C refers to a map by ``bpf_pseudo_fd(1, MAP_<NAME>)``: an instruction of its own, ``ld_imm64``
with BPF_PSEUDO_MAP_FD, whose operand is a descriptor. The compiler is given the map's place in a
list instead; which descriptor it is says who loads the program.

Source: RFC 9669, 5.4; ``Documentation/bpf/linux-notes.rst``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

INSTRUCTION_SIZE = 8
_INSTRUCTION = Struct("<BBhi")
_LD_IMM64 = 0x18
"""Takes the room of two instructions."""
_MAP_FD = 1
_OPERAND_AT = 4


class BytecodeError(ValueError):
    """These are no programs that could be kept, or none that were."""


@dataclass(frozen=True, slots=True)
class Program:
    """``maps``: the index of each instruction that refers to a map, and the map's name."""

    instructions: bytes
    maps: tuple[tuple[int, str], ...]

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Instructions for the kernel.

        :raises KeyError: a map that it refers to is not among them.
        """
        code = bytearray(self.instructions)
        for index, name in self.maps:
            at = index * INSTRUCTION_SIZE + _OPERAND_AT
            code[at : at + 4] = descriptors[name].to_bytes(4, "little")
        return bytes(code)


def places(names: Sequence[str]) -> list[str]:
    """What tells the compiler the places of maps in the list."""
    return [f"-DMAP_{name.upper()}={place}" for place, name in enumerate(names)]


def symbolic(code: bytes, names: Sequence[str]) -> Program:
    """From what was compiled with :func:`places`.

    :raises BytecodeError: it refers to something else than these maps.
    """
    if len(code) % INSTRUCTION_SIZE:
        raise BytecodeError(f"{len(code)} bytes are no whole number of instructions")
    kept, maps, index = bytearray(code), [], 0
    while index * INSTRUCTION_SIZE < len(code):
        at = index * INSTRUCTION_SIZE
        opcode, registers, _, operand = _INSTRUCTION.unpack_from(code, at)
        if opcode == _LD_IMM64 and (kind := registers >> 4):
            if kind != _MAP_FD or not 0 <= operand < len(names):
                raise BytecodeError(f"instruction {index} refers to something that is no map")
            maps.append((index, names[operand]))
            kept[at + _OPERAND_AT : at + INSTRUCTION_SIZE] = bytes(4)
        index += 2 if opcode == _LD_IMM64 else 1
    if index * INSTRUCTION_SIZE > len(code):
        raise BytecodeError("the last instruction lacks its second half")
    return Program(bytes(kept), tuple(maps))


def encode(programs: Mapping[str, Program]) -> bytes:
    return json.dumps(
        {
            name: {"instructions": program.instructions.hex(), "maps": program.maps}
            for name, program in programs.items()
        }
    ).encode()


def decode(content: bytes) -> dict[str, Program]:
    """:raises BytecodeError: :func:`encode` has not written this."""
    try:
        return {
            name: _checked(bytes.fromhex(each["instructions"]), each["maps"])
            for name, each in json.loads(content).items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BytecodeError(f"no programs: {error}") from error


def _checked(instructions: bytes, maps: Sequence[tuple[int, str]]) -> Program:
    for index, name in maps:
        if not (isinstance(index, int) and isinstance(name, str)):
            raise BytecodeError("neither an index nor a name")
        if not 0 <= index * INSTRUCTION_SIZE <= len(instructions) - 2 * INSTRUCTION_SIZE:
            raise BytecodeError(f"there is no instruction {index}")
    return Program(instructions, tuple((index, name) for index, name in maps))
