from pathlib import Path

import pytest

from ci.findings import junit
from ci.findings.report import ReportError
from ci.values import Status, TestCounts

REPORTS = Path(__file__).parent / "reports"


def suite(*cases, attributes=""):
    return f'<testsuites><testsuite name="s" {attributes}>{"".join(cases)}</testsuite></testsuites>'


def case(name, body="", time="0.1"):
    return f'<testcase classname="t" name="{name}" time="{time}">{body}</testcase>'


def test_pytests_failures_errors_and_skips_are_told_apart():
    tests = junit.parse((REPORTS / "pytest.xml").read_text())
    assert tests.counts == TestCounts(passed=4, failed=2, errored=3, skipped=2)
    statuses = {c.name: c.status for c in tests.cases}
    assert statuses["test_fail"] == Status.FAILED
    assert statuses["test_err"] == Status.ERRORED
    assert statuses["tests.test_coll"] == Status.ERRORED
    assert "test_ok" not in statuses


def test_a_test_that_failed_and_whose_teardown_broke_is_one_and_failed():
    tests = junit.parse((REPORTS / "pytest.xml").read_text())
    (both,) = [c for c in tests.cases if c.name == "test_both"]
    assert both.status == Status.FAILED
    assert "assert False" in both.message
    assert "failed on teardown" in both.message


def test_a_test_whose_teardown_alone_broke_is_errored():
    text = suite(case("a"), case("a", '<error message="failed on teardown with x"/>'))
    assert junit.parse(text).counts == TestCounts(errored=1)


def test_two_tests_of_the_same_name_are_two():
    text = suite(case("a"), case("a", '<error message="failed on setup"/>'), case("a"))
    assert junit.parse(text).counts == TestCounts(passed=2, errored=1)


def test_the_old_dialect_is_read():
    tests = junit.parse((REPORTS / "pytest-xunit1.xml").read_text())
    assert tests.counts == TestCounts(passed=1, failed=1)


def test_a_lone_suite_is_read():
    assert junit.parse(f'<testsuite tests="1">{case("a")}</testsuite>').counts.passed == 1


def test_slow_tests_are_kept_and_quick_ones_are_not():
    tests = junit.parse(suite(case("slow", time="2.5"), case("quick")), slow_seconds=2)
    assert [(c.name, c.seconds) for c in tests.cases] == [("slow", 2.5)]


def test_a_long_traceback_is_cut_and_keeps_its_sentence_and_its_end():
    body = f'<failure message="it broke">{"x" * 10_000} the end</failure>'
    (found,) = junit.parse(suite(case("a", body))).cases
    assert found.message.startswith("it broke")
    assert found.message.endswith("the end")
    assert len(found.message) < 5_000


def test_no_tests_is_a_count_of_nothing():
    assert junit.parse(suite(attributes='tests="0"')).counts.total == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<html/>",
        suite(case("a"))[:-5],
        suite(case("a"), attributes='tests="2"'),
        suite(case("a"), attributes='failures="1"'),
        suite(case("a"), attributes='errors="1"'),
        suite(case("a", time="soon")),
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuites>&a;</testsuites>',
    ],
)
def test_a_report_that_cannot_be_read_is_an_error_and_never_empty(text):
    with pytest.raises(ReportError, match=r"cannot be read: got .*; expected .*"):
        junit.parse(text)
