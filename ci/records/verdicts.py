"""The reasons of a verdict as a person wants them: what stopped it first, like ones together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ci.values import Outcome, Verdict

__all__ = ["Point", "points", "reasons_told", "together"]

_SKIPPED = "skipped: "


def reasons_told(verdict: Verdict) -> list[str]:
    """Why it did not pass; nothing where it did.

    Where something stands against it, what was skipped is only named: the nodes say why.
    """
    if verdict.outcome is Outcome.PASSED:
        return []
    parts = [(reason, *reason.partition(": ")[::2]) for reason in verdict.reasons]
    skipped = [stage for _, stage, said in parts if said.startswith(_SKIPPED)]
    against = [reason for reason, _, said in parts if not said.startswith(_SKIPPED)]
    if verdict.outcome is Outcome.INCONCLUSIVE or not against:
        return together(verdict.reasons)
    return together(against) + ([f"skipped: {', '.join(skipped)}"] if skipped else [])


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a gate says of one stage, or of several of which it says the same."""

    #: Empty where it is about none of them.
    stage: str
    said: tuple[str, ...]


def points(verdict: Verdict, stages: Iterable[str]) -> list[Point]:
    """The reasons by the stage that they are about, in their order; of a pass, too."""
    known = set(stages)
    found: dict[str, list[str]] = {}
    for reason in reasons_told(verdict) or verdict.reasons:
        names, colon, said = reason.partition(": ")
        about = bool(colon) and known.issuperset(names.split(", "))
        found.setdefault(names if about else "", []).append(said if about else reason)
    return [Point(stage=stage, said=tuple(said)) for stage, said in found.items()]


def together(reasons: Iterable[str]) -> list[str]:
    """``scan: cancelled: X`` and ``build: cancelled: X`` as one: ``scan, build: cancelled: X``."""
    stages: dict[str, list[str]] = {}
    for reason in reasons:
        stage, colon, said = reason.partition(": ")
        stages.setdefault(said if colon else reason, []).extend([stage] if colon else [])
    return [": ".join(filter(None, (", ".join(names), said))) for said, names in stages.items()]
