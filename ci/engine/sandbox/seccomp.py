"""A seccomp filter that makes changes of ownership succeed without effect.

In a user namespace with one uid every file is its owner's, and chown to another fails with EINVAL,
which stops apt, tar and install. With this filter chown and setgroups report success and do
nothing. set*uid is not touched: ``su`` would silently stay root.
"""

from __future__ import annotations

import platform
import struct

__all__ = ["ownership_filter"]

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000  # with errno 0: the call is not made and returns 0
_AT_NUMBER, _AT_ARCH = 0, 4  # in struct seccomp_data

#: Machine to its AUDIT_ARCH value and the numbers of chown, fchown, lchown, fchownat, setgroups.
_CALLS = {
    "x86_64": (0xC000003E, (92, 93, 94, 260, 116)),
    "aarch64": (0xC00000B7, (55, 54, 159)),
}


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def ownership_filter(machine: str | None = None) -> bytes | None:
    """The program as ``bwrap --seccomp`` takes it; None for a kind of machine it does not know."""
    known = _CALLS.get(machine or platform.machine())
    if known is None:
        return None
    arch, calls = known
    program = _instruction(_LOAD_WORD, _AT_ARCH)
    program += _instruction(_JUMP_EQUAL, arch, 0, len(calls) + 1)
    program += _instruction(_LOAD_WORD, _AT_NUMBER)
    for place, number in enumerate(calls):
        program += _instruction(_JUMP_EQUAL, number, len(calls) - place, 0)
    return program + _instruction(_RETURN, _ALLOW) + _instruction(_RETURN, _ERRNO)
