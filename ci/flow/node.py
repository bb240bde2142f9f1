"""Nodes of a pipeline, and what of one is handed to another when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from ci.errors import StageSkipped
from ci.events import Kind
from ci.flow.product import Product, evidence_of
from ci.scheduler import End
from ci.values import Evidence

__all__ = ["Ends", "Input", "Node", "inputs_in", "resolve"]

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Ends = Mapping[str, End[Product]]


@dataclass(frozen=True, eq=False)
class Input(Generic[T_co]):
    """A value that a node will have made by the time that it is needed.

    Given as an argument of a stage it is an edge, and the stage gets the value.
    """

    name: str
    pipeline: int = field(repr=False)
    part: Literal["artifact", "evidence"] = "artifact"
    _view: Callable[[Any], Any] | None = None

    def map(self, function: Callable[[T_co], U]) -> Input[U]:
        """The same edge with ``function`` of the value: ``delivery.map(lambda d: d.url)``."""
        inner = self._view
        view = function if inner is None else lambda value: function(inner(value))
        return Input(self.name, self.pipeline, self.part, view)

    def take(self, ends: Ends) -> T_co:
        """The value.

        Raises:
            StageSkipped: the node made none.
        """
        end = ends.get(self.name)
        if end is None:
            raise StageSkipped(f"{self.name} was not run")
        value: object
        if self.part == "evidence":
            value = evidence_of(end)
        elif end.value is None:
            raise StageSkipped(f"{self.name} made nothing: it was {end.status}")
        else:
            value = end.value.artifact
        return cast("T_co", value if self._view is None else self._view(value))


@dataclass(frozen=True, eq=False)
class Node(Input[T_co]):
    """A stage, gate, delivery or clean-up of a pipeline; as an argument: what it made."""

    kind: Kind = "stage"

    @property
    def evidence(self) -> Input[Evidence]:
        """What it found out, as an argument for stages that run however it ended."""
        return Input(self.name, self.pipeline, "evidence")


def inputs_in(value: object) -> Iterator[Input[Any]]:
    """All inputs in an argument: itself, or in lists, tuples and mappings, however deep."""
    match value:
        case Input():
            yield value
        case list() | tuple():
            for item in value:
                yield from inputs_in(item)
        case dict():
            for item in value.values():
                yield from inputs_in(item)
        case _:
            return


def resolve(value: Any, ends: Ends) -> Any:  # noqa: ANN401 - an argument is anything
    """The argument with its inputs replaced by what they stand for.

    Raises:
        StageSkipped: one of them was not made.
    """
    match value:
        case Input():
            return value.take(ends)
        case list():
            return [resolve(item, ends) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(resolve(item, ends) for item in value)
        case dict():
            return {key: resolve(item, ends) for key, item in value.items()}
        case _:
            return value
