"""The reasons of a verdict as a person wants them: what stopped it first, like ones together."""

from __future__ import annotations

from collections.abc import Iterable

from ci.values import Outcome, Verdict

__all__ = ["reasons_told", "together"]

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


def together(reasons: Iterable[str]) -> list[str]:
    """``scan: cancelled: X`` and ``build: cancelled: X`` as one: ``scan, build: cancelled: X``."""
    stages: dict[str, list[str]] = {}
    for reason in reasons:
        stage, colon, said = reason.partition(": ")
        stages.setdefault(said if colon else reason, []).extend([stage] if colon else [])
    return [": ".join(filter(None, (", ".join(names), said))) for said, names in stages.items()]
