import json

from hypothesis import given
from hypothesis import strategies as st

from ci.findings import sarif
from ci.findings.fingerprint import Draft, seal
from ci.values import Finding, Package, Place, Severity

lines = st.lists(st.sampled_from(["eval(x)", "y = 1", "", "  eval(x)", "exec(z)"]), max_size=12)


def report_of(source):
    """What a scanner for eval and exec says of a file, by line numbers alone."""
    results = [
        {
            "ruleId": word,
            "message": {"text": f"use of {word}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": "a.py"},
                        "region": {"startLine": number},
                    }
                }
            ],
        }
        for number, line in enumerate(source, 1)
        for word in ("eval", "exec")
        if word in line
    ]
    log = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": results}]}
    return sarif.parse(json.dumps(log), sources={"a.py": "\n".join(source)}).findings


@given(lines, st.integers(0, 12))
def test_lines_that_come_above_change_no_fingerprint(source, count):
    moved = ["# comment"] * count + source
    assert [f.fingerprint for f in report_of(source)] == [f.fingerprint for f in report_of(moved)]


@given(lines)
def test_no_two_findings_of_a_file_share_a_fingerprint(source):
    found = report_of(source)
    assert len({f.fingerprint for f in found}) == len(found)


@given(lines)
def test_a_new_fault_leaves_the_known_ones_known(source):
    known = {f.fingerprint for f in report_of(source)}
    after = {f.fingerprint for f in report_of([*source, "eval(new)"])}
    assert len(after - known) == 1
    assert known <= after


def test_indentation_changes_no_fingerprint():
    (flat,), (indented,) = report_of(["eval( x )"]), report_of(["    eval(  x )"])
    assert flat.fingerprint == indented.fingerprint


def draft(rule="R", path="a.py", line=1, identity=("text",)):
    place = Place(path=path, line=line)
    finding = Finding(
        scanner="s", rule=rule, severity=Severity.LOW, message="m", place=place, fingerprint=""
    )
    return Draft(finding, identity)


@given(st.permutations([draft(), draft(line=5), draft(rule="Q"), draft(path="b.py"), draft()]))
def test_the_order_of_a_report_does_not_matter(drafts):
    assert seal(drafts) == seal([draft(), draft(), draft(line=5), draft(path="b.py"), draft("Q")])


def test_rule_file_and_text_each_make_another_fingerprint():
    prints = {
        seal([d])[0].fingerprint
        for d in (draft(), draft(rule="Q"), draft(path="b.py"), draft(identity=("other",)))
    }
    assert len(prints) == 4


def test_a_package_keeps_its_fingerprint_when_its_version_changes():
    def vulnerable(version):
        package = Package(name="jinja2", version=version, ecosystem="pip")
        return Draft(
            Finding(
                scanner="trivy",
                rule="CVE-2024-22195",
                severity=Severity.MEDIUM,
                message=f"jinja2 {version}",
                package=package,
                fingerprint="",
            )
        )

    assert seal([vulnerable("3.1.1")])[0].fingerprint == seal([vulnerable("3.1.2")])[0].fingerprint
