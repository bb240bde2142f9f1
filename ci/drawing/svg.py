"""The graph as a self-contained SVG picture, for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from ci.drawing.layout import Layout, Point, arrange
from ci.drawing.marks import MARKS
from ci.events import NodePlan
from ci.graph import Graph
from ci.values import Status

__all__ = ["as_svg"]

_HEIGHT = 34.0
_LEVEL = 70.0
_GAP = 14.0
_MARGIN = 12.0
#: Of one character at 13 pixels, and of the space beside the label.
_CHARACTER = 7.4
_PADDING = 30.0
_SLANT = 12.0

_STYLE = """
.tp{--paper:#fff;--ink:#1f2328;--soft:#59636e;--line:#afb8c1;--node:#f6f8fa;--edge:#8c959f;
--passed:#1a7f37;--passed-bg:#dafbe1;--failed:#cf222e;--failed-bg:#ffebe9;
--errored:#9a6700;--errored-bg:#fff8c5;--gate:#0969da;--delivery:#8250df}
@media (prefers-color-scheme:dark){.tp{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;
--line:#3d444d;--node:#161b22;--edge:#656c76;--passed:#3fb950;--passed-bg:#0f2d1a;
--failed:#f85149;--failed-bg:#3c1618;--errored:#d29922;--errored-bg:#33260a;
--gate:#4493f8;--delivery:#ab7df8}}
.tp text{font:13px ui-sans-serif,system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink);
text-anchor:middle;dominant-baseline:central}
.tp .box{fill:var(--node);stroke:var(--line);stroke-width:1.5}
.tp .edge{fill:none;stroke:var(--edge);stroke-width:1.3}
.tp .tip{fill:var(--edge)}
.tp .gate .box{stroke:var(--gate);stroke-width:2}
.tp .gate text{font-weight:600}
.tp .delivery .box{stroke:var(--delivery);stroke-width:2}
.tp .cleanup .box{stroke-dasharray:5 3}
.tp .passed .box{stroke:var(--passed);fill:var(--passed-bg)}
.tp .failed .box{stroke:var(--failed);fill:var(--failed-bg);stroke-width:2.5}
.tp .errored .box{stroke:var(--errored);fill:var(--errored-bg);stroke-width:2.5}
.tp .skipped .box,.tp .cancelled .box{stroke:var(--line);fill:none;stroke-dasharray:2 3}
.tp .skipped text,.tp .cancelled text{fill:var(--soft)}
""".strip()


def as_svg(
    plan: Sequence[NodePlan],
    statuses: Mapping[str, Status] = MappingProxyType({}),
    *,
    title: str = "",
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """An SVG document. Its styles touch nothing but itself, so that a page can embed it.

    ``seconds`` are told when the pointer rests on a node.
    """
    graph = Graph({node.name: node.needs for node in plan}).reduced()
    marked = {name: MARKS[status] for name, status in statuses.items()}
    labels = {name: f"{marked[name]} {name}" if name in marked else name for name in graph.order}
    widths = {name: len(label) * _CHARACTER + _PADDING for name, label in labels.items()}
    layout = arrange(graph, widths, gap=_GAP, level_height=_LEVEL)
    body = [_edge(points) for points in layout.edges.values()]
    body += [
        _node(
            node,
            _Shape(labels[node.name], *layout.centres[node.name], widths[node.name]),
            statuses.get(node.name),
            seconds.get(node.name),
        )
        for node in plan
    ]
    return _document(layout, title or "Pipeline", body)


def _document(layout: Layout, title: str, body: Sequence[str]) -> str:
    width, height = layout.width + 2 * _MARGIN, layout.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tp" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n"
        f'<g transform="translate({_MARGIN:.0f} 0)">\n' + "\n".join(body) + "\n</g>\n</svg>\n"
    )


def _edge(points: Sequence[Point]) -> str:
    """A curve that leaves and arrives upright, with a tip."""
    (x, y), (end_x, end_y), half = points[0], points[-1], _HEIGHT / 2
    # Past the nodes of a level it goes straight down.
    bends = [(at, level + side) for at, level in points[1:-1] for side in (-half, half)]
    stops = [(x, y + half), *bends, (end_x, end_y - half - 5)]
    path = [f"M{stops[0][0]:.1f} {stops[0][1]:.1f}"]
    for (from_x, from_y), (to_x, to_y) in pairwise(stops):
        if from_x == to_x:
            path.append(f"V{to_y:.1f}")
            continue
        middle = (from_y + to_y) / 2
        path.append(f"C{from_x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
    tip_x, tip_y = stops[-1]
    tip = f"M{tip_x - 4:.1f} {tip_y:.1f}h8l-4 5z"
    return f'<path class="edge" d="{" ".join(path)}"/><path class="tip" d="{tip}"/>'


class _Shape(NamedTuple):
    """Label, centre and width of a box, in pixels."""

    label: str
    x: float
    y: float
    width: float


def _node(node: NodePlan, shape: _Shape, status: Status | None, seconds: float | None) -> str:
    told = [node.kind, *([status.value] if status else [])]
    time = f", {seconds:.1f} s" if seconds is not None else ""
    return (
        f'<g class="{" ".join(told)}"><title>{escape(node.name)}: {", ".join(told)}{time}</title>'
        f"{_box(node, shape)}"
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}">{escape(shape.label)}</text></g>'
    )


def _box(node: NodePlan, shape: _Shape) -> str:
    """Gates are hexagons, deliveries have a double border, all else is a rounded box."""
    y, width = shape.y, shape.width
    left, top = shape.x - width / 2, y - _HEIGHT / 2
    if node.kind == "gate":
        flat = width - 2 * _SLANT
        return (
            f'<path class="box" d="M{left:.1f} {y:.1f}l{_SLANT:.0f} {-_HEIGHT / 2:.1f}h{flat:.1f}'
            f'l{_SLANT:.0f} {_HEIGHT / 2:.1f}l{-_SLANT:.0f} {_HEIGHT / 2:.1f}h{-flat:.1f}z"/>'
        )
    box = _rect(left, top, width, _HEIGHT, radius=8 if node.kind != "delivery" else 3)
    if node.kind == "delivery":
        return box + _rect(left + 3.5, top + 3.5, width - 7, _HEIGHT - 7, radius=1)
    return box


def _rect(left: float, top: float, width: float, height: float, *, radius: float) -> str:
    return (
        f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{radius:.0f}"/>'
    )
