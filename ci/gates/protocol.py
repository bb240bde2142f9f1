"""What a gate is, and how several reasons or verdicts become one: the worst wins.

Outcomes from best to worst are passed, inconclusive, failed, errored. Nothing to judge is not a
pass: it is inconclusive.

How gates read the status of evidence:

- errored: the tool or the machine was at fault, so nothing is known: errored.
- cancelled: the stage never ran to its end, because of something that has evidence of its own:
  inconclusive.
- skipped: it does not apply here; noted, and neither a pass nor a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ci.values import Evidence, Finding, Outcome, Status, Verdict

__all__ = ["Acceptance", "AllOf", "AnyOf", "Gate", "Reason", "fold", "unusable", "worst"]

_BADNESS = {outcome: position for position, outcome in enumerate(Outcome)}


class Gate(Protocol):
    """Judges evidence by a policy. Pure: the same evidence in any order gives the same verdict."""

    @property
    def name(self) -> str:
        """What the verdict is called."""
        ...

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """The verdict on all of it; adding worse evidence never improves it."""
        ...


class Acceptance(Protocol):
    """Marks findings that are accepted (``Finding.waived``): waivers, a baseline."""

    def __call__(self, findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """The same findings in the same order, some marked; and notes that a person should see."""
        ...


class Reason(NamedTuple):
    """One sentence of a verdict, and how it weighs; None is a note, which does not."""

    outcome: Outcome | None
    text: str


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of them; inconclusive where there is none."""
    return max(outcomes, key=_BADNESS.__getitem__, default=Outcome.INCONCLUSIVE)


def fold(gate: str, reasons: Iterable[Reason]) -> Verdict:
    """One verdict from all reasons.

    A passed verdict tells why it passed; any other tells only what stands against it, worst first.
    Notes stand last in either.
    """
    unique = sorted(set(reasons), key=_order)
    judged = [reason for reason in unique if reason.outcome is not None]
    if not judged:
        judged = [Reason(Outcome.INCONCLUSIVE, "nothing to judge")]
    outcome = worst(reason.outcome for reason in judged if reason.outcome is not None)
    told = [
        reason.text
        for reason in judged
        if outcome == Outcome.PASSED or reason.outcome != Outcome.PASSED
    ]
    notes = [reason.text for reason in unique if reason.outcome is None]
    return Verdict(gate=gate, outcome=outcome, reasons=tuple(dict.fromkeys((*told, *notes))))


def _order(reason: Reason) -> tuple[int, str]:
    return (-_BADNESS[reason.outcome] if reason.outcome else 0, reason.text)


def unusable(evidence: Evidence) -> Reason | None:
    """Why this evidence tells nothing about the code; None where it does."""
    summary = " ".join(evidence.summary.split()) or "no reason given"
    match evidence.status:
        case Status.ERRORED:
            return Reason(Outcome.ERRORED, f"{evidence.stage}: errored: {summary}")
        case Status.CANCELLED:
            return Reason(Outcome.INCONCLUSIVE, f"{evidence.stage}: cancelled: {summary}")
        case Status.SKIPPED:
            return Reason(None, f"{evidence.stage}: skipped: {summary}")
        case _:
            return None


@dataclass(frozen=True)
class AllOf:
    """Passes when every gate passes; of no gates, it is inconclusive."""

    name: str
    gates: tuple[Gate, ...]

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """The worst verdict, with the reasons of all that did not pass (or of all that did)."""
        return _combined(self.name, [gate.judge(evidence) for gate in self.gates])


@dataclass(frozen=True)
class AnyOf:
    """Passes when one gate passes; of no gates, it is inconclusive."""

    name: str
    gates: tuple[Gate, ...]

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """The best verdict, with the reasons of those that gave it."""
        verdicts = [gate.judge(evidence) for gate in self.gates]
        best = _best(verdict.outcome for verdict in verdicts)
        return _combined(self.name, [v for v in verdicts if v.outcome == best])


def _best(outcomes: Iterable[Outcome]) -> Outcome:
    return min(outcomes, key=_BADNESS.__getitem__, default=Outcome.INCONCLUSIVE)


def _combined(name: str, verdicts: Sequence[Verdict]) -> Verdict:
    return fold(name, (Reason(v.outcome, text) for v in verdicts for text in _texts(v)))


def _texts(verdict: Verdict) -> tuple[str, ...]:
    return verdict.reasons or (f"{verdict.gate}: {verdict.outcome}",)
