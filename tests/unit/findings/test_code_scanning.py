import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ci.findings import code_scanning, sarif, trivy
from ci.values import Finding, Package, Place, Severity

REPORTS = Path(__file__).parent / "reports"


def all_findings():
    found = list(trivy.parse((REPORTS / "trivy-config.json").read_text()).findings)
    for path in sorted(REPORTS.glob("*.sarif")):
        found += sarif.parse(path.read_text(), root="/src").findings
    return found


FINDINGS = all_findings()


def test_what_github_requires_is_there():
    """See the tables in GitHub's "SARIF support for code scanning"."""
    log = json.loads(code_scanning.write(FINDINGS))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    ids = [run["automationDetails"]["id"] for run in log["runs"]]
    assert len(set(ids)) == len(ids) == 5
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        for rule in rules:
            for key in ("shortDescription", "fullDescription", "help"):
                assert rule[key]["text"]
            assert float(rule["properties"]["security-severity"]) > 0
        for result in run["results"]:
            assert result["message"]["text"]
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["partialFingerprints"]["primaryLocationLineHash"]
            place = result["locations"][0]["physicalLocation"]
            assert not place["artifactLocation"]["uri"].startswith(("/", "file:"))
            assert place["region"]["startLine"] >= 1


@given(st.permutations(FINDINGS))
def test_the_same_findings_in_any_order_give_the_same_bytes(findings):
    assert code_scanning.write(findings) == code_scanning.write(FINDINGS)


def test_our_own_reader_reads_it_back():
    log = json.loads(code_scanning.write(FINDINGS))
    for run in log["runs"]:
        text = json.dumps({"version": "2.1.0", "runs": [run]})
        read = sarif.parse(text)
        written = [f for f in FINDINGS if f.scanner == run["tool"]["driver"]["name"]]
        assert sorted((f.rule, f.message) for f in read.findings) == sorted(
            (f.rule, f.message) for f in written
        )


def test_a_package_of_an_image_gets_a_place_to_be_shown_at():
    found = Finding(
        scanner="trivy",
        rule="CVE-1",
        severity=Severity.UNKNOWN,
        message="zlib1g 1: bad",
        package=Package(name="zlib1g", version="1", ecosystem="debian"),
        fingerprint="f",
    )
    (run,) = json.loads(code_scanning.write([found], versions={"trivy": "0.59.1"}))["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "image/debian/zlib1g"
    assert run["tool"]["driver"]["version"] == "0.59.1"


def test_a_waived_finding_is_written_as_suppressed():
    waived = FINDINGS[0].model_copy(update={"waived": "sandboxed"})
    (run,) = json.loads(code_scanning.write([waived]))["runs"]
    assert run["results"][0]["suppressions"] == [{"kind": "external", "justification": "sandboxed"}]
    assert sarif.parse(code_scanning.write([waived])).findings == ()


def test_a_scanner_that_found_nothing_is_told_of_so_that_its_alerts_are_closed():
    runs = json.loads(code_scanning.write([], versions={"ruff": "0.14", "bandit": "1.9"}))["runs"]
    assert [run["automationDetails"]["id"] for run in runs] == ["towpath/bandit/", "towpath/ruff/"]
    assert [run["results"] for run in runs] == [[], []]


def test_what_is_a_matter_of_style_is_no_security_alert():
    found = FINDINGS[0].model_copy(update={"package": None})
    (run,) = json.loads(code_scanning.write([found], style=[found]))["runs"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["properties"] == {"tags": ["style"]}
    assert rule["shortDescription"]["text"] == found.message


def test_paths_are_from_the_top_of_the_repository():
    found = FINDINGS[0].model_copy(update={"place": Place(path="src/a.py", line=3)})
    (run,) = json.loads(code_scanning.write([found], folder="services/shop"))["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "services/shop/src/a.py"


def test_no_findings_is_a_log_that_github_takes():
    (run,) = json.loads(code_scanning.write([]))["runs"]
    assert run["results"] == []
    assert run["tool"]["driver"]["name"]
