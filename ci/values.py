"""The words of Towpath as frozen values: status, severity, finding, evidence, verdict, output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

__all__ = [
    "Coverage",
    "Database",
    "DeliveryRecord",
    "Digest",
    "Evidence",
    "Finding",
    "Image",
    "Outcome",
    "Output",
    "Package",
    "Place",
    "Release",
    "Scanner",
    "Severity",
    "Status",
    "TestCase",
    "TestCounts",
    "Tests",
    "Value",
    "Verdict",
]

T_co = TypeVar("T_co", covariant=True)

#: A content digest as OCI writes it.
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class Value(BaseModel):
    """Base of the values: frozen, and no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(StrEnum):
    """How a stage ended."""

    PASSED = "passed"
    #: The code is at fault.
    FAILED = "failed"
    #: The tool or the machine is at fault.
    ERRORED = "errored"
    #: It does not apply here, or was asked not to run.
    SKIPPED = "skipped"
    #: It never ran to its end: something it depends on did not pass, or the run was stopped.
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """What a gate says. ``worst`` of several wins; see ``ci.gates.protocol``."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ERRORED = "errored"


class Severity(StrEnum):
    """The severities of GitHub's advisories, which every scanner's are mapped to."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position from least (unknown, 0) to most severe (critical, 4)."""
        return list(Severity).index(self)


class Place(Value):
    """Where a finding is: a file relative to the source, and 1-based lines and columns."""

    path: str
    line: int | None = None
    column: int | None = None
    end_line: int | None = None


class Package(Value):
    """A package that a finding is about."""

    name: str
    version: str
    ecosystem: str = ""
    #: Versions that cure it, as the advisory names them; empty where none is known.
    fixed_versions: tuple[str, ...] = ()


class Finding(Value):
    """One normalised result of any scanner."""

    scanner: str
    rule: str
    severity: Severity
    message: str
    place: Place | None = None
    package: Package | None = None
    #: Stays the same when lines above it come or go; see ``ci.findings.fingerprint``.
    fingerprint: str
    #: A page that explains the rule or the advisory.
    url: str = ""
    #: Why it is accepted, where a waiver covers it.
    waived: str = ""


class TestCase(Value):
    """One test, as JUnit reports it. Time is in seconds."""

    __test__ = False

    suite: str
    name: str
    status: Status
    seconds: float = 0.0
    message: str = ""


class TestCounts(Value):
    """How many tests ended how. ``errored`` counts broken fixtures and collection errors."""

    __test__ = False

    passed: int = 0
    failed: int = 0
    errored: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.passed + self.failed + self.errored + self.skipped


class Tests(Value):
    """What a test stage ran: the counts, and each case that did not pass or that took long."""

    __test__ = False

    counts: TestCounts
    cases: tuple[TestCase, ...] = ()


class Coverage(Value):
    """Line and branch coverage of one test run; ``percent`` is what the gate judges."""

    lines_covered: int
    lines_total: int
    branches_covered: int = 0
    branches_total: int = 0

    @property
    def percent(self) -> float:
        """Covered lines and branches of all, 0 to 100; 0 where there is nothing to cover."""
        total = self.lines_total + self.branches_total
        return 100.0 * (self.lines_covered + self.branches_covered) / total if total else 0.0


class Database(Value):
    """The vulnerability database that a scan used."""

    source: str
    digest: str
    advisories: int | None = None
    updated_at: datetime | None = None
    #: A small one, made for demonstration: it knows a handful of advisories and no more.
    small: bool = False


class Scanner(Value):
    """Which tool looked, with what, and whether it proved in this run that it can see."""

    name: str
    version: str
    database: Database | None = None
    #: It found the planted known-bad sample in this run.
    proven: bool = False
    #: What the sample was.
    proof: str = ""


class Image(Value):
    """A built image."""

    reference: str = ""
    #: Of the OCI manifest, where it was exported or published.
    digest: str = ""
    user: str = ""
    size_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


class Evidence(Value):
    """What one stage found out."""

    stage: str
    status: Status
    #: One line that a person reads: "142 tests passed, coverage 91.3 %".
    summary: str = ""
    findings: tuple[Finding, ...] = ()
    tests: Tests | None = None
    coverage: Coverage | None = None
    image: Image | None = None
    scanners: tuple[Scanner, ...] = ()
    #: Tail of the tool's output, kept where it helps: a failure, an error.
    log: str = ""


class Verdict(Value):
    """What a gate decided, and why. ``reasons`` is never empty unless it passed."""

    gate: str
    outcome: Outcome
    reasons: tuple[str, ...] = ()


class Release(Value):
    """An image with the evidence that it passed; what a delivery takes to an environment."""

    name: str
    version: str
    digest: Digest
    commit: str = ""


class DeliveryRecord(Value):
    """One delivery of a release to an environment: a line of the ledger."""

    environment: str
    target: str = ""
    strategy: str = ""
    release: Release | None = None
    outcome: Outcome
    url: str = ""
    #: The release that answered before; None at the first delivery.
    previous: Release | None = None
    #: The environment answers with ``previous`` again.
    rolled_back: bool = False
    #: The release was there already and nothing was moved.
    unchanged: bool = False
    reason: str = ""
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None


@dataclass(frozen=True, kw_only=True)
class Output(Generic[T_co]):
    """What a stage returns: its evidence, what it made for later stages, and its report files."""

    evidence: Evidence
    #: What later stages take: a ``dagger.Container``, ``dagger.Directory``, a digest ...
    artifact: T_co | None = None
    #: File name, relative to the stage's report folder, to text: ``{"ruff.sarif": "..."}``.
    reports: Mapping[str, str] = field(default_factory=dict)
