"""The seccomp filter of a sandbox: what Docker's default profile refuses, and one pretence.

Docker lists what is allowed; what is left of the kernel's table is about sixty calls that reach
past a container: mounts, namespaces, modules, keys, clocks, other processes' memory. They are
refused with EPERM here too, with the capabilities that Docker gives. A call that is newer than
this file is answered with ENOSYS, as by a kernel that has not got it, so that programs fall back.

In a user namespace with one uid every file is its owner's, and chown to another fails with EINVAL,
which stops apt, tar and install. There, changes of ownership and setgroups report success and do
nothing. set*uid is not touched: ``su`` would silently stay root. A program that must not be root,
such as PostgreSQL, can unshare a user namespace there: nothing else makes it another user.

Sources: docs.docker.com/engine/security/seccomp, and the kernel's seccomp_filter.rst.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

from ci.engine.sandbox.syscalls import FILTERED

__all__ = ["filter_program"]

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_BITS = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_PRETEND = _ERRNO  # with errno 0: the call is not made and returns 0
_REFUSE = _ERRNO | errno.EPERM
_UNKNOWN = _ERRNO | errno.ENOSYS
#: In struct seccomp_data.
_AT_NUMBER, _AT_ARCH, _AT_FIRST_ARGUMENT = 0, 4, 16

#: AUDIT_ARCH values that a machine's programs call with, and the column of FILTERED for each.
_ARCHES = {"x86_64": ((0xC000003E, 0), (0x40000003, 1)), "aarch64": ((0xC00000B7, 2),)}
#: The first number that is not known here; lsm_* (459-461) are the only ones left out before it.
_NEWEST = 467
_LSM = (459, 462)

_OWNERSHIP = (
    "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32", "setgroups",
    "setgroups32",
)  # fmt: skip
#: CLONE_NEW*: mnt, cgroup, uts, ipc, user, pid, net.
_NAMESPACES = 0x7E020000
_NEW_USER, _NEW_GROUPS = 0x10000000, 0x02000000
#: Beside unshare, what the launcher mounts with.
_MOUNTING = ("mount", "mount_setattr")
_VSOCK = 40
#: Linux, 32-bit Linux, each with uname26, and the question which one it is.
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

#: A step of the program: code, jumps where true and where false, value.
_Step = tuple[int, int, int, int]


@cache
def filter_program(
    *,
    confined: bool,
    pretend_ownership: bool,
    machine: str | None = None,
    mounting: bool = False,
) -> bytes | None:
    """The program, as sock_fprog points to it; None where there is nothing to filter.

    ``confined`` refuses what Docker's profile does; with ``mounting`` it lets pass what the
    launcher still has to do. A machine that is not known has no filter.
    """
    arches = _ARCHES.get(machine or platform.machine())
    if arches is None or not (confined or pretend_ownership):
        return None
    program: list[_Step] = [(_LOAD_WORD, 0, 0, _AT_ARCH)]
    for arch, column in arches:
        section = _section(
            column, confined=confined, pretend_ownership=pretend_ownership, mounting=mounting
        )
        # A section is longer than a jump may be: an unconditional one skips it.
        program += [(_JUMP_EQUAL, 1, 0, arch), (0x05, 0, 0, len(section)), *section]
    program.append((_RETURN, 0, 0, _UNKNOWN if confined else _ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in program)


def _section(
    column: int, *, confined: bool, pretend_ownership: bool, mounting: bool
) -> list[_Step]:
    """For one kind of program: what is done with each number."""
    special: dict[int, tuple[_Step, ...]] = {}
    for name, numbers in FILTERED.items():
        number = numbers[column]
        if number is None:
            continue
        if name in _OWNERSHIP:
            if pretend_ownership:
                special[number] = _just(_PRETEND)
        elif confined and not (mounting and name in _MOUNTING):
            special[number] = _RULES.get(name) or _just(_REFUSE)
            if name == "unshare" and (pretend_ownership or mounting):
                allowed = (_NEW_GROUPS,) if mounting else (_NEW_USER,)
                special[number] = _by_value(allowed, listed=_ALLOW, other=_REFUSE)
    starts = [(0, _just(_ALLOW))]
    for number, steps in sorted(special.items()):
        starts += [(number, steps), (number + 1, _just(_ALLOW))]
    if confined:
        starts += [(_LSM[0], _just(_UNKNOWN)), (_LSM[1], _just(_ALLOW))]
        starts.append((_NEWEST, _just(_UNKNOWN)))
    return [(_LOAD_WORD, 0, 0, _AT_NUMBER), *_search(_merged(starts))]


def _merged(starts: list[tuple[int, tuple[_Step, ...]]]) -> list[tuple[int, tuple[_Step, ...]]]:
    """Neighbours that do the same are one range; of two with one start the later holds."""
    merged: list[tuple[int, tuple[_Step, ...]]] = []
    for start, steps in sorted(dict(starts).items()):
        if not merged or merged[-1][1] != steps:
            merged.append((start, steps))
    return merged


def _search(ranges: list[tuple[int, tuple[_Step, ...]]]) -> list[_Step]:
    """A binary search among ranges that begin at those numbers."""
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return [(_JUMP_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *above]


def _just(action: int) -> tuple[_Step, ...]:
    return ((_RETURN, 0, 0, action),)


def _unless_bits(bits: int) -> tuple[_Step, ...]:
    """Allow it where the first argument has none of them."""
    return (
        (_LOAD_WORD, 0, 0, _AT_FIRST_ARGUMENT), (_JUMP_BITS, 1, 0, bits),
        (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE),
    )  # fmt: skip


def _by_value(values: tuple[int, ...], *, listed: int, other: int) -> tuple[_Step, ...]:
    """One action where the first argument is one of them, another where it is not."""
    steps: list[_Step] = [(_LOAD_WORD, 0, 0, _AT_FIRST_ARGUMENT)]
    steps += [(_JUMP_EQUAL, len(values) - place, 0, each) for place, each in enumerate(values)]
    return (*steps, (_RETURN, 0, 0, other), (_RETURN, 0, 0, listed))


_RULES = {
    "clone": _unless_bits(_NAMESPACES),
    #: Its flags are in memory, where no filter looks: programs fall back on clone.
    "clone3": _just(_UNKNOWN),
    "personality": _by_value(_PERSONALITIES, listed=_ALLOW, other=_REFUSE),
    "socket": _by_value((_VSOCK,), listed=_REFUSE, other=_ALLOW),
}
