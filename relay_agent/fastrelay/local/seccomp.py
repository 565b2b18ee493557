"""Refuses bpf(2) to this process and to all that it becomes: with EPERM, as the default profiles
of container runtimes do to whoever has no capability."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_BPF = {"x86_64": (0xC000003E, 321), "aarch64": (0xC00000B7, 280)}
"""AUDIT_ARCH_* (linux/audit.h) and the call's number."""
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
"""Where they are in struct seccomp_data."""
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_libc = ctypes.CDLL(None, use_errno=True)


def refuse_bpf() -> None:
    """:raises OSError: the kernel has no such filters, or the machine's type is not known."""
    if platform.machine() not in _BPF:
        raise OSError(
            errno.ENOSYS, f"bpf(2) is not known for machines of type {platform.machine()}"
        )
    architecture, number = _BPF[platform.machine()]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 2, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 1, 0, number),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
    ]
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(program, len(program)))


def _prctl(option: int, value: int, pointer: ctypes.Array[ctypes.c_char] | None = None) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), pointer, None, None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl")
