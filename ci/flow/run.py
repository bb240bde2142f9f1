"""A run that has ended: its record, its verdict and its reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ci import exits
from ci.errors import CiError
from ci.flow.product import Product
from ci.gates.protocol import worst
from ci.records.run import RunRecord
from ci.records.summary import summarise
from ci.scheduler import End
from ci.values import Outcome, Status, Verdict

__all__ = ["NotPassedError", "Run", "exit_code_of", "judge"]

_OUTCOMES = {
    Status.PASSED: Outcome.PASSED,
    Status.FAILED: Outcome.FAILED,
    Status.ERRORED: Outcome.ERRORED,
}
_EXIT_CODES = {Outcome.PASSED: exits.PASSED, Outcome.FAILED: exits.FAILED}


class NotPassedError(CiError):
    """A run did not pass; ``run`` is all that is known of it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.exit_code = run.exit_code
        super().__init__(run.summary.rstrip())


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of a pipeline, after its end."""

    record: RunRecord
    #: The worst of the gates, and of the nodes that no gate judged.
    verdict: Verdict
    #: Path, relative to the run's folder, to text: ``{"lint/ruff.sarif": "..."}``.
    reports: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """The verdict is."""
        return self.verdict.outcome is Outcome.PASSED

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 2 errored or inconclusive."""
        return self.record.exit_code

    @property
    def summary(self) -> str:
        """The run in plain text."""
        return summarise(self.record)

    def check(self) -> Run:
        """Itself, where it passed.

        Raises:
            NotPassedError: it did not; the message is the summary.
        """
        if not self.passed:
            raise NotPassedError(self)
        return self


def exit_code_of(outcome: Outcome) -> int:
    """Passed, failed, and errored for all that says nothing about the code."""
    return _EXIT_CODES.get(outcome, exits.ERRORED)


def judge(
    pipeline: str,
    ends: Mapping[str, End[Product]],
    judges: Mapping[str, Sequence[str]],
    interrupted: str = "",
) -> Verdict:
    """The verdict of a run: the worst of its gates, and of the nodes that none of them judged.

    ``judges`` maps gates to the nodes whose evidence they take. A node that was skipped, or
    cancelled because of another, adds nothing of its own. Where nothing was judged at all, the
    run is inconclusive.
    """
    told = list(_told(ends, judges))
    if interrupted:
        told.append((Outcome.ERRORED, (interrupted,)))
    outcome = worst(one for one, _ in told)
    reasons = [text for one, texts in told if one is not Outcome.PASSED for text in texts]
    if not told:
        reasons = ["nothing ran"]
    return Verdict(gate=pipeline, outcome=outcome, reasons=tuple(dict.fromkeys(reasons)))


def _told(
    ends: Mapping[str, End[Product]], judges: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Outcome, tuple[str, ...]]]:
    judged: set[str] = set()
    for name, end in ends.items():
        verdict = end.value.verdict if end.value else None
        if verdict is not None:
            judged |= {name, *judges[name]}
            yield verdict.outcome, tuple(f"{name}: {reason}" for reason in verdict.reasons)
    for name, end in ends.items():
        outcome = _OUTCOMES.get(end.status)
        if outcome is not None and name not in judged:
            why = f": {end.reason.splitlines()[0]}" if end.reason else ""
            yield outcome, (f"{name} {end.status}{why}",)
