"""The graph in Mermaid's language, which GitHub and many wikis draw.

Source: https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ci.drawing.marks import MARKS
from ci.events import NodePlan
from ci.graph import Graph
from ci.values import Status

__all__ = ["as_mermaid"]

_SHAPES = {
    "stage": ('("', '")'),
    "gate": ('{{"', '"}}'),
    "delivery": ('[["', '"]]'),
    "cleanup": ('(["', '"])'),
}
#: Borders only: the fill is the theme's, light or dark.
_STYLES = {
    Status.PASSED: "stroke:#2da44e,stroke-width:2px",
    Status.FAILED: "stroke:#cf222e,stroke-width:3px",
    Status.ERRORED: "stroke:#bf8700,stroke-width:3px",
    Status.SKIPPED: "stroke:#8c959f,stroke-dasharray:4 3",
    Status.CANCELLED: "stroke:#8c959f,stroke-dasharray:1 3",
}


def as_mermaid(
    plan: Sequence[NodePlan], statuses: Mapping[str, Status] = MappingProxyType({})
) -> str:
    """A flowchart, from top to bottom; gates are hexagons, deliveries have double sides."""
    graph = Graph({node.name: node.needs for node in plan}).reduced()
    # Names such as "end" are words of the language, so ids are numbers.
    ids = {node.name: f"n{number}" for number, node in enumerate(plan)}
    lines = ["flowchart TB"]
    for node in plan:
        begin, end = _SHAPES[node.kind]
        mark = f"{MARKS[statuses[node.name]]} " if node.name in statuses else ""
        lines.append(f"  {ids[node.name]}{begin}{mark}{_escaped(node.name)}{end}")
    lines += [
        f"  {ids[before]} --> {ids[name]}" for name in graph.needs for before in graph.needs[name]
    ]
    for status, style in _STYLES.items():
        named = [ids[name] for name in ids if statuses.get(name) is status]
        if named:
            lines += [f"  classDef {status} {style}", f"  class {','.join(named)} {status}"]
    return "\n".join(lines) + "\n"


def _escaped(name: str) -> str:
    return name.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;")
