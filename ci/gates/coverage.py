"""Enough of the code is covered by tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.gates.protocol import Reason, fold, unusable
from ci.values import Evidence, Outcome, Verdict

__all__ = ["Coverage"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Judges line and branch coverage, of each stage that measured it."""

    name: str = "coverage"
    #: Percent, 0 to 100, of lines and branches together.
    minimum: float = 80.0

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when every measurement reaches the minimum; inconclusive without one."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each measurement, or one that says that there is none."""
        measured = False
        for item in evidence:
            if item.coverage is None:
                continue
            if reason := unusable(item):
                yield reason
                continue
            measured = True
            yield self._reason(item)
        if not measured:
            text = f"coverage: not measured; {self.minimum:g} % is needed"
            yield Reason(Outcome.INCONCLUSIVE, text)

    def _reason(self, item: Evidence) -> Reason:
        coverage = item.coverage
        total = coverage.lines_total + coverage.branches_total if coverage else 0
        if coverage is None or not total:
            return Reason(Outcome.INCONCLUSIVE, f"{item.stage}: no code to cover was measured")
        covered = coverage.lines_covered + coverage.branches_covered
        # Cut, not rounded: 79.996 % is not to read as 80 %.
        shown = 10_000 * covered // total / 100
        passed = coverage.percent >= self.minimum
        relation = "of" if passed else "is below the"
        return Reason(
            Outcome.PASSED if passed else Outcome.FAILED,
            f"{item.stage}: coverage {shown:.2f} % {relation} {self.minimum:g} % needed",
        )
