"""What a gate relies on from whatever accepts findings: waivers, baselines, and a user's own."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.findings.baseline import Baseline
from ci.findings.waivers import Waiver, Waivers
from ci.gates.protocol import Acceptance
from tests.unit.gates.evidence import FixedClock, findings

WAIVERS = [
    Waiver(rule="S307", reason="sandboxed", expires=date(2099, 1, 1)),
    Waiver(package="flask", reason="not reachable", expires=date(2020, 1, 1)),
]
ACCEPTANCES = [
    Waivers(WAIVERS, clock=FixedClock()),
    Waivers([]),
    Baseline(fingerprints=frozenset({"S3071", "CVE-2024-221952jinja2"})),
    Baseline(),
]
every_acceptance = pytest.mark.parametrize(
    "acceptance", ACCEPTANCES, ids=lambda acceptance: type(acceptance).__name__
)


@every_acceptance
@given(st.lists(findings, max_size=5))
def test_findings_come_back_in_order_and_unchanged_but_for_the_mark(
    acceptance: Acceptance, findings
):
    marked, notes = acceptance(findings)
    unmarked = [after.model_copy(update={"waived": ""}) for after in marked]
    assert unmarked == [before.model_copy(update={"waived": ""}) for before in findings]
    assert all(note.strip() for note in notes)


@every_acceptance
@given(st.lists(findings, max_size=5))
def test_a_mark_that_is_there_is_never_taken_away_or_rewritten(acceptance: Acceptance, findings):
    marked, _ = acceptance(findings)
    for before, after in zip(findings, marked, strict=True):
        assert not before.waived or after.waived == before.waived


@every_acceptance
@given(st.lists(findings, max_size=5))
def test_accepting_twice_is_accepting_once(acceptance: Acceptance, findings):
    once, notes = acceptance(findings)
    assert acceptance(once) == (once, notes)
