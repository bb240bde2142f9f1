from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from ci.records.report import render
from ci.records.run import CommandRecord, NodeKind, NodeRecord, RunRecord
from ci.records.verdicts import points
from ci.records.view import stopped_at, view
from ci.values import Evidence, Finding, Outcome, Severity, Status, Verdict
from tests.unit.records.samples import RUFF, START, failed_run, passed_run, record

VOID = {"meta", "link", "input", "br", "wbr", "path", "img"}
HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"


class Document(HTMLParser):
    """What is in a page: elements with attributes, the text, and whether it is well formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def empty_run() -> RunRecord:
    return record([], seconds=0, outcome=Outcome.ERRORED, exit_code=130).model_copy(
        update={"reason": "interrupted", "images": ()}
    )


def hostile_run() -> RunRecord:
    finding = Finding(
        scanner=HOSTILE,
        rule=HOSTILE,
        severity=Severity.LOW,
        message=HOSTILE,
        fingerprint="x",
        url="javascript:alert(1)",
    )
    evidence = Evidence(
        stage=HOSTILE, status=Status.FAILED, summary=HOSTILE, findings=(finding,), log=HOSTILE
    )
    node = NodeRecord(
        name=HOSTILE,
        status=Status.FAILED,
        started_at=START,
        finished_at=START,
        reason=HOSTILE,
        evidence=evidence,
        reports=(f"{HOSTILE}/x",),
    )
    return record([node], seconds=1, outcome=Outcome.FAILED, exit_code=1).model_copy(
        update={"pipeline": HOSTILE}
    )


ALL = {
    "passed": passed_run,
    "cached": lambda: passed_run(cached=True),
    "failed": failed_run,
    "empty": empty_run,
    "hostile": hostile_run,
}


@pytest.fixture(params=ALL)
def run(request) -> RunRecord:
    run: RunRecord = ALL[request.param]()
    return run


def test_every_element_is_closed(run: RunRecord):
    assert Document(render(run)).open == []


def test_the_page_asks_for_nothing_from_anywhere(run: RunRecord):
    document = Document(render(run))
    for _, attributes in document.elements:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert all((each["href"] or "").startswith("data:") for each in document.all("link"))
    style = files("ci.records").joinpath("report.css").read_text()
    assert "@import" not in style
    assert "url(" not in style


def test_only_our_script_may_run(run: RunRecord):
    document = Document(render(run))
    policy = next(
        each["content"] or ""
        for each in document.all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    for script in document.scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
    assert len(document.scripts) <= 1


def test_other_peoples_text_is_text():
    html = render(hostile_run())
    document = Document(html)
    assert document.all("img") == []
    assert "alert(1)</script>" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<img src=x onerror=alert(1)>" in document.text
    assert not any("javascript" in (each.get("href") or "") for each in document.all("a"))


def test_links_lead_to_sections_that_exist_to_report_files_or_to_the_web(run: RunRecord):
    document = Document(render(run))
    ids = {attributes["id"] for _, attributes in document.elements if "id" in attributes}
    reports = {name for node in run.nodes for name in node.reports} | {"run.json"}
    for link in document.all("a"):
        href = link["href"] or ""
        if href.startswith("#"):
            assert href[1:] in ids
        elif not href.startswith(("http://", "https://")):
            assert href in reports or "%3C" in href


def test_ids_are_unique(run: RunRecord):
    document = Document(render(run))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_node_is_on_the_page(run: RunRecord):
    text = Document(render(run)).text
    for node in run.nodes:
        if node.name != HOSTILE:
            assert node.name in text


def test_a_passed_run_says_where_it_is_live():
    document = Document(render(passed_run()))
    assert "18 steps in 1 min 20 s; live in development, staging and production" in document.text
    assert "http://127.0.0.1:8083" in [link["href"] for link in document.all("a")]


def test_the_way_ends_in_the_environments_whatever_their_nodes_are_called():
    run = passed_run()
    nodes = tuple(
        node.model_copy(update={"name": f"deploy-{node.name}"})
        if node.kind is NodeKind.DELIVERY
        else node
        for node in run.nodes
    )
    stops = view(run.model_copy(update={"nodes": nodes})).path
    assert [stop.name for stop in stops] == [
        "1.0.0", "quality", "build", "security", "development", "staging", "production",
    ]  # fmt: skip
    assert stops[-1].url == "http://127.0.0.1:8083"


def test_a_failed_run_says_what_stopped_it_and_shows_the_output():
    text = Document(render(failed_run())).text
    assert "Stopped at iac: trivy: timed out after 60 s" in text
    assert "hint: [stages.iac] timeout in ci.toml" in text
    assert "E assert 201 == 409" in text
    assert "integration, build, sbom, image-scan" in text


def test_a_gate_that_failed_by_itself_is_what_stopped_the_run():
    run = failed_run()
    nodes = tuple(
        node.model_copy(update={"status": Status.PASSED, "reason": ""})
        if node.name in {"iac", "unit"}
        else node
        for node in run.nodes
    )
    run = run.model_copy(update={"nodes": nodes, "outcome": Outcome.FAILED})
    assert "Stopped at quality: unit: 1 of 64 tests failed" in Document(render(run)).text


def test_where_a_stage_failed_stands_beside_it():
    run = failed_run()
    lint = Evidence(
        stage="lint",
        status=Status.FAILED,
        summary="12 findings",
        findings=tuple(RUFF.model_copy(update={"rule": f"S{number}"}) for number in range(12)),
    )
    nodes = tuple(
        node.model_copy(update={"status": Status.FAILED, "evidence": lint})
        if node.name == "lint"
        else node
        for node in run.nodes
    )
    faults = {one.node.name: one for one in view(run.model_copy(update={"nodes": nodes})).faults}
    first = "src/gym_api/api.py:42: S0 Use of possibly insecure function"
    assert faults["lint"].places[0].startswith(first)
    assert (len(faults["lint"].places), faults["lint"].more) == (10, 2)
    assert faults["unit"].places[0].startswith("test_a_taken_slug_is_a_conflict: ")


def test_a_gate_that_cannot_tell_is_no_fault_of_a_tool_on_the_time_axis():
    run = failed_run()
    verdicts = tuple(
        verdict.model_copy(update={"outcome": Outcome.INCONCLUSIVE}) for verdict in run.verdicts
    )
    bars = {bar.node.name: bar for bar in view(run.model_copy(update={"verdicts": verdicts})).bars}
    assert {bars[verdict.gate].state for verdict in verdicts} == {"inconclusive"}


def test_what_a_gate_says_stands_by_stage():
    gate = Verdict(
        gate="quality",
        outcome=Outcome.FAILED,
        reasons=("unit: 1 failed", "no sign of life", "unit: 70 % covered", "iac: skipped: no"),
    )
    said = [(point.stage, point.said) for point in points(gate, ["unit", "iac"])]
    assert said == [
        ("unit", ("1 failed", "70 % covered")),
        ("", ("no sign of life", "skipped: iac")),
    ]


def test_the_commands_of_a_stage_are_told_with_how_they_ended():
    run = passed_run()
    commands = (
        CommandRecord(args=("ruff", "check", HOSTILE), seconds=1.25, exit_code=1),
        CommandRecord(args=("pip", "install"), cached=True, exit_code=0),
    )
    nodes = tuple(node.model_copy(update={"commands": commands}) for node in run.nodes)
    document = Document(render(run.model_copy(update={"nodes": nodes})))
    assert document.text.count("1.2 s, exit code 1") == sum(1 for node in nodes if node.started_at)
    assert "pip install cached" in document.text
    assert len(document.scripts) == 1


def test_a_gate_that_stopped_a_run_is_told_of_in_one_reason():
    run = failed_run()
    gate = next(node for node in run.nodes if node.name == "quality")
    gate = gate.model_copy(update={"reason": "unit: 1 of 64 tests failed; lint: failed"})
    assert (
        stopped_at(run.model_copy(update={"nodes": (gate,)}))
        == "quality: unit: 1 of 64 tests failed"
    )


def test_stand_ins_and_the_small_database_cannot_be_overlooked():
    text = Document(render(passed_run())).text
    assert "The small vulnerability database was used: it knows 14 advisories." in text
    assert "2 images were not the published ones, but stand-ins" in text
    assert text.count("no container registry can be reached") == 2
    assert "14 advisories, 12 days old" in text


def test_a_scanner_that_was_not_proven_is_named():
    run = passed_run()
    node = next(node for node in run.nodes if node.name == "secrets")
    assert node.evidence
    scanner = node.evidence.scanners[0].model_copy(update={"proven": False})
    evidence = node.evidence.model_copy(update={"scanners": (scanner,)})
    nodes = tuple(
        each.model_copy(update={"evidence": evidence}) if each is node else each
        for each in run.nodes
    )
    text = Document(render(run.model_copy(update={"nodes": nodes}))).text
    assert "Not proven in this run that it can see: gitleaks." in text


def test_an_interrupted_run_says_so():
    assert "Interrupted" in Document(render(empty_run())).text


def test_every_finding_can_be_filtered_by_severity_and_scanner():
    run = failed_run()
    document = Document(render(run))
    rows = [each for each in document.all("tr") if "data-severity" in each]
    boxes = {each["value"] for each in document.all("input") if each.get("name") == "severity"}
    assert len(rows) == len(list(run.findings()))
    assert {row["data-severity"] for row in rows} == boxes


def test_the_same_record_makes_the_same_page():
    assert render(passed_run()) == render(passed_run())


# -- contrast, by WCAG 2.2, 1.4.3: 4.5 to 1 ---------------------------------------------------


def palette(*, dark: bool) -> dict[str, str]:
    style = files("ci.records").joinpath("report.css").read_text()
    first, second = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", first))
    return colours | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", second)) if dark else colours


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "ink",
    [*("ink", "muted", "link"), *map(str, Status), "inconclusive", *map(str, Severity)],
)
def test_text_stands_out_from_its_ground(ink: str, dark: bool):  # noqa: FBT001
    colours = palette(dark=dark)
    ink = "idle" if ink in {"skipped", "cancelled"} else ink
    for ground in ("card", "bg", "sunk") if ink in {"ink", "muted"} else ("card", "bg"):
        assert contrast(colours[ink], colours[ground]) >= 4.5, ground
