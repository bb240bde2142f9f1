"""JUnit XML, in pytest's dialect and the common ones, becomes test counts and cases.

Source: https://github.com/testmoapp/junitxml and pytest's ``junitxml`` plugin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ci.findings.report import ReportError
from ci.values import Status, TestCase, TestCounts, Tests

__all__ = ["parse"]

_EXPECTED = "JUnit XML: <testsuites> or <testsuite>"
#: Characters of a failure that are kept: enough for the assertion and the last frames.
_MESSAGE_LIMIT = 4000
_TEARDOWN = "failed on teardown"


def parse(text: str, *, slow_seconds: float = 1.0, subject: str = "the JUnit report") -> Tests:
    """Counts of all cases, and the cases that did not pass or took ``slow_seconds`` or longer.

    A ``<failure>`` is the code's fault: failed. An ``<error>`` (a broken fixture, a module that
    cannot be imported) is errored. A test that failed and whose teardown broke too is one test,
    and failed.

    Raises:
        ReportError: it is no JUnit XML, or it declares more tests, failures or errors than it has.
    """
    if not text.strip():
        raise ReportError(subject, got="an empty report", expected=_EXPECTED)
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ReportError(subject, got=f"no XML: {error!r}", expected=_EXPECTED) from error
    if root.tag not in {"testsuites", "testsuite"}:
        raise ReportError(subject, got=f"<{root.tag}>", expected=_EXPECTED)
    _check_declared(root, subject)
    cases = _merged(_case(element, subject) for element in root.iter("testcase"))
    count = Counter(case.status for case in cases)
    return Tests(
        counts=TestCounts(
            passed=count[Status.PASSED],
            failed=count[Status.FAILED],
            errored=count[Status.ERRORED],
            skipped=count[Status.SKIPPED],
        ),
        cases=tuple(
            case for case in cases if case.status != Status.PASSED or case.seconds >= slow_seconds
        ),
    )


def _check_declared(root: Element, subject: str) -> None:
    """A report cut short, or of a dialect we misread, says more than it shows."""
    for suite in (root, *root.iter("testsuite")):
        for name, shown in (
            ("tests", sum(1 for _ in suite.iter("testcase"))),
            ("failures", sum(1 for _ in suite.iter("failure"))),
            ("errors", sum(1 for _ in suite.iter("error"))),
        ):
            declared = suite.get(name, "0")
            if declared.isdecimal() and int(declared) > shown:
                got = f'{name}="{declared}" but {shown} of them'
                raise ReportError(subject, got=got, expected="as many as it declares")


def _case(element: Element, subject: str) -> TestCase:
    failure, error, skipped = (element.find(tag) for tag in ("failure", "error", "skipped"))
    status = Status.PASSED
    if failure is not None:
        status = Status.FAILED
    elif error is not None:
        status = Status.ERRORED
    elif skipped is not None:
        status = Status.SKIPPED
    try:
        seconds = float(element.get("time") or 0)
    except ValueError as cause:
        got = f'time="{element.get("time")}"'
        raise ReportError(subject, got=got, expected="seconds as a number") from cause
    parts = [_message(part) for part in (failure, error, skipped) if part is not None]
    return TestCase(
        suite=element.get("classname", ""),
        name=element.get("name", ""),
        status=status,
        seconds=seconds,
        message="\n".join(part for part in parts if part),
    )


def _message(element: Element) -> str:
    """The attribute's sentence, then the end of the traceback."""
    first = element.get("message", "").strip()[:_MESSAGE_LIMIT]
    body = (element.text or "").strip()
    room = _MESSAGE_LIMIT - len(first)
    return "\n".join(part for part in (first, body[-room:] if room else "") if part)


def _merged(cases: Iterable[TestCase]) -> list[TestCase]:
    """Pytest reports a broken teardown as a case of its own, next after the test's."""
    merged: list[TestCase] = []
    for case in cases:
        last = merged[-1] if merged else None
        if last and _is_teardown_of(case, last):
            status = Status.FAILED if last.status == Status.FAILED else case.status
            message = "\n".join(part for part in (last.message, case.message) if part)
            merged[-1] = last.model_copy(update={"status": status, "message": message})
        else:
            merged.append(case)
    return merged


def _is_teardown_of(case: TestCase, test: TestCase) -> bool:
    return (
        (case.suite, case.name) == (test.suite, test.name)
        and case.status == Status.ERRORED
        and case.message.startswith(_TEARDOWN)
    )
