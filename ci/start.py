"""The program ``ci``: imports what the command needs, and no more."""

from __future__ import annotations

import gc
import sys
from importlib.metadata import version

__all__ = ["main"]

#: Objects made and kept between two looks for garbage; Python's own 700 is for small programs.
_ALLOCATIONS = 20_000


def main() -> None:
    """Run the command line; see ``ci.cli``."""
    tokens = sys.argv[1:]
    if tokens == ["--version"]:
        print(version("towpath"))  # noqa: T201 - needs nothing of the rest
        return
    # What is imported stays: to look through it for garbage, again and again, takes a tenth.
    gc.disable()
    if tokens[:1] != ["engine"]:
        from ci import sdk  # noqa: PLC0415 - as the rest

        sdk.import_quickly()
    from ci import cli  # noqa: PLC0415 - as the rest

    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    cli.main(tokens)
