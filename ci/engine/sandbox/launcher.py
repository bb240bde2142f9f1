"""A program of a few hundred bytes that runs in the sandbox just before the command.

bubblewrap cannot become another user without a user namespace of its own, and an image need not
have ``su`` or ``setpriv``. So the sandbox starts this static program from a descriptor: it closes
what it inherited, becomes the user, and executes the first candidate of a list that was made from
the container's PATH. It ends with 127 when there is none, 126 when one cannot be executed, 125
when the user cannot be had, each with a message.

The code is assembled from ``launcher-x86_64.s`` and ``launcher-aarch64.s`` beside this file; a test
assembles them again where an assembler is at hand.
"""

from __future__ import annotations

import os
import platform
import struct
from dataclasses import dataclass

from ci.errors import CiError

__all__ = ["CODE", "Identity", "candidates", "image", "open_launcher"]

#: Machine (as ``uname -m`` says) to position-independent code, which the data follows.
CODE = {
    "x86_64": bytes.fromhex(
    "4c8b24244c8d6c24104e8d74e410488d2dd30000004531ffbf03000000beffffffff31d2b8b40100000f0583"
    "7d000074388b7d0c8b75104801eeb8740000000f0585c0757b8b7d0889fe89fab8770000000f0585c075698b"
    "7d0489fe89fab8750000000f0585c075578b5d2c4801eb803b00742b4889df4c89ee4c89f2b83b0000000f05"
    "83f8fe740b83f8ec740641bf0100000048ffc3807bff0075f7ebd04585ff750e41bc7f0000008b75148b5518"
    "eb1a41bc7e0000008b751c8b5520eb0c41bc7d0000008b75248b55284801eebf02000000b8010000000f0544"
    "89e7b8e70000000f050f1f00"
    ),
    "aarch64": bytes.fromhex(
    "f40340f9f5430091b60e148bf707001018008052600080d201008012020080d2883680d2010000d4e00240b9"
    "60020034e00e40b9e11240b92100178be81380d2010000d4e0040035e00a40b9e103002ae203002aa81280d2"
    "010000d420040035e00640b9e103002ae203002a681280d2010000d460030035f92e40b93903178b20034039"
    "c0010034e00319aae10315aae20316aaa81b80d2010000d41f080031800000541f5000314000005438008052"
    "20174038e0ffff35f2ffff17b8000035fa0f8052e11640b9e21a40b908000014da0f8052e11e40b9e22240b9"
    "04000014ba0f8052e12640b9e22a40b92100178b400080d2080880d2010000d4e0031a2ac80b80d2010000d4"
    ),
}  # fmt: skip

_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
_BASE = 0x400000
_HEADER = struct.Struct("<12I")
_MFD_EXEC = 0x10


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a command runs as, in numbers."""

    uid: int = 0
    gid: int = 0
    #: Supplementary groups.
    groups: tuple[int, ...] = ()


def candidates(command: str, path: str) -> list[str]:
    """The files that ``command`` may mean, as execvp(3) looks for them."""
    if "/" in command:
        return [command]
    return [f"{folder or '.'}/{command}" for folder in path.split(":")]


def image(
    machine: str, command: str, *, path: str, switch_to: Identity | None, workdir: str = "/"
) -> bytes:
    """The whole ELF program for one command. ``switch_to`` None stays who it is."""
    identity = switch_to or Identity()
    groups = struct.pack(f"<{len(identity.groups)}I", *identity.groups)
    not_found = (
        f"towpath: command not found: {command!r} (or its interpreter); "
        + (f"workdir {workdir!r}" if "/" in command else f"PATH is {path!r}")
        + "\n"
    ).encode(errors="surrogateescape")
    refused = f"towpath: cannot execute {command!r}: no permission, or no program\n".encode(
        errors="surrogateescape"
    )
    unswitched = f"towpath: cannot become uid {identity.uid}, gid {identity.gid}\n".encode()
    listing = b"".join(os.fsencode(item) + b"\0" for item in candidates(command, path)) + b"\0"
    at = _HEADER.size
    offsets = []
    for part in (groups, not_found, refused, unswitched, listing):
        offsets.append(at)
        at += len(part)
    header = _HEADER.pack(
        int(switch_to is not None), identity.uid, identity.gid, len(identity.groups),
        offsets[0], offsets[1], len(not_found), offsets[2], len(refused),
        offsets[3], len(unswitched), offsets[4],
    )  # fmt: skip
    body = CODE[machine] + header + groups + not_found + refused + unswitched + listing
    return _elf(machine, body)


def _elf(machine: str, body: bytes) -> bytes:
    """A static executable of one segment, readable and executable."""
    start = 64 + 56
    size = start + len(body)
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, _ELF_MACHINE[machine], 1, _BASE + start, 64, 0, 0,
                        64, 56, 1, 64, 0, 0)  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return head + segment + body


def open_launcher(
    command: str, *, path: str, switch_to: Identity | None, workdir: str = "/"
) -> int:
    """An open descriptor of the program, for this machine. The caller closes it.

    Raises:
        CiError: there is no launcher for this kind of machine.
    """
    machine = platform.machine()
    if machine not in CODE:
        raise CiError(
            "sandbox", got=f"a machine of kind {machine!r}", expected=" or ".join(sorted(CODE))
        )
    try:
        fd = os.memfd_create("towpath-launcher", os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:
        fd = os.memfd_create("towpath-launcher", os.MFD_CLOEXEC)
    os.write(fd, image(machine, command, path=path, switch_to=switch_to, workdir=workdir))
    return fd
