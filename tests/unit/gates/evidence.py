"""Evidence for the tests of gates, written out and at random."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from ci.values import (
    Coverage,
    Database,
    Evidence,
    Finding,
    Image,
    Package,
    Place,
    Scanner,
    Severity,
    Status,
    TestCase,
    TestCounts,
    Tests,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64


class FixedClock:
    def now(self):
        return NOW

    def monotonic(self):
        raise NotImplementedError

    async def sleep(self, seconds):
        raise NotImplementedError


def evidence(stage="lint", status=Status.PASSED, **fields):
    return Evidence(stage=stage, status=status, **{"summary": "as said", **fields})


def scanner(name="ruff", *, proven=True, database=None):
    return Scanner(name=name, version="1", proven=proven, database=database)


def finding(severity=Severity.HIGH, *, rule="S307", package="", fixed=("2",), line=12, **fields):
    return Finding(
        **{
            "scanner": "ruff",
            "rule": rule,
            "severity": severity,
            "message": "Use of eval",
            "place": None if package else Place(path="app/api.py", line=line),
            "package": Package(name=package, version="1", fixed_versions=fixed)
            if package
            else None,
            "fingerprint": f"{rule}{line}{package}",
            **fields,
        }
    )


def database(*, days=1, **fields):
    return Database(
        **{
            "source": "ghcr.io/aquasecurity/trivy-db",
            "digest": DIGEST,
            "advisories": 100_000,
            "updated_at": NOW - timedelta(days=days),
            **fields,
        }
    )


def scan(stage="sast", *findings, **fields):
    return evidence(stage, findings=findings, scanners=(scanner(),), **fields)


def vulnerability_scan(stage="dependencies", *findings, data=None, **fields):
    scanners = (scanner("trivy", database=data or database()),)
    return evidence(stage, findings=findings, scanners=scanners, **fields)


def unit_tests(passed=3, *, failed=0, errored=0, skipped=0, stage="unit", **fields):
    counts = TestCounts(passed=passed, failed=failed, errored=errored, skipped=skipped)
    cases = [
        TestCase(suite="t", name=f"test_{status}_{i}", status=status, message="why\nmore")
        for status, count in ((Status.FAILED, failed), (Status.ERRORED, errored))
        for i in range(count)
    ]
    return evidence(stage, tests=Tests(counts=counts, cases=tuple(cases)), **fields)


def covered(percent, *, stage="unit", **fields):
    coverage = Coverage(lines_covered=round(percent * 100), lines_total=10_000)
    return evidence(stage, coverage=coverage, **fields)


def built(user="app", labels=None, **fields):
    return evidence(
        "build",
        image=Image(
            digest=DIGEST,
            user=user,
            labels=tuple(
                (
                    labels
                    if labels is not None
                    else {
                        "org.opencontainers.image.title": "gym-api",
                        "org.opencontainers.image.version": "1.0",
                    }
                ).items()
            ),
        ),
        **fields,
    )


stages = st.sampled_from(["lint", "sast", "dependencies", "image-scan", "unit", "build", "other"])
severities = st.sampled_from(list(Severity))
findings = st.builds(
    finding,
    severities,
    rule=st.sampled_from(["S307", "S101", "CVE-2024-22195"]),
    package=st.sampled_from(["", "jinja2", "flask"]),
    fixed=st.sampled_from([(), ("2",)]),
    line=st.integers(1, 5),
    waived=st.sampled_from(["", "", "known"]),
)
databases = st.none() | st.builds(
    database,
    days=st.integers(0, 20),
    small=st.booleans(),
    digest=st.sampled_from(["", DIGEST]),
    advisories=st.sampled_from([None, 0, 9]),
)
scanners = st.builds(
    scanner,
    st.sampled_from(["ruff", "trivy"]),
    proven=st.booleans(),
    database=databases,
)
counts = st.builds(
    TestCounts,
    **{name: st.integers(0, 2) for name in ("passed", "failed", "errored", "skipped")},
)
any_evidence = st.builds(
    evidence,
    stages,
    st.sampled_from(list(Status)),
    summary=st.sampled_from(["", "as said"]),
    findings=st.lists(findings, max_size=3).map(tuple),
    scanners=st.lists(scanners, max_size=2).map(tuple),
    tests=st.none() | st.builds(Tests, counts=counts),
    coverage=st.none()
    | st.integers(0, 100).map(lambda p: Coverage(lines_covered=p, lines_total=100)),
    image=st.none() | st.builds(Image, user=st.sampled_from(["", "root", "app", "0:0"])),
)
