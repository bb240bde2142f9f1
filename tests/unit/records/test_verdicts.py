from ci.records.verdicts import reasons_told, together
from ci.values import Outcome, Verdict


def verdict(outcome: Outcome, *reasons: str) -> Verdict:
    return Verdict(gate="quality", outcome=outcome, reasons=reasons)


def test_what_passed_needs_no_reasons():
    assert reasons_told(verdict(Outcome.PASSED, "lint: passed")) == []


def test_beside_what_stands_against_it_the_skipped_are_only_named():
    told = reasons_told(
        verdict(
            Outcome.FAILED,
            "unit: 2 of 3 tests failed",
            "iac: skipped: nothing to look at",
            "types: skipped: the code does not say that it is typed",
        )
    )
    assert told == ["unit: 2 of 3 tests failed", "skipped: iac, types"]


def test_where_nothing_was_judged_it_is_told_why_all_was_skipped():
    reasons = ("nothing to judge", "iac: skipped: nothing to look at")
    assert reasons_told(verdict(Outcome.INCONCLUSIVE, *reasons)) == list(reasons)


def test_stages_of_which_the_same_is_said_are_one_line():
    reasons = [
        "build: cancelled: quality failed",
        "lint: failed",
        "scan: cancelled: quality failed",
    ]
    assert together(reasons) == ["build, scan: cancelled: quality failed", "lint: failed"]
