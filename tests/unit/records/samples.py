"""Records of runs as they really look, for the tests of records and of the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ci.records.run import (
    EngineRecord,
    ImageRecord,
    NodeKind,
    NodeRecord,
    RunRecord,
    SourceRecord,
    new_run_id,
)
from ci.values import (
    Coverage,
    Database,
    DeliveryRecord,
    Evidence,
    Finding,
    Image,
    Outcome,
    Package,
    Place,
    Release,
    Scanner,
    Severity,
    Status,
    TestCase,
    TestCounts,
    Tests,
    Verdict,
)

START = datetime(2026, 11, 24, 2, 15, 9, 120_000, tzinfo=UTC)
PYTHON = "python:3.11-slim-bookworm"
DIGEST = "sha256:" + "3f9a01c2" * 8
STAND_IN = "Debian 12 packages by mmdebstrap: no container registry can be reached"

SMALL = Database(
    source="small demonstration database",
    digest="sha256:" + "77ab" * 16,
    advisories=14,
    updated_at=START - timedelta(days=12),
    small=True,
)

RUFF = Finding(
    scanner="ruff",
    rule="S307",
    severity=Severity.HIGH,
    message="Use of possibly insecure function; consider using `ast.literal_eval`",
    place=Place(path="src/gym_api/api.py", line=42, column=12),
    fingerprint="f1",
    url="https://docs.astral.sh/ruff/rules/suspicious-eval-usage/",
)
ADVISORY = Finding(
    scanner="trivy",
    rule="CVE-2020-14343",
    severity=Severity.CRITICAL,
    message="PyYAML: incomplete fix for CVE-2020-1747 allows arbitrary code execution",
    place=Place(path="requirements.lock", line=201),
    package=Package(name="pyyaml", version="5.3.1", ecosystem="pip", fixed_versions=("5.4",)),
    fingerprint="f2",
    url="https://avd.aquasec.com/nvd/cve-2020-14343",
)
UNFIXED = Finding(
    scanner="trivy",
    rule="CVE-2024-22195",
    severity=Severity.MEDIUM,
    message="jinja2: HTML attribute injection when passing user input as keys to xmlattr",
    package=Package(name="jinja2", version="3.1.2", ecosystem="pip"),
    fingerprint="f3",
    waived="not reachable: templates are our own (until 1 Mar 2027)",
)
LOW = Finding(
    scanner="zizmor",
    rule="artipacked",
    severity=Severity.LOW,
    message="credential persistence through GitHub Actions artifacts",
    place=Place(path=".github/workflows/ci.yml", line=18),
    fingerprint="f4",
)

TRACE = """\
\x1b[31mself\x1b[0m = <httpx.AsyncClient>, slug = 'north'

    async def test_a_taken_slug_is_a_conflict(client):
        answer = await client.post("/v1/organisations", json=body)
>       assert answer.status_code == 409
E       assert 201 == 409
E        +  where 201 = <Response [201 Created]>.status_code

tests/unit/test_api.py:41: AssertionError"""


def node(
    name: str,
    *,
    at: float,
    seconds: float,
    kind: NodeKind = NodeKind.STAGE,
    status: Status = Status.PASSED,
    needs: Sequence[str] = (),
    execs: int = 2,
    cached: int = 0,
    reason: str = "",
    evidence: Evidence | None = None,
    reports: Sequence[str] = (),
) -> NodeRecord:
    """A node that ran, ``at`` so many seconds after the start."""
    began = START + timedelta(seconds=at)
    return NodeRecord(
        name=name,
        kind=kind,
        needs=tuple(needs),
        status=status,
        started_at=began,
        finished_at=began + timedelta(seconds=seconds),
        attempts=1,
        execs=execs,
        cached_execs=cached,
        reason=reason,
        evidence=evidence,
        reports=tuple(reports),
    )


def gate(
    name: str, *, at: float, needs: Sequence[str], status: Status = Status.PASSED
) -> NodeRecord:
    """A gate; it takes no time."""
    kind = NodeKind.GATE
    return node(name, at=at, seconds=0.001, kind=kind, needs=needs, execs=0, status=status)


def absent(name: str, status: Status, reason: str, kind: NodeKind = NodeKind.STAGE) -> NodeRecord:
    """A node that never began."""
    return NodeRecord(name=name, kind=kind, status=status, reason=reason)


def scan(
    stage: str,
    scanner: str,
    version: str,
    proof: str,
    *findings: Finding,
    database: Database | None = None,
) -> Evidence:
    """Evidence of a scanner that proved itself."""
    proven = Scanner(name=scanner, version=version, proven=True, proof=proof, database=database)
    return Evidence(
        stage=stage,
        status=Status.PASSED,
        summary=f"{len(findings)} findings",
        findings=findings,
        scanners=(proven,),
    )


def evidence_of_tests(stage: str, *, passed: int, failed: bool = False) -> Evidence:
    """Evidence of a test stage."""
    names = (
        "test_a_message_is_read_back",
        "test_the_migrations_can_be_read_as_sql",
        "test_a_sign_up_makes_an_organisation_with_an_owner",
        "test_messages_are_paged_without_loss_or_repetition",
    )
    cases = [
        TestCase(suite="tests.unit.test_api", name=name, status=Status.PASSED, seconds=0.8 / rank)
        for rank, name in enumerate(names, start=1)
    ]
    if failed:
        cases.append(
            TestCase(
                suite="tests.unit.test_api",
                name="test_a_taken_slug_is_a_conflict",
                status=Status.FAILED,
                seconds=0.06,
                message=TRACE,
            )
        )
    counts = TestCounts(passed=passed, failed=int(failed), skipped=2)
    summary = (
        f"{int(failed)} of {counts.total} tests failed" if failed else f"{passed} tests passed"
    )
    return Evidence(
        stage=stage,
        status=Status.FAILED if failed else Status.PASSED,
        summary=summary,
        tests=Tests(counts=counts, cases=tuple(cases)),
        coverage=Coverage(
            lines_covered=531, lines_total=617, branches_covered=32, branches_total=36
        )
        if stage == "unit"
        else None,
        log=TRACE if failed else "",
    )


BUILD = Evidence(
    stage="build",
    status=Status.PASSED,
    summary="gym-api:1.0.0, 141 MB",
    image=Image(
        reference="gym-api:1.0.0",
        digest="sha256:" + "b5c2d9e0" * 8,
        user="10001:10001",
        size_bytes=141_234_567,
        labels=(
            ("org.opencontainers.image.revision", "9c1e5d8f0a" * 4),
            ("org.opencontainers.image.version", "1.0.0"),
        ),
    ),
)
CHECKS = ("format", "lint", "types", "sast", "secrets", "dependencies", "iac", "workflows", "unit")


def checks(*, failing: bool, cached: bool) -> list[NodeRecord]:
    """The stages before the quality gate."""
    scale = 0.02 if cached else 1.0
    hits = 2 if cached else 0

    def one(name: str, at: float, seconds: float, evidence: Evidence | None = None) -> NodeRecord:
        failed = evidence is not None and evidence.status is Status.FAILED
        return node(
            name,
            at=at * scale,
            seconds=seconds * scale,
            evidence=evidence,
            status=Status.FAILED if failed else Status.PASSED,
            reason=evidence.summary if failed and evidence else "",
            cached=0 if failed else hits,
            reports=(f"{name}/{name}.sarif",) if evidence and evidence.scanners else (),
        )

    found = (RUFF,) if failing else ()
    advisories = (ADVISORY, UNFIXED) if failing else (UNFIXED,)
    return [
        one("format", 0.1, 1.3),
        one("lint", 0.1, 1.9),
        one("types", 1.4, 11.8),
        one("sast", 2.0, 4.1, scan("sast", "ruff", "0.14.2", "a planted eval", *found)),
        one("secrets", 6.1, 2.2, scan("secrets", "gitleaks", "8.30.1", "a planted private key")),
        one(
            "dependencies",
            8.3,
            5.4,
            scan("dependencies", "trivy", "0.59.1", "pyyaml 5.3.1", *advisories, database=SMALL),
        ),
        one("iac", 13.2, 3.9, scan("iac", "trivy", "0.59.1", "a privileged pod")),
        one(
            "workflows",
            13.7,
            1.2,
            scan("workflows", "zizmor", "1.16.3", "a template injection", LOW),
        ),
        one(
            "unit",
            14.9,
            9.6,
            evidence_of_tests("unit", passed=61 if failing else 63, failed=failing),
        ),
    ]


def passed_run(*, cached: bool = False) -> RunRecord:
    """All the way to production."""
    scale = 0.02 if cached else 1.0
    release = Release(name="gym-api", version="1.0.0", digest=DIGEST, commit="9c1e5d8f0a" * 4)
    nodes = checks(failing=False, cached=cached)
    hits = 2 if cached else 0

    def stage(name: str, at: float, seconds: float, *needs: str, **more: object) -> NodeRecord:
        return node(
            name,
            at=at * scale,
            seconds=seconds * scale,
            needs=needs,
            cached=hits,
            **more,  # type: ignore[arg-type]
        )

    nodes += [
        gate("quality", at=24.6 * scale, needs=CHECKS),
        stage(
            "integration",
            24.6,
            17.2,
            "quality",
            evidence=evidence_of_tests("integration", passed=38),
        ),
        stage("build", 24.6, 21.4, "quality", evidence=BUILD),
        stage("sbom", 46.0, 3.1, "build", reports=("sbom/sbom.cdx.json", "sbom/sbom.spdx.json")),
        stage(
            "image-scan",
            46.0,
            6.3,
            "build",
            evidence=scan("image-scan", "trivy", "0.59.1", "openssl 3.0.1", database=SMALL),
        ),
        gate("security", at=52.4 * scale, needs=("sbom", "image-scan")),
        absent("publish", Status.SKIPPED, "no registry is configured: build.publish in ci.toml"),
    ]
    deliveries = []
    for number, name in enumerate(("development", "staging", "production")):
        at = (52.5 + 9 * number) * scale
        nodes.append(
            node(name, at=at, seconds=8.6, kind=NodeKind.DELIVERY, needs=("security",), execs=0)
        )
        deliveries.append(
            DeliveryRecord(
                environment=name,
                target="local",
                strategy="blue-green",
                release=release,
                outcome=Outcome.PASSED,
                url=f"http://127.0.0.1:{8081 + number}",
                previous=release.model_copy(update={"version": "0.9.0"}) if number else None,
                unchanged=cached,
            )
        )
    return record(
        nodes,
        seconds=80.2 * scale + (16 if cached else 0),
        outcome=Outcome.PASSED,
        exit_code=0,
        verdicts=(
            Verdict(gate="quality", outcome=Outcome.PASSED),
            Verdict(gate="security", outcome=Outcome.PASSED),
        ),
        deliveries=tuple(deliveries),
    )


def failed_run() -> RunRecord:
    """Stopped at the quality gate, by a test and by findings; one tool broke as well."""
    nodes = checks(failing=True, cached=False)
    broken = node(
        "iac",
        at=13.2,
        seconds=60.0,
        status=Status.ERRORED,
        reason="trivy: timed out after 60 s\nhint: [stages.iac] timeout in ci.toml",
    )
    nodes = [broken if each.name == "iac" else each for each in nodes]
    stopped = "quality failed"
    nodes.append(gate("quality", at=73.3, needs=CHECKS, status=Status.FAILED))
    nodes += [
        absent(name, Status.CANCELLED, stopped)
        for name in ("integration", "build", "sbom", "image-scan")
    ]
    nodes.append(absent("security", Status.CANCELLED, stopped, NodeKind.GATE))
    nodes += [
        absent(name, Status.CANCELLED, stopped, NodeKind.DELIVERY)
        for name in ("development", "staging", "production")
    ]
    return record(
        nodes,
        seconds=73.4,
        outcome=Outcome.ERRORED,
        exit_code=2,
        verdicts=(
            Verdict(
                gate="quality",
                outcome=Outcome.ERRORED,
                reasons=(
                    "unit: 1 of 64 tests failed",
                    "sast: 1 finding of severity high: S307 in src/gym_api/api.py:42",
                    "dependencies: pyyaml 5.3.1 has CVE-2020-14343 (critical), fixed in 5.4",
                    "iac: errored, so nothing is known",
                ),
            ),
        ),
    )


def record(
    nodes: Sequence[NodeRecord],
    *,
    seconds: float,
    outcome: Outcome,
    exit_code: int,
    verdicts: tuple[Verdict, ...] = (),
    deliveries: tuple[DeliveryRecord, ...] = (),
) -> RunRecord:
    """A run of these nodes on the embedded engine."""
    return RunRecord(
        id=new_run_id(START, suffix="9f3a1c"),
        pipeline="gym-api",
        started_at=START,
        finished_at=START + timedelta(seconds=seconds),
        towpath="0.1.0",
        source=SourceRecord(commit="9c1e5d8f0a" * 4, branch="main", dirty=False, version="1.0.0"),
        engine=EngineRecord(kind="embedded", version="0.1.0", sandbox="root, private network"),
        images=(
            ImageRecord(reference=PYTHON, digest=DIGEST, stand_in=STAND_IN),
            ImageRecord(reference="postgres:15-bookworm", digest=DIGEST, stand_in=STAND_IN),
            ImageRecord(reference="aquasec/trivy:0.59.1", digest=DIGEST),
        ),
        nodes=tuple(nodes),
        verdicts=verdicts,
        deliveries=deliveries,
        outcome=outcome,
        exit_code=exit_code,
    )
