"""Places for the nodes of a graph: levels from top to bottom, few crossings, short edges. Pure.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System
Structures", 1981. The places within a level are the exact least squares that keep order and
distance (pool adjacent violators).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ci.graph import Graph

__all__ = ["Layout", "Point", "arrange"]

Point = tuple[float, float]
#: A node by its name, or a bend of an edge: (from, to, level).
Spot = str | tuple[str, str, int]

_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 12
#: A bend takes this much room, in pixels.
_BEND = 12.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Centres of the nodes, and for each edge the points that it passes, in pixels."""

    width: float
    height: float
    centres: Mapping[str, Point]
    edges: Mapping[tuple[str, str], tuple[Point, ...]]


def arrange(
    graph: Graph[str], widths: Mapping[str, float], *, gap: float, level_height: float
) -> Layout:
    """A layout of nodes of these widths, ``gap`` apart. Edges go from what is needed down."""
    rows, links = _spots(graph)
    rows = _fewest_crossings(rows, links)
    size = {spot: widths.get(spot, _BEND) if isinstance(spot, str) else _BEND
            for row in rows for spot in row}  # fmt: skip
    x = _places(rows, links, size, gap)
    left = min((x[spot] - size[spot] / 2 for row in rows for spot in row), default=0.0)
    right = max((x[spot] + size[spot] / 2 for row in rows for spot in row), default=0.0)
    place = {
        spot: (x[spot] - left, (level + 0.5) * level_height)
        for level, row in enumerate(rows)
        for spot in row
    }
    return Layout(
        width=right - left,
        height=len(rows) * level_height,
        centres={name: place[name] for name in graph.order},
        edges={
            (before, name): tuple(place[spot] for spot in _path(before, name, rows))
            for name in graph.order
            for before in graph.needs[name]
        },
    )


def _path(before: str, name: str, rows: Sequence[Sequence[Spot]]) -> list[Spot]:
    bends = [(before, name, level) for level in range(len(rows))]
    return [before, *(bend for bend in bends if bend in rows[bend[2]]), name]


def _spots(graph: Graph[str]) -> tuple[list[list[Spot]], list[tuple[Spot, Spot]]]:
    """Levels with a bend wherever an edge passes one, and the links between adjacent levels."""
    rows: list[list[Spot]] = [list(level) for level in graph.levels()]
    depth = {name: number for number, level in enumerate(graph.levels()) for name in level}
    links: list[tuple[Spot, Spot]] = []
    for name in graph.order:
        for before in graph.needs[name]:
            chain: list[Spot] = [before]
            for level in range(depth[before] + 1, depth[name]):
                rows[level].append((before, name, level))
                chain.append((before, name, level))
            links += pairwise([*chain, name])
    return rows, links


def _neighbours(links: Iterable[tuple[Spot, Spot]]) -> tuple[_Near, _Near]:
    above: dict[Spot, list[Spot]] = {}
    below: dict[Spot, list[Spot]] = {}
    for upper, lower in links:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


_Near = dict[Spot, list[Spot]]


def _fewest_crossings(
    rows: list[list[Spot]], links: Sequence[tuple[Spot, Spot]]
) -> list[list[Spot]]:
    """Barycentre sweeps down and up; the best order that was seen."""
    above, below = _neighbours(links)
    best, fewest = rows, _crossings(rows, links)
    for sweep in range(_ORDER_SWEEPS):
        near = above if sweep % 2 == 0 else below
        at = {spot: number for row in rows for number, spot in enumerate(row)}
        swept = []
        for row in rows if near is above else reversed(rows):
            ordered = sorted(
                row, key=lambda spot: _mean([at[n] for n in near.get(spot, ())], at[spot])
            )
            at.update({spot: number for number, spot in enumerate(ordered)})
            swept.append(ordered)
        rows = swept if near is above else swept[::-1]
        count = _crossings(rows, links)
        if count < fewest:
            best, fewest = rows, count
    return best


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(rows: Sequence[Sequence[Spot]], links: Sequence[tuple[Spot, Spot]]) -> int:
    at = {
        spot: (level, number) for level, row in enumerate(rows) for number, spot in enumerate(row)
    }
    by_level: dict[int, list[tuple[int, int]]] = {}
    for upper, lower in links:
        by_level.setdefault(at[upper][0], []).append((at[upper][1], at[lower][1]))
    return sum(
        (a[0] - b[0]) * (a[1] - b[1]) < 0
        for pairs in by_level.values()
        for number, a in enumerate(pairs)
        for b in pairs[:number]
    )


def _places(
    rows: Sequence[Sequence[Spot]],
    links: Sequence[tuple[Spot, Spot]],
    size: Mapping[Spot, float],
    gap: float,
) -> dict[Spot, float]:
    """Each spot near the mean of its neighbours, in sweeps down and up."""
    above, below = _neighbours(links)
    x: dict[Spot, float] = {}
    for row in rows:
        x.update(_apart(row, dict.fromkeys(row, 0.0), size, gap))
    for sweep in range(_PLACE_SWEEPS):
        near = above if sweep % 2 else below
        for row in rows if near is above else reversed(rows):
            wanted = {spot: _mean([x[n] for n in near.get(spot, ())], x[spot]) for spot in row}
            x.update(_apart(row, wanted, size, gap))
    return x


def _apart(
    row: Sequence[Spot], wanted: Mapping[Spot, float], size: Mapping[Spot, float], gap: float
) -> dict[Spot, float]:
    """The places nearest to those wanted that keep the order and the distances."""
    offsets: list[float] = []
    for number, spot in enumerate(row):
        before = row[number - 1] if number else spot
        step = (size[before] + size[spot]) / 2 + gap if number else 0.0
        offsets.append((offsets[-1] if offsets else 0.0) + step)
    blocks: list[tuple[float, int]] = []
    for spot, offset in zip(row, offsets, strict=True):
        blocks.append((wanted[spot] - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, n), (second, m) = blocks[-2:]
            blocks[-2:] = [((first * n + second * m) / (n + m), n + m)]
    bases = [base for base, count in blocks for _ in range(count)]
    return {spot: base + offset for spot, base, offset in zip(row, bases, offsets, strict=True)}
