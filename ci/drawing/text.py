"""The graph as lines of text: a block for each level, first what may run at once first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ci.drawing.marks import MARKS
from ci.events import NodePlan
from ci.graph import Graph
from ci.values import Status

__all__ = ["as_text"]


def as_text(plan: Sequence[NodePlan], statuses: Mapping[str, Status] = MappingProxyType({})) -> str:
    """A line for each node, by level: what stands in one level may run at once.

    ::

    1  lint
       unit
    2  quality  gate  after lint, unit
    """
    graph = Graph({node.name: node.needs for node in plan}).reduced()
    kinds = {node.name: node.kind for node in plan}
    names = max((len(name) for name in kinds), default=0)
    tags = max((len(_tag(kind)) for kind in kinds.values()), default=0)
    digits = len(str(len(graph.levels())))
    lines = []
    for number, level in enumerate(graph.levels(), 1):
        for at, name in enumerate(level):
            label = f"{number if at == 0 else '':>{digits}}  "
            mark = f"{MARKS[statuses[name]]} " if name in statuses else "  " if statuses else ""
            needs = f"after {', '.join(graph.needs[name])}" if graph.needs[name] else ""
            tag = f"{_tag(kinds[name]):<{tags}}  " if tags else ""
            lines.append(f"{label}{mark}{name:<{names}}  {tag}{needs}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def _tag(kind: str) -> str:
    return {"stage": "", "cleanup": "clean-up"}.get(kind, kind)
