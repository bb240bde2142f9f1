"""The quality gate: is this code good enough to build?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from ci.clock import Clock, SystemClock
from ci.gates.coverage import Coverage
from ci.gates.findings import Findings
from ci.gates.protocol import Acceptance, Reason, fold
from ci.gates.statuses import Statuses
from ci.gates.tests import Tests
from ci.gates.vulnerabilities import Vulnerabilities
from ci.values import Evidence, Severity, Value, Verdict

__all__ = ["Quality", "QualityPolicy"]


class QualityPolicy(Value):
    """What the quality gate asks for."""

    #: Percent of lines and branches that tests must cover; None to ask for no coverage.
    coverage: Annotated[float, Field(ge=0, le=100)] | None = 80.0
    #: Whether tests must have run.
    tests: bool = True
    #: Findings and vulnerabilities of this severity and above count.
    fail_at: Severity = Severity.HIGH
    #: Other thresholds for findings by scanner.
    thresholds: Mapping[str, Severity] = Field(default_factory=dict)
    #: Only vulnerabilities that a newer version cures count.
    fixable_only: bool = False
    #: How old a vulnerability database may be; None for any age.
    max_database_age: timedelta | None = timedelta(days=7)
    #: Stages that must have run and passed; skipped is not enough.
    required: tuple[str, ...] = ()
    #: Stages that scan code, configuration and history.
    scans: tuple[str, ...] = ("sast", "secrets", "dependencies", "iac", "workflows")
    #: Those of them that look for vulnerabilities, and so need a database.
    vulnerability_scans: tuple[str, ...] = ("dependencies",)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Judges stages, tests, coverage, findings and the vulnerabilities of dependencies at once."""

    name: str = "quality"
    policy: QualityPolicy = field(default_factory=QualityPolicy)
    acceptances: tuple[Acceptance, ...] = ()
    clock: Clock = field(default_factory=SystemClock)

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when nothing that the policy asks for stands against it."""
        return fold(self.name, self._reasons(evidence))

    def _reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        policy = self.policy
        yield from Statuses(required=policy.required).reasons(evidence)
        if policy.tests:
            yield from Tests().reasons(evidence)
        if policy.coverage is not None:
            yield from Coverage(minimum=policy.coverage).reasons(evidence)
        yield from Findings(
            fail_at=policy.fail_at,
            thresholds=policy.thresholds,
            scans=policy.scans,
            acceptances=self.acceptances,
        ).reasons(evidence)
        yield from Vulnerabilities(
            fail_at=policy.fail_at,
            fixable_only=policy.fixable_only,
            max_database_age=policy.max_database_age,
            scans=policy.vulnerability_scans,
            acceptances=self.acceptances,
            clock=self.clock,
        ).reasons(evidence)
