"""Exit codes of ``ci``, as the README's table has them."""

from __future__ import annotations

from typing import Final

__all__ = ["ERRORED", "FAILED", "INTERRUPTED", "MISUSED", "PASSED"]

PASSED: Final = 0
#: The code is at fault.
FAILED: Final = 1
#: A tool or the machine is at fault, or there was nothing to judge.
ERRORED: Final = 2
#: Wrong usage or configuration: nothing was run. As EX_USAGE of sysexits.h.
MISUSED: Final = 64
#: What a shell gives a command that SIGINT ended: 128 and the signal's number.
INTERRUPTED: Final = 130
