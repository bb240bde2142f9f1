"""The sentences and outcomes of each gate."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from ci import gates
from ci.gates import QualityPolicy, SecurityPolicy
from ci.values import Coverage, Evidence, Outcome, Severity, Status
from tests.unit.gates.evidence import (
    FixedClock,
    built,
    covered,
    database,
    evidence,
    finding,
    scan,
    scanner,
    unit_tests,
    vulnerability_scan,
)

CLOCK = FixedClock()
VULNERABILITIES = gates.Vulnerabilities(clock=CLOCK)


def judged(gate, *items):
    verdict = gate.judge(items)
    return verdict.outcome, verdict.reasons


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (Status.PASSED, Outcome.PASSED, "lint: passed: as said"),
        (Status.FAILED, Outcome.FAILED, "lint: failed: as said"),
        (Status.ERRORED, Outcome.ERRORED, "lint: errored: as said"),
        (Status.CANCELLED, Outcome.INCONCLUSIVE, "lint: cancelled: as said"),
    ],
)
def test_a_status_becomes_an_outcome(status, outcome, reason):
    assert judged(gates.Statuses(), evidence(status=status)) == (outcome, (reason,))


def test_failed_and_errored_are_never_folded_into_each_other():
    outcome, reasons = judged(
        gates.Statuses(), evidence("a", Status.FAILED), evidence("b", Status.ERRORED)
    )
    assert outcome == Outcome.ERRORED
    assert reasons == ("b: errored: as said", "a: failed: as said")


def test_a_stage_skipped_for_a_reason_does_not_stand_in_the_way():
    skipped = evidence("iac", Status.SKIPPED, summary="no Dockerfile")
    assert judged(gates.Statuses(), evidence(), skipped) == (
        Outcome.PASSED,
        ("lint: passed: as said", "iac: skipped: no Dockerfile"),
    )


def test_a_stage_skipped_without_a_reason_is_inconclusive():
    skipped = evidence("iac", Status.SKIPPED, summary="")
    outcome, reasons = judged(gates.Statuses(), evidence(), skipped)
    assert (outcome, reasons) == (Outcome.INCONCLUSIVE, ("iac: skipped without a reason",))


@pytest.mark.parametrize("items", [(), (evidence("unit", Status.SKIPPED),)])
def test_a_required_stage_that_is_absent_or_skipped_is_inconclusive(items):
    outcome, (reason,) = judged(gates.Statuses(required=("unit",)), evidence(), *items)
    assert outcome == Outcome.INCONCLUSIVE
    assert "unit: " in reason
    assert "required" in reason


@pytest.mark.parametrize(
    ("percent", "outcome", "reason"),
    [
        (91.3, Outcome.PASSED, "unit: coverage 91.30 % of 80 % needed"),
        (80, Outcome.PASSED, "unit: coverage 80.00 % of 80 % needed"),
        (79.99, Outcome.FAILED, "unit: coverage 79.99 % is below the 80 % needed"),
        (0, Outcome.FAILED, "unit: coverage 0.00 % is below the 80 % needed"),
    ],
)
def test_coverage_is_held_to_the_minimum(percent, outcome, reason):
    assert judged(gates.Coverage(), covered(percent)) == (outcome, (reason,))


def test_coverage_just_below_does_not_read_as_the_minimum():
    close = evidence("unit", coverage=Coverage(lines_covered=799_999, lines_total=1_000_000))
    assert judged(gates.Coverage(), close) == (
        Outcome.FAILED,
        ("unit: coverage 79.99 % is below the 80 % needed",),
    )


def test_no_code_to_cover_is_inconclusive():
    nothing = evidence("unit", coverage=Coverage(lines_covered=0, lines_total=0))
    assert judged(gates.Coverage(minimum=0), nothing)[0] == Outcome.INCONCLUSIVE


def test_every_measurement_must_reach_the_minimum():
    items = (covered(90), covered(10, stage="integration"))
    assert judged(gates.Coverage(), *items)[0] == Outcome.FAILED


@pytest.mark.parametrize(
    ("counts", "outcome", "reasons"),
    [
        ({"skipped": 1}, Outcome.PASSED, ("unit: 3 tests passed, 1 skipped",)),
        (
            {"failed": 1},
            Outcome.FAILED,
            ("unit: 1 of 4 tests failed", "unit: t::test_failed_0 failed: why"),
        ),
        (
            {"errored": 1},
            Outcome.ERRORED,
            ("unit: 1 of 4 tests errored", "unit: t::test_errored_0 errored: why"),
        ),
        ({"passed": 0}, Outcome.INCONCLUSIVE, ("unit: no tests were collected",)),
        (
            {"passed": 0, "skipped": 2},
            Outcome.INCONCLUSIVE,
            ("unit: 2 tests, all skipped",),
        ),
    ],
)
def test_tests_are_judged_by_their_counts(counts, outcome, reasons):
    assert judged(gates.Tests(), unit_tests(**counts)) == (outcome, reasons)


def test_only_so_many_failing_tests_are_named():
    _, reasons = judged(gates.Tests(shown=2), unit_tests(failed=50))
    assert len(reasons) == 3
    assert "unit: 50 of 53 tests failed" in reasons


def test_a_severe_finding_fails_with_rule_place_and_severity():
    assert judged(gates.Findings(), scan("sast", finding())) == (
        Outcome.FAILED,
        ("sast: S307 Use of eval at app/api.py:12 (high)",),
    )


def test_findings_below_the_threshold_pass_and_are_counted():
    found = scan("sast", finding(Severity.MEDIUM), finding(waived="known"))
    assert judged(gates.Findings(), found) == (
        Outcome.PASSED,
        ("sast: no finding at high or above, 1 below, 1 accepted",),
    )


@pytest.mark.parametrize(
    ("fail_at", "outcome"), [(Severity.HIGH, Outcome.PASSED), (Severity.MEDIUM, Outcome.FAILED)]
)
def test_an_unknown_severity_counts_as_medium(fail_at, outcome):
    found = scan("sast", finding(Severity.UNKNOWN))
    assert judged(gates.Findings(fail_at=fail_at), found)[0] == outcome


def test_a_scanner_can_have_a_threshold_of_its_own():
    gate = gates.Findings(thresholds={"ruff": Severity.CRITICAL})
    assert judged(gate, scan("sast", finding()))[0] == Outcome.PASSED
    assert judged(gate, scan("sast", finding(scanner="bandit")))[0] == Outcome.FAILED


def test_the_most_severe_findings_are_named_first_and_the_rest_counted():
    many = [finding(line=n) for n in range(30)]
    _, reasons = judged(gates.Findings(shown=2), scan("sast", *many, finding(Severity.CRITICAL)))
    assert any("(critical)" in reason for reason in reasons)
    assert "sast: 29 more; see the report" in reasons
    assert len(reasons) == 3


def test_a_scanner_that_missed_its_planted_sample_is_errored():
    blind = evidence("sast", scanners=(scanner("bandit", proven=False),))
    assert judged(gates.Findings(), blind) == (
        Outcome.ERRORED,
        ("sast: bandit did not prove that it finds a planted fault",),
    )


def test_a_scan_that_names_no_scanner_is_errored():
    assert judged(gates.Findings(scans=("sast",)), evidence("sast")) == (
        Outcome.ERRORED,
        ("sast: passed, and names no scanner that looked",),
    )


def accept_all(findings):
    return tuple(f.model_copy(update={"waived": "agreed"}) for f in findings), ("look here",)


@pytest.mark.parametrize(
    ("gate", "item"),
    [
        (gates.Findings(acceptances=(accept_all,)), scan("sast", finding())),
        (
            gates.Vulnerabilities(acceptances=(accept_all,), clock=CLOCK),
            vulnerability_scan("dependencies", finding(package="flask")),
        ),
    ],
)
def test_accepted_findings_do_not_count_and_notes_are_shown(gate, item):
    outcome, (passed, note) = judged(gate, item)
    assert outcome == Outcome.PASSED
    assert passed.endswith("1 accepted")
    assert note == f"{item.stage}: look here"


def test_a_vulnerable_package_fails():
    vulnerable = finding(rule="CVE-2023-30861", package="flask", message="flask 1: bad")
    assert judged(VULNERABILITIES, vulnerability_scan("dependencies", vulnerable)) == (
        Outcome.FAILED,
        ("dependencies: CVE-2023-30861 flask 1: bad (high)",),
    )


@pytest.mark.parametrize(
    ("fixable_only", "outcome"), [(True, Outcome.PASSED), (False, Outcome.FAILED)]
)
def test_a_vulnerability_without_a_fix_counts_unless_only_fixable_ones_do(fixable_only, outcome):
    gate = gates.Vulnerabilities(clock=CLOCK, fixable_only=fixable_only)
    unfixed = vulnerability_scan("image-scan", finding(package="zlib", fixed=()))
    assert judged(gate, unfixed)[0] == outcome


def test_unfixed_vulnerabilities_that_do_not_count_are_noted():
    gate = gates.Vulnerabilities(clock=CLOCK, fixable_only=True)
    unfixed = vulnerability_scan("image-scan", finding(package="zlib", fixed=()))
    assert judged(gate, unfixed)[1] == (
        "image-scan: no fixable vulnerability at high or above",
        "image-scan: 1 at high or above without a fix do not count",
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (database(days=8), "is 8 days old; 7 are allowed"),
        (database(updated_at=None), "does not say how old it is"),
        (database(advisories=0), "is empty"),
        (database(digest=""), "has no digest"),
        (database(advisories=0, small=True), "is empty"),
    ],
)
def test_a_database_that_cannot_be_trusted_is_errored(data, reason):
    outcome, reasons = judged(VULNERABILITIES, vulnerability_scan(data=data))
    assert outcome == Outcome.ERRORED
    assert any(reason in text for text in reasons)


def test_a_scan_without_a_database_is_errored():
    blind = evidence("image-scan", scanners=(scanner("trivy"),))
    assert judged(VULNERABILITIES, blind) == (
        Outcome.ERRORED,
        ("image-scan: no scanner says which vulnerability database it used",),
    )


def test_any_age_of_database_is_allowed_where_the_policy_says_so():
    gate = gates.Vulnerabilities(clock=CLOCK, max_database_age=None)
    assert judged(gate, vulnerability_scan(data=database(days=999)))[0] == Outcome.PASSED


def test_a_small_database_is_not_held_to_an_age_and_always_noted():
    outcome, reasons = judged(
        VULNERABILITIES, vulnerability_scan(data=database(days=999, small=True, advisories=9))
    )
    assert outcome == Outcome.PASSED
    assert reasons[-1] == (
        "dependencies: the database of trivy is a small one for demonstration: "
        "it knows 9 advisories"
    )


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "root:app", "0:1000"])
def test_an_image_that_runs_as_root_fails(user):
    outcome, (reason,) = judged(gates.Image(), built(user))
    assert outcome == Outcome.FAILED
    assert "build: the image runs as" in reason


@pytest.mark.parametrize("user", ["app", "1000", "1000:1000", "app:root"])
def test_an_image_with_an_ordinary_user_passes(user):
    assert judged(gates.Image(), built(user))[0] == Outcome.PASSED


@pytest.mark.parametrize("labels", [{}, {"title": ""}])
def test_a_missing_or_empty_label_fails(labels):
    assert judged(gates.Image(labels=("title",)), built(labels=labels)) == (
        Outcome.FAILED,
        ("build: the image lacks the label title",),
    )


def test_a_build_that_names_no_image_is_inconclusive():
    assert judged(gates.Image(), evidence("build"))[0] == Outcome.INCONCLUSIVE


def good():
    unit = unit_tests().model_copy(update={"coverage": covered(90).coverage})
    return [evidence("lint"), scan("sast"), vulnerability_scan("dependencies"), unit]


def quality(*items, **policy):
    return judged(gates.Quality(policy=QualityPolicy(**policy), clock=CLOCK), *items)


def test_the_quality_gate_passes_what_is_sound_and_says_why():
    outcome, reasons = quality(*good())
    assert outcome == Outcome.PASSED
    assert "unit: coverage 90.00 % of 80 % needed" in reasons
    assert "sast: no finding at high or above" in reasons


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        (evidence("types", Status.FAILED), Outcome.FAILED, "types: failed: as said"),
        (evidence("types", Status.ERRORED), Outcome.ERRORED, "types: errored: as said"),
        (
            scan("secrets", finding(rule="private-key")),
            Outcome.FAILED,
            "secrets: private-key Use of eval at app/api.py:12 (high)",
        ),
        (
            vulnerability_scan("dependencies", finding(rule="CVE-1", package="flask")),
            Outcome.FAILED,
            "dependencies: CVE-1 Use of eval (high)",
        ),
        (unit_tests(failed=1), Outcome.FAILED, "unit: 1 of 4 tests failed"),
        (covered(79), Outcome.FAILED, "unit: coverage 79.00 % is below the 80 % needed"),
        (
            vulnerability_scan("dependencies", data=database(days=30)),
            Outcome.ERRORED,
            "dependencies: the database of trivy is 30 days old; 7 are allowed",
        ),
    ],
)
def test_one_fault_stops_the_quality_gate_and_is_its_only_reason(fault, outcome, reason):
    got, reasons = quality(*good(), fault)
    assert got == outcome
    assert reasons[0] == reason


def test_a_stage_that_errored_is_told_once():
    _, reasons = quality(*good(), scan("sast", status=Status.ERRORED))
    assert reasons == ("sast: errored: as said",)


def test_without_tests_or_coverage_the_quality_gate_is_inconclusive_unless_told():
    items = [evidence("lint"), scan("sast"), evidence("unit", Status.SKIPPED)]
    assert quality(*items)[0] == Outcome.INCONCLUSIVE
    assert quality(*items, tests=False, coverage=None)[0] == Outcome.PASSED


def security(*items, **policy):
    return judged(gates.Security(policy=SecurityPolicy(**policy), clock=CLOCK), *items)


def test_the_security_gate_passes_what_is_sound():
    assert security(built(), vulnerability_scan("image-scan"))[0] == Outcome.PASSED


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        ([built(user="root"), vulnerability_scan("image-scan")], Outcome.FAILED),
        ([built(labels={}), vulnerability_scan("image-scan")], Outcome.FAILED),
        ([built(), vulnerability_scan("image-scan", finding(package="zlib"))], Outcome.FAILED),
        ([built(), evidence("image-scan", Status.ERRORED)], Outcome.ERRORED),
        ([built(), evidence("image-scan", Status.CANCELLED)], Outcome.INCONCLUSIVE),
        ([built(), evidence("image-scan")], Outcome.ERRORED),
    ],
)
def test_one_fault_stops_the_security_gate(items, outcome):
    assert security(*items)[0] == outcome


def test_root_can_be_allowed():
    items = (built(user="root"), vulnerability_scan("image-scan"))
    assert security(*items, non_root=False)[0] == Outcome.PASSED


@pytest.mark.parametrize("policy", [{"coverage": 101}, {"coverage": -1}, {"unknown": 1}])
def test_a_policy_that_makes_no_sense_is_refused(policy):
    with pytest.raises(ValidationError):
        QualityPolicy(**policy)


def test_policies_are_frozen_and_default_to_80_percent_and_high():
    policy = QualityPolicy()
    assert (policy.coverage, policy.fail_at) == (80.0, Severity.HIGH)
    assert policy.max_database_age == timedelta(days=7)
    with pytest.raises(ValidationError):
        policy.coverage = 1.0


def test_a_summary_of_several_lines_is_told_in_one():
    item = Evidence(stage="lint", status=Status.FAILED, summary="two\n  lines")
    assert judged(gates.Statuses(), item)[1] == ("lint: failed: two lines",)
