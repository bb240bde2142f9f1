"""Baselines and waivers."""

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from ci.findings.baseline import Baseline
from ci.findings.report import ReportError
from ci.findings.twins import without_twins
from ci.findings.waivers import Waiver, Waivers
from ci.values import Finding, Package, Place, Severity


class FixedClock:
    def __init__(self, moment):
        self._moment = moment

    def now(self):
        return self._moment

    def monotonic(self):
        raise NotImplementedError

    async def sleep(self, seconds):
        raise NotImplementedError


def finding(rule="S307", path="app/api.py", package="", fingerprint="f1", **fields):
    return Finding(
        **{
            "scanner": "ruff",
            "rule": rule,
            "severity": Severity.HIGH,
            "message": "eval",
            "place": Place(path=path, line=3),
            "package": Package(name=package, version="1") if package else None,
            "fingerprint": fingerprint,
            **fields,
        }
    )


def waive(waiver, found, *, today=date(2026, 6, 1)):
    moment = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    (marked,), notes = Waivers([waiver], clock=FixedClock(moment))([found])
    return marked.waived, notes


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"rule": "S307"}, True),
        ({"rule": "S308"}, False),
        ({"fingerprint": "f1"}, True),
        ({"fingerprint": "f2"}, False),
        ({"package": "jinja2"}, True),
        ({"package": "flask"}, False),
        ({"rule": "S307", "path": "app/*"}, True),
        ({"rule": "S307", "path": "tests/*"}, False),
        ({"rule": "S307", "package": "flask"}, False),
    ],
)
def test_a_waiver_covers_what_matches_all_that_it_names(fields, matches):
    waiver = Waiver(**fields, reason="known", expires=date(2026, 7, 1))
    waived, _ = waive(waiver, finding(package="jinja2"))
    assert bool(waived) == matches


def test_a_waiver_counts_through_its_last_day_and_says_its_reason():
    waiver = Waiver(rule="S307", reason="sandboxed", expires=date(2026, 6, 1))
    assert waive(waiver, finding()) == ("sandboxed (until 2026-06-01)", ())


def test_an_expired_waiver_does_not_count_and_says_so():
    waiver = Waiver(rule="S307", reason="sandboxed", expires=date(2026, 5, 31))
    waived, (note,) = waive(waiver, finding())
    assert waived == ""
    assert "the waiver for S307 expired on 2026-05-31 (sandboxed)" in note


def test_an_expired_waiver_of_something_cured_says_nothing():
    waiver = Waiver(rule="S999", reason="sandboxed", expires=date(2026, 5, 31))
    assert waive(waiver, finding()) == ("", ())


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "why", "expires": date(2026, 1, 1)},
        {"path": "a", "reason": "why", "expires": date(2026, 1, 1)},
        {"rule": "S1", "reason": "  ", "expires": date(2026, 1, 1)},
        {"rule": "S1", "reason": "why"},
        {"rule": "S1", "expires": date(2026, 1, 1)},
    ],
)
def test_a_waiver_needs_a_subject_a_reason_and_a_date(fields):
    with pytest.raises(ValidationError):
        Waiver(**fields)


def test_only_findings_that_are_not_in_the_baseline_count():
    baseline = Baseline.of([finding(fingerprint="old")])
    (old, new), notes = baseline([finding(fingerprint="old"), finding(fingerprint="new")])
    assert (old.waived, new.waived) == ("known: it is in the baseline", "")
    assert notes == ()


@pytest.mark.parametrize("prints", [(), ("b", "a"), ("a",)])
def test_a_baseline_is_read_back_as_it_was_written(prints):
    baseline = Baseline(fingerprints=frozenset(prints))
    assert Baseline.parse(baseline.write()) == baseline


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "fingerprints": []}', '{"version": 1, "fing']
)
def test_a_baseline_that_cannot_be_read_is_an_error(text):
    with pytest.raises(ReportError, match="the baseline cannot be read"):
        Baseline.parse(text)


def test_bandits_twin_of_a_ruff_finding_is_left_out_and_lends_its_severity():
    ruff = finding("S506", severity=Severity.LOW)
    bandit = finding("B506", scanner="bandit", severity=Severity.MEDIUM)
    alone = finding("B506", scanner="bandit", path="other.py")
    assert without_twins([bandit, ruff, alone]) == (
        ruff.model_copy(update={"severity": Severity.MEDIUM}),
        alone,
    )
