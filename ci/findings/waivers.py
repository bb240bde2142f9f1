"""Waivers: findings that someone accepts, for a reason and until a date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from ci.clock import Clock, SystemClock
from ci.values import Finding, Value

__all__ = ["Waiver", "Waivers"]


class Waiver(Value):
    """Accepts the findings that match every field given; one field at least is needed."""

    rule: str = ""
    fingerprint: str = ""
    package: str = ""
    #: Narrows the others: a glob over the file's path, ``tests/*`` ("*" crosses folders).
    path: str = ""
    #: Why it is accepted; shown wherever the finding is.
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    #: The last day on which it counts, in UTC.
    expires: date

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not (self.rule or self.fingerprint or self.package):
            msg = "a waiver needs a rule, a fingerprint or a package"
            raise ValueError(msg)
        return self

    def matches(self, finding: Finding) -> bool:
        """Whether it is about this finding; the date is not looked at."""
        path = finding.place.path if finding.place else ""
        package = finding.package.name if finding.package else ""
        return (
            self.rule in {"", finding.rule}
            and self.fingerprint in {"", finding.fingerprint}
            and self.package in {"", package}
            and (not self.path or fnmatchcase(path, self.path))
        )

    @property
    def subject(self) -> str:
        """What it is about, in the words of its author."""
        named = (self.rule, self.package, self.fingerprint, self.path)
        return " ".join(part for part in named if part)


class Waivers:
    """Several waivers, by a clock. A gate takes it as an acceptance (``ci.gates``)."""

    def __init__(self, waivers: Sequence[Waiver], *, clock: Clock | None = None) -> None:
        self._waivers = tuple(waivers)
        self._clock = clock or SystemClock()

    def __call__(self, findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """The findings, waived ones marked with the reason; and a note for each expired waiver.

        An expired waiver accepts nothing, and its note says so where it would have.
        """
        today = self._clock.now().date()
        current = [waiver for waiver in self._waivers if today <= waiver.expires]
        expired = [waiver for waiver in self._waivers if today > waiver.expires]
        marked = tuple(_marked(finding, current) for finding in findings)
        notes = tuple(
            f"the waiver for {waiver.subject} expired on {waiver.expires} ({waiver.reason}): "
            "renew it or cure the finding"
            for waiver in expired
            if any(waiver.matches(finding) and not finding.waived for finding in marked)
        )
        return marked, notes


def _marked(finding: Finding, waivers: Sequence[Waiver]) -> Finding:
    match = next((waiver for waiver in waivers if waiver.matches(finding)), None)
    if finding.waived or match is None:
        return finding
    return finding.model_copy(update={"waived": f"{match.reason} (until {match.expires})"})
