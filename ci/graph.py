"""A directed acyclic graph of names: order, reach, levels and the critical path. Pure."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Generic, TypeVar

from ci.errors import ConfigError

__all__ = ["CycleError", "Graph", "UnknownNodeError", "nearest"]

Name = TypeVar("Name", bound=str)


class CycleError(ConfigError):
    """Nodes that wait for each other; ``cycle`` names them, each needing the one after it."""

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(
            f"cycle in the graph: {' -> '.join([*self.cycle, self.cycle[0]])}",
            hint=f"let {self.cycle[0]} not need {self.cycle[1 % len(self.cycle)]}",
        )


class UnknownNodeError(ConfigError):
    """A name that is no node's; ``known`` is searched for the nearest one."""

    def __init__(self, name: str, known: Iterable[str], *, needed_by: str = "") -> None:
        self.name = name
        names = list(known)
        near = nearest(name, names)
        super().__init__(
            f"{needed_by} needs {name}" if needed_by else f"no node {name}",
            got=repr(name),
            expected="one of " + (", ".join(names) if names else "none: the graph is empty"),
            hint=f"did you mean {near}?" if near else "",
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` is most likely a slip of; empty where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


class Graph(Generic[Name]):
    """An immutable graph of names. ``needs`` maps each to those that must come before it.

    The order of the mapping is the order of declaration, which all results keep where edges
    leave a choice: the same graph always gives the same results.

    Raises:
        UnknownNodeError: something is needed that is no node.
        CycleError: there is no order.
    """

    def __init__(self, needs: Mapping[Name, Iterable[Name]]) -> None:
        unique = {name: tuple(dict.fromkeys(before)) for name, before in needs.items()}
        for name, before in unique.items():
            for other in before:
                if other not in unique:
                    raise UnknownNodeError(other, unique, needed_by=name)
        self.needs: Mapping[Name, tuple[Name, ...]] = MappingProxyType(unique)
        self.order: tuple[Name, ...] = self._sort()

    def __len__(self) -> int:
        return len(self.needs)

    def __contains__(self, name: object) -> bool:
        return name in self.needs

    @cached_property
    def needed_by(self) -> Mapping[Name, tuple[Name, ...]]:
        """Each name with those that directly need it, in the order of declaration."""
        after: dict[Name, list[Name]] = {name: [] for name in self.needs}
        for name, before in self.needs.items():
            for other in before:
                after[other].append(name)
        return MappingProxyType({name: tuple(names) for name, names in after.items()})

    def ancestors(self, *names: Name) -> frozenset[Name]:
        """All that these need, directly or not; they themselves are left out.

        Raises:
            UnknownNodeError: one of them is no node.
        """
        return self._reach(names, self.needs)

    def descendants(self, *names: Name) -> frozenset[Name]:
        """All that need these, directly or not; they themselves are left out.

        Raises:
            UnknownNodeError: one of them is no node.
        """
        return self._reach(names, self.needed_by)

    def levels(self) -> tuple[tuple[Name, ...], ...]:
        """Layers: every node stands one below the lowest that it needs."""
        depth: dict[Name, int] = {}
        for name in self.order:
            depth[name] = 1 + max((depth[other] for other in self.needs[name]), default=-1)
        layers: list[list[Name]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
        for name in self.order:
            layers[depth[name]].append(name)
        return tuple(tuple(layer) for layer in layers)

    def only(self, names: Collection[Name]) -> Graph[Name]:
        """The graph of these and of all that they need.

        Raises:
            UnknownNodeError: one of them is no node.
        """
        kept = self.ancestors(*names) | set(names)
        return Graph({name: before for name, before in self.needs.items() if name in kept})

    def reduced(self) -> Graph[Name]:
        """The same order by the fewest edges: what another path says already is left out."""
        above: dict[Name, frozenset[Name]] = {}
        fewer: dict[Name, tuple[Name, ...]] = {}
        for name in self.order:
            before = self.needs[name]
            implied = frozenset().union(*(above[other] for other in before))
            fewer[name] = tuple(other for other in before if other not in implied)
            above[name] = implied | set(before)
        return Graph({name: fewer[name] for name in self.needs})

    def critical_path(self, seconds: Mapping[Name, float]) -> tuple[tuple[Name, ...], float]:
        """The chain that takes longest, first node first, and its sum; missing times are 0.

        No schedule on any number of machines ends earlier than that sum.
        """
        best: dict[Name, float] = {}
        came_from: dict[Name, Name | None] = {}
        for name in self.order:
            before = max(self.needs[name], key=best.__getitem__, default=None)
            came_from[name] = before
            best[name] = seconds.get(name, 0.0) + (0.0 if before is None else best[before])
        last = max(self.order, key=best.__getitem__, default=None)
        if last is None:
            return (), 0.0
        path: list[Name] = []
        step: Name | None = last
        while step is not None:
            path.append(step)
            step = came_from[step]
        return tuple(reversed(path)), best[last]

    def check(self, names: Iterable[Name]) -> None:
        """Do nothing where each is a node.

        Raises:
            UnknownNodeError: one is not.
        """
        for name in names:
            if name not in self.needs:
                raise UnknownNodeError(name, self.needs)

    def _reach(
        self, names: Collection[Name], edges: Mapping[Name, tuple[Name, ...]]
    ) -> frozenset[Name]:
        self.check(names)
        found: set[Name] = set()
        stack = list(names)
        while stack:
            for other in edges[stack.pop()]:
                if other not in found:
                    found.add(other)
                    stack.append(other)
        return frozenset(found)

    def _sort(self) -> tuple[Name, ...]:
        """Kahn's algorithm; of those that are free the one declared first is next."""
        rank = {name: number for number, name in enumerate(self.needs)}
        names = list(self.needs)
        waiting = {name: len(before) for name, before in self.needs.items()}
        free = [rank[name] for name, count in waiting.items() if count == 0]
        order: list[Name] = []
        while free:
            name = names[heapq.heappop(free)]
            order.append(name)
            for after in self.needed_by[name]:
                waiting[after] -= 1
                if waiting[after] == 0:
                    heapq.heappush(free, rank[after])
        if len(order) < len(names):
            raise CycleError(self._cycle(set(names) - set(order)))
        return tuple(order)

    def _cycle(self, stuck: set[Name]) -> tuple[Name, ...]:
        """A cycle among ``stuck``, each of which needs another of them."""
        step = next(name for name in self.needs if name in stuck)
        path: dict[Name, None] = {}
        while step not in path:
            path[step] = None
            step = next(other for other in self.needs[step] if other in stuck)
        walked = list(path)
        return tuple(walked[walked.index(step) :])
