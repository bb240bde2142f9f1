"""Signs for how a node ended, so that colour is never alone in telling it."""

from __future__ import annotations

from ci.values import Status

__all__ = ["MARKS"]

MARKS = {
    Status.PASSED: "✓",
    Status.FAILED: "✗",
    Status.ERRORED: "!",
    Status.SKIPPED: "-",
    Status.CANCELLED: "⊘",
}
