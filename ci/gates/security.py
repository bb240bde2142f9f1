"""The security gate: is this image safe enough to publish and deliver?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import Field

from ci.clock import Clock, SystemClock
from ci.gates.findings import Findings
from ci.gates.image import Image
from ci.gates.protocol import Acceptance, Reason, fold
from ci.gates.statuses import Statuses
from ci.gates.vulnerabilities import Vulnerabilities
from ci.values import Evidence, Severity, Value, Verdict

__all__ = ["Security", "SecurityPolicy"]


class SecurityPolicy(Value):
    """What the security gate asks for."""

    #: Findings and vulnerabilities of this severity and above count.
    fail_at: Severity = Severity.HIGH
    #: Other thresholds for findings by scanner.
    thresholds: Mapping[str, Severity] = Field(default_factory=dict)
    #: Only vulnerabilities that a newer version cures count.
    fixable_only: bool = False
    #: How old a vulnerability database may be; None for any age.
    max_database_age: timedelta | None = timedelta(days=7)
    #: Whether an image that runs as root fails.
    non_root: bool = True
    #: Labels that an image must have.
    labels: tuple[str, ...] = (
        "org.opencontainers.image.title",
        "org.opencontainers.image.version",
    )
    #: Stages that must have run and passed; skipped is not enough.
    required: tuple[str, ...] = ()
    #: Stages that scan the image.
    scans: tuple[str, ...] = ("image-scan",)
    #: Stages that build it.
    builds: tuple[str, ...] = ("build",)


@dataclass(frozen=True, kw_only=True)
class Security:
    """Judges the image, its configuration, and what scanners found in it, at once."""

    name: str = "security"
    policy: SecurityPolicy = field(default_factory=SecurityPolicy)
    acceptances: tuple[Acceptance, ...] = ()
    clock: Clock = field(default_factory=SystemClock)

    def judge(self, evidence: Sequence[Evidence]) -> Verdict:
        """Passed when nothing that the policy asks for stands against it."""
        return fold(self.name, self._reasons(evidence))

    def _reasons(self, evidence: Sequence[Evidence]) -> Iterator[Reason]:
        policy = self.policy
        yield from Statuses(required=policy.required).reasons(evidence)
        yield from Image(
            labels=policy.labels, non_root=policy.non_root, builds=policy.builds
        ).reasons(evidence)
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
            scans=policy.scans,
            acceptances=self.acceptances,
            clock=self.clock,
        ).reasons(evidence)
