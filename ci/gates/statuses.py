"""Every stage passed, or was skipped for a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci.gates.protocol import Reason, fold, unusable
from ci.values import Evidence, Outcome, Status, Verdict

__all__ = ["Statuses"]


@dataclass(frozen=True, kw_only=True)
class Statuses:
    """Judges how stages ended."""

    name: str = "statuses"
    #: Stages that must have run and passed: absent or skipped, they make it inconclusive.
    required: tuple[str, ...] = ()

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when each stage passed or was skipped, and one at least passed."""
        return fold(self.name, self.reasons(evidence))

    def reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        """One for each stage, and one for each that is required and absent."""
        for item in evidence:
            yield self._reason(item)
        for stage in sorted(set(self.required) - {item.stage for item in evidence}):
            yield Reason(Outcome.INCONCLUSIVE, f"{stage}: required, and there is no evidence of it")

    def _reason(self, item: Evidence) -> Reason:
        summary = " ".join(item.summary.split())
        reason = unusable(item)
        if reason and item.status == Status.SKIPPED:
            if item.stage in self.required:
                return Reason(Outcome.INCONCLUSIVE, f"{reason.text}, and it is required")
            if not summary:
                return Reason(Outcome.INCONCLUSIVE, f"{item.stage}: skipped without a reason")
        if reason:
            return reason
        outcome = Outcome.PASSED if item.status == Status.PASSED else Outcome.FAILED
        text = f"{item.stage}: {item.status}"
        return Reason(outcome, f"{text}: {summary}" if summary else text)
