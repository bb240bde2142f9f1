"""What holds of every gate, for evidence at random."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci import gates
from ci.gates.protocol import Reason, fold, worst
from ci.values import Evidence, Outcome, Scanner, Severity, Status
from tests.unit.gates.evidence import FixedClock, any_evidence, finding, stages

BADNESS = {outcome: position for position, outcome in enumerate(Outcome)}
CLOCK = FixedClock()
GATES = [
    gates.Statuses(),
    gates.Statuses(required=("unit", "build")),
    gates.Tests(),
    gates.Coverage(),
    gates.Findings(scans=("sast",)),
    gates.Findings(fail_at=Severity.UNKNOWN),
    gates.Vulnerabilities(clock=CLOCK),
    gates.Vulnerabilities(clock=CLOCK, fixable_only=True, max_database_age=None),
    gates.Image(labels=("title",)),
    gates.Quality(clock=CLOCK),
    gates.Security(clock=CLOCK),
    gates.AllOf("all", (gates.Statuses(), gates.Coverage())),
    gates.AnyOf("any", (gates.Statuses(), gates.Coverage())),
]
few = settings(max_examples=40)
every_gate = pytest.mark.parametrize("gate", GATES, ids=lambda gate: type(gate).__name__)
some_evidence = st.lists(any_evidence, max_size=5)

bad_evidence = st.one_of(
    stages.map(lambda s: Evidence(stage=s, status=Status.FAILED)),
    stages.map(lambda s: Evidence(stage=s, status=Status.ERRORED)),
    stages.map(lambda s: Evidence(stage=s, status=Status.CANCELLED)),
    stages.map(
        lambda s: Evidence(
            stage=s,
            status=Status.PASSED,
            findings=(finding(Severity.CRITICAL), finding(Severity.CRITICAL, package="flask")),
            scanners=(Scanner(name="x", version="", proven=False),),
        )
    ),
)


def badness(gate, evidence):
    return BADNESS[gate.judge(evidence).outcome]


@every_gate
def test_nothing_to_judge_is_not_a_pass(gate):
    assert gate.judge([]).outcome == Outcome.INCONCLUSIVE
    assert gate.judge([]).reasons


@every_gate
def test_nothing_but_skipped_stages_is_not_a_pass(gate):
    skipped = [
        Evidence(stage=stage, status=Status.SKIPPED, summary="does not apply")
        for stage in ("unit", "sast", "dependencies", "image-scan", "build")
    ]
    assert gate.judge(skipped).outcome == Outcome.INCONCLUSIVE


@every_gate
@few
@given(some_evidence, st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_matter(gate, evidence, shuffle: random.Random):
    other = list(evidence)
    shuffle.shuffle(other)
    assert gate.judge(other) == gate.judge(evidence)


@every_gate
@few
@given(some_evidence, bad_evidence)
def test_adding_worse_evidence_never_makes_it_pass_or_better(gate, evidence, bad):
    if isinstance(gate, gates.AnyOf):
        return  # another of its gates may be the one that passes
    if isinstance(gate, gates.Statuses) and bad.status is Status.PASSED:  # looks at nothing else
        bad = bad.model_copy(update={"status": Status.FAILED})
    before, after = badness(gate, evidence), badness(gate, [*evidence, bad])
    nothing_judged = gate.judge(evidence).reasons == ("nothing to judge",)
    assert after >= before or nothing_judged


@every_gate
@few
@given(some_evidence, st.data())
def test_more_severe_findings_never_improve_it(gate, evidence, data):
    if not any(item.findings for item in evidence):
        return
    worse = [
        item.model_copy(
            update={
                "findings": tuple(
                    f.model_copy(
                        update={
                            "severity": max(
                                (f.severity, data.draw(st.sampled_from(list(Severity)[2:]))),
                                key=lambda severity: severity.rank,
                            )
                        }
                    )
                    for f in item.findings
                )
            }
        )
        for item in evidence
    ]
    assert badness(gate, worse) >= badness(gate, evidence)


@every_gate
@few
@given(some_evidence)
def test_what_did_not_pass_says_why(gate, evidence):
    verdict = gate.judge(evidence)
    assert verdict.reasons or verdict.outcome == Outcome.PASSED
    assert all(reason.strip() and "\n" not in reason for reason in verdict.reasons)
    assert len(set(verdict.reasons)) == len(verdict.reasons)


@given(some_evidence)
def test_a_scan_that_was_not_proven_never_passes(evidence):
    unproven = Evidence(
        stage="dependencies",
        status=Status.PASSED,
        scanners=(Scanner(name="trivy", version="0.59.1", proven=False),),
    )
    for gate in (gates.Quality(clock=CLOCK), gates.Findings(), gates.Vulnerabilities(clock=CLOCK)):
        assert gate.judge([*evidence, unproven]).outcome == Outcome.ERRORED


@given(st.lists(st.sampled_from(list(Outcome)), min_size=1))
def test_the_worst_outcome_wins(outcomes):
    assert worst(outcomes) == max(outcomes, key=BADNESS.__getitem__)
    reasons = [Reason(outcome, f"because {i}") for i, outcome in enumerate(outcomes)]
    assert fold("g", reasons).outcome == worst(outcomes)


def test_of_no_outcomes_the_worst_is_inconclusive():
    assert worst([]) == Outcome.INCONCLUSIVE


def test_outcomes_are_ordered_from_best_to_worst():
    assert list(Outcome) == [
        Outcome.PASSED,
        Outcome.INCONCLUSIVE,
        Outcome.FAILED,
        Outcome.ERRORED,
    ]


@given(some_evidence)
def test_all_of_is_the_worst_of_its_gates_and_any_of_the_best(evidence):
    parts = (gates.Statuses(), gates.Tests(), gates.Coverage())
    each = [badness(gate, evidence) for gate in parts]
    assert badness(gates.AllOf("all", parts), evidence) == max(each)
    assert badness(gates.AnyOf("any", parts), evidence) == min(each)


def test_all_of_and_any_of_no_gates_are_inconclusive():
    passed = [Evidence(stage="lint", status=Status.PASSED)]
    assert gates.AllOf("all", ()).judge(passed).outcome == Outcome.INCONCLUSIVE
    assert gates.AnyOf("any", ()).judge(passed).outcome == Outcome.INCONCLUSIVE
