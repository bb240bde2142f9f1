"""The program ``ci``: imports what the command needs, and no more."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from importlib.metadata import version

__all__ = ["main"]

#: Objects made and kept between two looks for garbage; Python's own 700 is for small programs.
_ALLOCATIONS = 20_000
#: The GNU C library's name for how many heaps threads share. Source: <malloc.h>.
_M_ARENA_MAX = -8


def main() -> None:
    """Run the command line; see ``ci.cli``."""
    tokens = sys.argv[1:]
    if tokens == ["--version"]:
        print(version("towpath"))  # noqa: T201 - needs nothing of the rest
        return
    _share_heaps()
    # What is imported stays: to look through it for garbage, again and again, takes a tenth.
    gc.disable()
    from ci import cli  # noqa: PLC0415 - as the rest

    if cli.needs_sdk(tokens):
        from ci import sdk  # noqa: PLC0415 - as the rest

        sdk.import_quickly()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    cli.main(tokens)


def _share_heaps() -> None:
    """Let all threads share two heaps: each else has its own, which keeps what it once needed."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
