"""Tests ran, and all of them passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.gates.protocol import Reason, fold, unusable
from ci.values import Evidence, Outcome, Status, TestCase, Verdict

__all__ = ["Tests"]


@dataclass(frozen=True, kw_only=True)
class Tests:
    """Judges what test stages counted."""

    __test__ = False

    name: str = "tests"
    #: How many failing tests are named.
    shown: int = 10

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when tests ran and none failed; inconclusive when none ran."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each stage's counts and one for each failing test, as far as shown."""
        ran = False
        for item in evidence:
            if item.tests is None:
                continue
            if reason := unusable(item):
                yield reason
                continue
            ran = True
            yield from self._reasons(item)
        if not ran:
            yield Reason(Outcome.INCONCLUSIVE, "tests: none ran")

    def _reasons(self, item: Evidence) -> Iterator[Reason]:
        if item.tests is None:
            return
        counts = item.tests.counts
        if counts.total == counts.skipped:
            text = (
                f"{item.stage}: {counts.skipped} tests, all skipped"
                if counts.total
                else (f"{item.stage}: no tests were collected")
            )
            yield Reason(Outcome.INCONCLUSIVE, text)
        elif not counts.failed and not counts.errored:
            skipped = f", {counts.skipped} skipped" if counts.skipped else ""
            yield Reason(Outcome.PASSED, f"{item.stage}: {counts.passed} tests passed{skipped}")
        for status, outcome, count in (
            (Status.ERRORED, Outcome.ERRORED, counts.errored),
            (Status.FAILED, Outcome.FAILED, counts.failed),
        ):
            if count:
                yield Reason(outcome, f"{item.stage}: {count} of {counts.total} tests {status}")
            for case in [c for c in item.tests.cases if c.status == status][: self.shown]:
                yield Reason(outcome, f"{item.stage}: {_sentence(case)}")


def _sentence(case: TestCase) -> str:
    name = f"{case.suite}::{case.name}" if case.suite else case.name
    first = case.message.strip().split("\n", 1)[0]
    return f"{name} {case.status}: {first}" if first else f"{name} {case.status}"
