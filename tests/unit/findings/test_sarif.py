"""Reports in ``reports/`` were written by the tools themselves, on one small planted source."""

import json
from pathlib import Path

import pytest

from ci.findings import sarif
from ci.findings.report import ReportError
from ci.values import Severity

REPORTS = Path(__file__).parent / "reports"


def read(name):
    return (REPORTS / name).read_text()


def log(*results, **run):
    body = {"tool": {"driver": {"name": "some"}}, "results": list(results), **run}
    return json.dumps({"version": "2.1.0", "runs": [body]})


def result(**fields):
    return {"ruleId": "R1", "message": {"text": "bad"}, **fields}


def only(text, **options):
    (finding,) = sarif.parse(text, **options).findings
    return finding


def test_ruff_is_read_with_rule_place_and_help_page():
    report = sarif.parse(read("ruff.sarif"), root="/src")
    found = next(f for f in report.findings if f.rule == "S307")
    assert (report.scanner, found.scanner) == ("ruff", "ruff")
    assert found.place
    assert (found.place.path, found.place.line, found.place.column) == ("app/api.py", 6, 12)
    assert found.url == "https://docs.astral.sh/ruff/rules/suspicious-eval-usage"
    assert "insecure function" in found.message


def test_ruff_severities_are_bandits_and_not_error_for_all():
    severities = {f.rule: f.severity for f in sarif.parse(read("ruff.sarif")).findings}
    assert severities["S307"] == Severity.HIGH
    assert severities["S602"] == Severity.HIGH
    assert severities["S101"] == Severity.LOW
    assert severities["F401"] == Severity.MEDIUM


def test_a_shell_call_that_ruff_thinks_safe_is_low():
    text = log(
        result(
            ruleId="S602",
            level="error",
            message={"text": "`subprocess` call with `shell=True` seems safe, but may be changed"},
        )
    ).replace('"some"', '"ruff"')
    assert only(text).severity == Severity.LOW


def test_bandit_is_read_with_its_own_severities_and_eval_raised_to_high():
    report = sarif.parse(read("bandit.sarif"))
    severities = {f.rule: f.severity for f in report.findings}
    assert severities == {
        "B404": Severity.LOW,
        "B307": Severity.HIGH,
        "B602": Severity.HIGH,
        "B101": Severity.LOW,
    }
    assert report.version == "1.9.4"
    assert not report.problems


def test_files_that_bandit_could_not_parse_are_problems():
    report = sarif.parse(read("bandit-unreadable.sarif"))
    assert report.problems == ("b.py: syntax error while parsing AST from file",)


def test_a_file_that_ruff_could_not_parse_is_a_problem_and_no_finding():
    place = {"artifactLocation": {"uri": "file:///src/b.py"}, "region": {"startLine": 3}}
    text = log(result(ruleId="invalid-syntax", locations=[{"physicalLocation": place}])).replace(
        '"some"', '"ruff"'
    )
    report = sarif.parse(text, root="/src")
    assert report.problems == ("b.py:3: bad",)
    assert report.findings == ()


def test_zizmor_is_read_with_its_severities():
    severities = {f.rule: f.severity for f in sarif.parse(read("zizmor.sarif")).findings}
    assert severities["zizmor/template-injection"] == Severity.HIGH
    assert severities["zizmor/artipacked"] == Severity.MEDIUM


@pytest.mark.parametrize("name", ["gitleaks.sarif", "gitleaks-history.sarif"])
def test_every_secret_that_gitleaks_finds_is_high(name):
    report = sarif.parse(read(name))
    assert {f.rule for f in report.findings} == {"private-key", "aws-access-token"}
    assert {f.severity for f in report.findings} == {Severity.HIGH}


def test_the_made_up_version_of_gitleaks_is_not_reported():
    assert sarif.parse(read("gitleaks.sarif")).version == ""


def test_the_same_secret_in_two_commits_is_two_findings():
    first = sarif.parse(read("gitleaks-history.sarif")).findings
    other = sarif.parse(
        read("gitleaks-history.sarif").replace('"commitSha": "c', '"commitSha": "d')
    ).findings
    assert not {f.fingerprint for f in first} & {f.fingerprint for f in other}


def test_a_fingerprint_of_a_secret_does_not_hash_its_line():
    with_line = sarif.parse(
        read("gitleaks.sarif"), sources={"app/key.pem.txt": 'password = "hunter2"\n'}
    )
    assert with_line.findings == sarif.parse(read("gitleaks.sarif")).findings


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ({"uri": "file:///src/a/b.py"}, "a/b.py"),
        ({"uri": "./a/b.py"}, "a/b.py"),
        ({"uri": "a%20b.py"}, "a b.py"),
        ({"uri": "b.py", "uriBaseId": "SRC"}, "a/b.py"),
        ({"uri": "file:///elsewhere/b.py"}, "/elsewhere/b.py"),
    ],
)
def test_paths_are_relative_to_the_root(location, path):
    text = log(
        result(locations=[{"physicalLocation": {"artifactLocation": location}}]),
        originalUriBaseIds={"SRC": {"uri": "file:///src/a/"}},
    )
    place = only(text, root="/src").place
    assert place
    assert place.path == path


@pytest.mark.parametrize(
    ("score", "severity"),
    [
        ("9.0", Severity.CRITICAL),
        ("8.9", Severity.HIGH),
        ("7", Severity.HIGH),
        ("4.0", Severity.MEDIUM),
        ("0.1", Severity.LOW),
        ("0.0", Severity.UNKNOWN),
    ],
)
def test_a_security_severity_is_read_in_githubs_bands(score, severity):
    text = log(result(properties={"security-severity": score}, level="note"))
    assert only(text).severity == severity


@pytest.mark.parametrize(
    ("level", "severity"),
    [("error", Severity.HIGH), ("warning", Severity.MEDIUM), ("note", Severity.LOW)],
)
def test_a_level_is_the_severity_where_nothing_better_is_said(level, severity):
    assert only(log(result(level=level))).severity == severity


def test_a_result_without_a_level_takes_its_rules_default_and_else_warning():
    rules = [{"id": "R1", "defaultConfiguration": {"level": "error"}}]
    driver = {"driver": {"name": "some", "rules": rules}}
    assert only(log(result(ruleIndex=0), tool=driver)).severity == Severity.HIGH
    assert only(log(result())).severity == Severity.MEDIUM


def test_results_that_the_tool_suppressed_or_passed_do_not_count():
    text = log(
        result(suppressions=[{"kind": "inSource"}]),
        result(kind="pass"),
        result(kind="notApplicable"),
        result(baselineState="absent"),
        result(suppressions=[{"kind": "external", "status": "rejected"}], ruleId="R2"),
        result(suppressions=[], ruleId="R3"),
    )
    assert [f.rule for f in sarif.parse(text).findings] == ["R2", "R3"]


def test_nulls_where_nothing_is_are_accepted():
    text = log(result(locations=None, properties=None, suppressions=None))
    assert only(text).place is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "no json",
        "[]",
        "{}",
        '{"version": "2.1.0"}',
        '{"version": "2.1.0", "runs": []}',
        '{"version": "2.0.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": []}]}',
        '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}}]}',
        '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": null}]}',
        '{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": [{}]}]}',
        log(invocations=[{"executionSuccessful": False}]),
        "[" * 100_000,
    ],
)
def test_a_report_that_cannot_be_read_is_an_error_and_never_empty(text):
    with pytest.raises(ReportError, match=r"cannot be read: got .*; expected .*"):
        sarif.parse(text, scanner="ruff")


@pytest.mark.parametrize("name", [path.name for path in sorted(REPORTS.glob("*.sarif"))])
def test_a_report_cut_short_is_an_error(name):
    text = read(name)
    for part in range(1, 8):
        with pytest.raises(ReportError):
            sarif.parse(text[: len(text) * part // 8])
