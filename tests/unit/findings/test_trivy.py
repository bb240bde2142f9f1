import json
from pathlib import Path

import pytest

from ci.findings import trivy
from ci.findings.report import ReportError
from ci.values import Severity

REPORTS = Path(__file__).parent / "reports"


def report(*results, **fields):
    return json.dumps({"SchemaVersion": 2, "Results": list(results), **fields})


def vulnerability(**fields):
    return {
        "VulnerabilityID": "CVE-2024-22195",
        "PkgName": "jinja2",
        "InstalledVersion": "3.1.2",
        "FixedVersion": "3.1.3",
        "Severity": "MEDIUM",
        "Title": "HTML attribute injection",
        "PrimaryURL": "https://avd.aquasec.com/nvd/cve-2024-22195",
        **fields,
    }


def test_misconfigurations_and_secrets_are_read():
    found = trivy.parse((REPORTS / "trivy-config.json").read_text())
    by_rule = {f.rule: f for f in found.findings}
    assert by_rule["DS002"].severity == Severity.HIGH
    assert by_rule["DS002"].url == "https://avd.aquasec.com/misconfig/ds002"
    assert by_rule["DS001"].place
    assert (by_rule["DS001"].place.path, by_rule["DS001"].place.line) == ("Dockerfile", 1)
    assert by_rule["aws-access-key-id"].severity == Severity.CRITICAL
    assert "private-key" in found.rules()


def test_what_trivy_looked_at_can_be_asked():
    found = trivy.parse((REPORTS / "trivy-config.json").read_text())
    assert found.packages(kind="lang-pkgs", type="pip") == {
        ("jinja2", "3.1.2"),
        ("urllib3", "2.0.5"),
    }
    assert found.packages(kind="lang-pkgs", type="poetry") == frozenset()
    assert found.scanned(kind="config", type="dockerfile")
    assert not found.scanned(kind="os-pkgs")


def test_a_vulnerable_package_is_read_with_its_cures():
    (found,) = trivy.parse(
        report(
            {
                "Target": "requirements.txt",
                "Class": "lang-pkgs",
                "Type": "pip",
                "Vulnerabilities": [vulnerability(FixedVersion="1.26.18, 2.0.7")],
            }
        )
    ).findings
    assert found.package
    assert found.package.fixed_versions == ("1.26.18", "2.0.7")
    assert found.package.ecosystem == "pip"
    assert found.place
    assert found.place.path == "requirements.txt"
    assert found.message == ("jinja2 3.1.2: HTML attribute injection (fixed in 1.26.18 or 2.0.7)")


def test_a_package_without_a_cure_has_no_fixed_versions():
    (found,) = trivy.parse(
        report(
            {
                "Class": "os-pkgs",
                "Type": "debian",
                "Vulnerabilities": [
                    {"VulnerabilityID": "CVE-1", "PkgName": "zlib1g", "Severity": "CRITICAL"}
                ],
            }
        )
    ).findings
    assert found.package
    assert found.package.fixed_versions == ()
    assert found.place is None
    assert "no fixed version" in found.message


def test_the_operating_system_is_told():
    text = report(Metadata={"OS": {"Family": "debian", "Name": "12.11"}})
    found = trivy.parse(text)
    assert (found.os_family, found.os_version) == ("debian", "12.11")


def test_the_name_of_the_scanned_archive_is_no_part_of_a_fingerprint():
    def scan(target):
        result = {"Target": target, "Class": "os-pkgs", "Type": "debian"}
        return trivy.parse(report({**result, "Vulnerabilities": [vulnerability()]})).findings

    assert scan("/tmp/1 (debian 12.1)") == scan("/tmp/2 (debian 12.2)")


def test_nothing_recognised_is_a_report_with_no_results_and_a_caller_can_tell():
    found = trivy.parse('{"SchemaVersion": 2, "ArtifactName": "."}')
    assert found.results == ()
    assert found.findings == ()


def test_checks_that_passed_are_no_findings():
    passed = {"ID": "DS001", "Status": "PASS", "Severity": "HIGH"}
    text = report({"Class": "config", "Target": "Dockerfile", "Misconfigurations": [passed]})
    assert trivy.parse(text).findings == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "2026-01-01T00:00:00Z\tFATAL\tFatal error",
        '{"SchemaVersion": 1, "Results": []}',
        '{"SchemaVersion": 2, "Results": {}}',
        '{"SchemaVersion": 2, "Results": [{"Vulnerabilities": [{"PkgName": "x"}]}]}',
        (REPORTS / "trivy-config.json").read_text()[:-40],
    ],
)
def test_a_report_that_cannot_be_read_is_an_error_and_never_empty(text):
    with pytest.raises(ReportError, match=r"cannot be read: got .*; expected .*"):
        trivy.parse(text)
