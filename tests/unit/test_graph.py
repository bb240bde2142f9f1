from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.errors import ConfigError
from ci.graph import CycleError, Graph, UnknownNodeError, nearest

PIPELINE = {
    "lint": (),
    "unit": (),
    "quality": ("lint", "unit"),
    "build": ("quality",),
    "sbom": ("build",),
    "scan": ("build",),
    "security": ("sbom", "scan"),
}


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    """Random acyclic graphs, declared in a random order."""
    count = draw(st.integers(0, 12))
    names = [f"n{number}" for number in range(count)]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        for number, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@given(dags())
def test_what_is_needed_comes_first(needs: dict[str, list[str]]) -> None:
    order = Graph(needs).order
    assert sorted(order) == sorted(needs)
    for name, before in needs.items():
        assert all(order.index(other) < order.index(name) for other in before)


@given(dags())
def test_the_order_is_the_least_by_declaration(needs: dict[str, list[str]]) -> None:
    left = dict(needs)
    expected = []
    while left:
        first = next(name for name, before in left.items() if not left.keys() & set(before))
        expected.append(first)
        del left[first]
    assert list(Graph(needs).order) == expected


def test_an_acyclic_declaration_order_is_kept() -> None:
    assert Graph(PIPELINE).order == tuple(PIPELINE)


@given(dags(), st.data())
def test_a_back_edge_is_a_cycle_that_the_error_carries(
    needs: dict[str, list[str]], data: st.DataObject
) -> None:
    graph = Graph(needs)
    pairs = [(a, b) for a in needs for b in (*graph.ancestors(a), a)]
    if not pairs:
        return
    low, high = data.draw(st.sampled_from(sorted(pairs)))
    cyclic = {**needs, high: [*needs[high], low]}
    with pytest.raises(CycleError) as caught:
        Graph(cyclic)
    cycle = caught.value.cycle
    for name, other in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
        assert other in cyclic[name]
    assert len(set(cycle)) == len(cycle)


def test_the_cycle_error_reads_well() -> None:
    with pytest.raises(CycleError) as caught:
        Graph({"start": (), "a": ("start", "c"), "b": ("a",), "c": ("b",)})
    assert caught.value.cycle == ("a", "c", "b")
    assert str(caught.value).startswith("cycle in the graph: a -> c -> b -> a\nhint: ")
    assert isinstance(caught.value, ConfigError)


def test_an_unknown_need_names_the_nearest_node() -> None:
    with pytest.raises(UnknownNodeError, match="did you mean lint") as caught:
        Graph({"lint": (), "quality": ("lnit",)})
    assert "quality needs lnit" in str(caught.value)


def test_an_unknown_name_with_nothing_near_has_no_hint() -> None:
    with pytest.raises(UnknownNodeError) as caught:
        Graph(PIPELINE).only(["xyzzy"])
    assert "hint" not in str(caught.value)
    assert nearest("xyzzy", PIPELINE) == ""


@given(dags())
def test_ancestors_and_descendants_mirror_each_other(needs: dict[str, list[str]]) -> None:
    graph = Graph(needs)
    for a in needs:
        assert a not in graph.ancestors(a)
        for b in needs:
            assert (b in graph.ancestors(a)) == (a in graph.descendants(b))


def test_only_keeps_what_is_needed_and_nothing_else() -> None:
    assert Graph(PIPELINE).only(["unit"]).order == ("unit",)
    assert Graph(PIPELINE).only(["scan"]).order == ("lint", "unit", "quality", "build", "scan")


@given(dags())
def test_levels_stand_one_below_the_lowest_need(needs: dict[str, list[str]]) -> None:
    graph = Graph(needs)
    level = {name: depth for depth, layer in enumerate(graph.levels()) for name in layer}
    for name, before in needs.items():
        assert level[name] == 1 + max((level[other] for other in before), default=-1)


@given(dags())
def test_reduction_keeps_the_reach_and_needs_every_edge(needs: dict[str, list[str]]) -> None:
    graph, reduced = Graph(needs), Graph(needs).reduced()
    for name in needs:
        assert reduced.ancestors(name) == graph.ancestors(name)
        for other in reduced.needs[name]:
            rest = {**reduced.needs, name: [n for n in reduced.needs[name] if n != other]}
            assert other not in Graph(rest).ancestors(name)


@given(dags(), st.data())
def test_the_critical_path_is_the_longest_chain(
    needs: dict[str, list[str]], data: st.DataObject
) -> None:
    graph = Graph(needs)
    seconds = {name: float(data.draw(st.integers(0, 9))) for name in sorted(needs)}

    def longest(name: str) -> float:
        return seconds[name] + max((longest(other) for other in needs[name]), default=0.0)

    path, total = graph.critical_path(seconds)
    assert total == max((longest(name) for name in needs), default=0.0)
    assert total == sum(seconds[name] for name in path)
    for before, name in itertools.pairwise(path):
        assert before in needs[name]


def test_a_deep_graph_needs_no_recursion() -> None:
    names = [f"n{number}" for number in range(5000)]
    graph = Graph({name: names[max(0, at - 1) : at] for at, name in enumerate(names)})
    assert graph.order == tuple(names)
    assert len(graph.ancestors(names[-1])) == len(names) - 1
    assert graph.critical_path(dict.fromkeys(names, 1.0)) == (tuple(names), 5000.0)
