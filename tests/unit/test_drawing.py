from __future__ import annotations

import re
from itertools import pairwise

import pytest
from defusedxml import ElementTree
from hypothesis import given
from hypothesis import strategies as st

from ci.drawing import as_mermaid, as_svg, as_text
from ci.drawing.layout import arrange
from ci.events import NodePlan
from ci.graph import Graph
from ci.values import Status

SVG = "{http://www.w3.org/2000/svg}"

PLAN = (
    NodePlan(name="lint"),
    NodePlan(name="end"),
    NodePlan(name="quality", kind="gate", needs=("lint", "end")),
    NodePlan(name="build", needs=("quality", "lint")),
    NodePlan(name="staging", kind="delivery", needs=("build",)),
    NodePlan(name="prune", kind="cleanup", needs=("build",)),
)
STATUSES = {
    "lint": Status.FAILED,
    "end": Status.PASSED,
    "quality": Status.FAILED,
    "build": Status.CANCELLED,
    "staging": Status.CANCELLED,
    "prune": Status.SKIPPED,
}


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{number}" for number in range(draw(st.integers(0, 14)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=4))
        if number
        else []
        for number, name in enumerate(names)
    }


def test_text_tells_levels_kinds_and_needs() -> None:
    assert as_text(PLAN) == (
        "1  lint\n"
        "   end\n"
        "2  quality  gate      after lint, end\n"
        "3  build              after quality\n"
        "4  staging  delivery  after build\n"
        "   prune    clean-up  after build\n"
    )


def test_text_marks_how_nodes_ended() -> None:
    lines = as_text(PLAN, STATUSES).splitlines()
    assert lines[0] == "1  ✗ lint"
    assert lines[1] == "   ✓ end"
    assert lines[-1] == "   - prune    clean-up  after build"


def test_nothing_is_drawn_of_nothing() -> None:
    assert as_text(()) == ""
    assert as_mermaid(()) == "flowchart TB\n"
    assert ElementTree.fromstring(as_svg(())).tag == f"{SVG}svg"


def test_mermaid_has_each_node_once_and_only_edges_that_no_other_implies() -> None:
    chart = as_mermaid(PLAN)
    assert [line.strip() for line in chart.splitlines()] == [
        "flowchart TB",
        'n0("lint")',
        'n1("end")',
        'n2{{"quality"}}',
        'n3("build")',
        'n4[["staging"]]',
        'n5(["prune"])',
        "n0 --> n2",
        "n1 --> n2",
        "n2 --> n3",
        "n3 --> n4",
        "n3 --> n5",
    ]


def test_mermaid_styles_only_what_ended() -> None:
    chart = as_mermaid(PLAN, {"lint": Status.FAILED})
    assert "class n0 failed" in chart
    assert "passed" not in chart
    assert 'n0("✗ lint")' in chart


def test_mermaid_labels_cannot_break_out() -> None:
    chart = as_mermaid((NodePlan(name='a"] --> x; <script>#'),))
    assert chart.splitlines()[1] == '  n0("a#quot;] --> x; #lt;script>#35;")'


@pytest.mark.parametrize("statuses", [{}, STATUSES])
def test_the_picture_is_xml_with_a_labelled_shape_for_each_node(
    statuses: dict[str, Status],
) -> None:
    root = ElementTree.fromstring(as_svg(PLAN, statuses, title="gym <api>", seconds={"lint": 1.25}))
    assert root.findtext(f"{SVG}title") == "gym <api>"
    groups = root.findall(f"{SVG}g/{SVG}g")
    assert [group.findtext(f"{SVG}text", "").split()[-1] for group in groups] == [
        node.name for node in PLAN
    ]
    for group, node in zip(groups, PLAN, strict=True):
        status = statuses.get(node.name)
        assert group.get("class", "").split() == [node.kind, *([status.value] if status else [])]
    assert groups[0].findtext(f"{SVG}title", "").endswith("1.2 s")
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "edge"]) == 5


def test_the_picture_asks_for_nothing_from_outside_and_touches_nothing_else() -> None:
    picture = as_svg(PLAN, STATUSES)
    assert re.findall(r"https?://[^\"\s]+", picture) == ["http://www.w3.org/2000/svg"]
    assert "<script" not in picture
    style = re.sub(r"@media[^{]*\{", "", picture[picture.index("<style>") + 7 :])
    selectors = re.findall(r"(?:^|\}|\n|,)\s*(\.[^{};:\n]+)\{", style.split("</style>")[0])
    assert selectors
    assert all(selector.startswith(".tp") for selector in selectors)


@given(dags())
def test_boxes_do_not_overlap_and_lie_within_the_picture(needs: dict[str, list[str]]) -> None:
    widths = {name: 30.0 + 17 * (number % 4) for number, name in enumerate(needs)}
    layout = arrange(Graph(needs).reduced(), widths, gap=10, level_height=50)
    for name, (x, y) in layout.centres.items():
        assert x - widths[name] / 2 >= -0.01
        assert x + widths[name] / 2 <= layout.width + 0.01
        assert 0 < y < layout.height
    for level in Graph(needs).reduced().levels():
        row = sorted(level, key=lambda name: layout.centres[name][0])
        for left, right in pairwise(row):
            apart = layout.centres[right][0] - layout.centres[left][0]
            assert apart >= (widths[left] + widths[right]) / 2 + 10 - 0.01


@given(dags())
def test_edges_join_their_nodes_and_go_down_level_by_level(needs: dict[str, list[str]]) -> None:
    graph = Graph(needs).reduced()
    layout = arrange(graph, dict.fromkeys(needs, 40.0), gap=10, level_height=50)
    assert set(layout.edges) == {(before, name) for name in needs for before in graph.needs[name]}
    for (before, name), points in layout.edges.items():
        assert points[0] == layout.centres[before]
        assert points[-1] == layout.centres[name]
        assert all(lower[1] - upper[1] == 50 for upper, lower in pairwise(points))


def test_two_chains_side_by_side_do_not_cross() -> None:
    needs = {"a": [], "b": [], "b2": ["b"], "a2": ["a"], "a3": ["a2"], "b3": ["b2"]}
    layout = arrange(Graph(needs), dict.fromkeys(needs, 40.0), gap=10, level_height=50)
    x = {name: point[0] for name, point in layout.centres.items()}
    assert x["a"] == x["a2"] == x["a3"]
    assert x["b"] == x["b2"] == x["b3"]
