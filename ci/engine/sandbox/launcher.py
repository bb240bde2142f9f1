"""A program of a few hundred bytes that runs in the sandbox just before the command.

bubblewrap cannot become another user without a user namespace of its own, and an image need not
have ``su`` or ``setpriv``. So the sandbox starts this static program from a descriptor: it makes
the system calls of a table (``confinement.py``), and executes the first candidate of a list that
was made from the container's PATH. It ends with 127 when there is none, 126 when one cannot be
executed, 125 when a call of the table fails, each with a message.

The code is assembled from ``launcher-x86_64.s`` and ``launcher-aarch64.s`` beside this file; a test
assembles them again where an assembler is at hand.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "CODE",
    "Call",
    "Table",
    "candidates",
    "image",
    "open_launcher",
    "sealed_program",
    "table",
]

#: Machine (as ``uname -m`` says) to position-independent code, which the data follows.
CODE = {
    "x86_64": bytes.fromhex(
    "4c8b24244c8d6c24104e8d74e410488d2dbb0000004531ff488b5d00488b034885c0783f488b7b20488b7328"
    "488b53304c8b53384c8b43404c8b4b480f05483d01f0ffff721748837b0800751041bc7d000000488b731048"
    "8b5318eb5d4883c350ebb9488b5d08803b00742b4889df4c89ee4c89f2b83b0000000f0583f8fe740b83f8ec"
    "740641bf0100000048ffc3807bff0075f7ebd04585ff751041bc7f000000488b7510488b5518eb0e41bc7e00"
    "0000488b7520488b5528bf02000000b8010000000f054489e7b8e70000000f05"
    ),
    "aarch64": bytes.fromhex(
    "f40340f9f5430091b60e148bf705001018008052f90240f9280340f9c801f8b7200742a9220f43a9241744a9"
    "010000d41ffc3fb1c3000054200740f9800000b5ba0f8052210b41a91900001439430191f2ffff17f90640f9"
    "20034039c0010034e00319aae10315aae20316aaa81b80d2010000d41f080031800000541f50003140000054"
    "3800805220174038e0ffff35f2ffff1798000035fa0f8052e10a41a903000014da0f8052e10a42a9400080d2"
    "080880d2010000d4e0031a2ac80b80d2010000d41f2003d5"
    ),
}  # fmt: skip

_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
_BASE = 0x400000
#: The file's header and that of its segment.
_ELF_SIZE = 64 + 56
#: Table, candidates, and two messages with their lengths.
_HEADER = struct.Struct("<6Q")
#: Number, whether it may fail, message, its length, arguments.
_CALL = struct.Struct("<qQQQ6Q")
_END = _CALL.pack(-1, *[0] * 9)
_MFD_EXEC = 0x10
_F_SEAL_EXEC = 0x20


@dataclass(frozen=True, kw_only=True)
class Call:
    """A system call that the launcher makes."""

    number: int
    #: What is no number is put into memory, and its address is the argument: bytes as they are,
    #: of a tuple the first with the address of the second at its end.
    args: tuple[int | bytes | tuple[bytes, bytes], ...] = ()
    #: What cannot be done where it fails; empty: it may fail.
    purpose: str = ""


def candidates(command: str, path: str) -> list[str]:
    """The files that ``command`` may mean, as execvp(3) looks for them."""
    if "/" in command:
        return [command]
    return [f"{folder or '.'}/{command}" for folder in path.split(":")]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Calls in the launcher's own form: what lies in memory behind its header."""

    content: bytes
    #: Address of the first call.
    entry: int


def table(machine: str, calls: Sequence[Call]) -> Table:
    """The calls, for the launcher of that kind of machine."""
    memory = _Memory(_memory_start(machine))
    lines = b"".join(_pack(call, memory) for call in calls) + _END
    entry = memory.add(lines)
    return Table(content=bytes(memory.content), entry=entry)


def _memory_start(machine: str) -> int:
    return _BASE + _ELF_SIZE + len(CODE[machine]) + _HEADER.size


def image(machine: str, command: str, *, path: str, calls: Table, workdir: str = "/") -> bytes:
    """The whole ELF program for one command, which makes the calls first."""
    not_found = (
        f"towpath: command not found: {command!r} (or its interpreter); "
        + (f"workdir {workdir!r}" if "/" in command else f"PATH is {path!r}")
        + "\n"
    ).encode(errors="surrogateescape")
    refused = f"towpath: cannot execute {command!r}: no permission, or no program\n".encode(
        errors="surrogateescape"
    )
    listing = b"".join(os.fsencode(item) + b"\0" for item in candidates(command, path)) + b"\0"
    memory = _Memory(_memory_start(machine), calls.content)
    header = _HEADER.pack(
        calls.entry, memory.add(listing),
        memory.add(not_found), len(not_found), memory.add(refused), len(refused),
    )  # fmt: skip
    return _elf(machine, CODE[machine] + header + memory.content)


class _Memory:
    """What lies behind the code: the launcher is at a fixed address, so places are known."""

    def __init__(self, start: int, content: bytes = b"") -> None:
        self._start = start
        self.content = bytearray(content)

    def add(self, content: bytes) -> int:
        """Its address, which is aligned for any number in it."""
        self.content += bytes(-(self._start + len(self.content)) % 8)
        address = self._start + len(self.content)
        self.content += content
        return address


def _pack(call: Call, memory: _Memory) -> bytes:
    """A line of the table."""
    message = f"towpath: cannot {call.purpose}\n".encode() if call.purpose else b""
    args = [_argument(arg, memory) for arg in call.args]
    args += [0] * (6 - len(args))
    return _CALL.pack(call.number, int(not message), memory.add(message), len(message), *args)


def _argument(value: int | bytes | tuple[bytes, bytes], memory: _Memory) -> int:
    match value:
        case int():
            return value & 0xFFFF_FFFF_FFFF_FFFF
        case bytes():
            return memory.add(value)
        case (head, content):
            return memory.add(head + struct.pack("<Q", memory.add(content)))


def _elf(machine: str, body: bytes) -> bytes:
    """A static executable of one segment, readable and executable."""
    size = _ELF_SIZE + len(body)
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, _ELF_MACHINE[machine], 1, _BASE + _ELF_SIZE, 64, 0, 0,
                        64, 56, 1, 64, 0, 0)  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return head + segment + body


def open_launcher(
    machine: str, command: str, *, path: str, calls: Table, workdir: str = "/"
) -> int:
    """An open descriptor of the program. The caller closes it."""
    fd = _open_program("towpath-launcher")
    os.write(fd, image(machine, command, path=path, calls=calls, workdir=workdir))
    return fd


def sealed_program(name: str, content: bytes) -> int:
    """An open descriptor of a program in memory that nobody can change. The caller closes it."""
    fd = _open_program(name, sealable=True)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | _F_SEAL_EXEC)
    except OSError:  # Linux before 6.3 knows no seal of the mode
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _open_program(name: str, *, sealable: bool = False) -> int:
    """An empty file in memory that may be executed once it is filled."""
    flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0)
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:  # Linux before 6.3 knows no other
        return os.memfd_create(name, flags)
