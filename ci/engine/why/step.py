"""Steps: the commands of a run, with a digest of each input, as they are kept from run to run.

No value of a variable or a secret is in them, but for salted hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Input", "Step", "Steps"]


@dataclass(frozen=True, kw_only=True)
class Input:
    """Something that a command's result depends on."""

    #: What it is, the same from run to run: ``variable PATH``, ``mount /src``.
    name: str
    #: Equal digests are equal inputs.
    digest: str
    #: Where it comes from, for a person: a folder of the host, an image.
    shown: str = ""
    #: Of files: the layers that they are in, which may be gone, and the path in them.
    layers: tuple[str, ...] = ()
    path: str = "/"
    #: Patterns that choose among the files: those to include, and to exclude.
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Key of the step that made it, if one did.
    made_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that ended, or whose result was in the store."""

    key: str
    command: tuple[str, ...]
    inputs: tuple[Input, ...]
    cached: bool
    #: None where it was stopped.
    exit_code: int | None
    #: It ended as was expected of it, so that its result was kept.
    kept: bool
    #: The stage that asked for it, where one did.
    stage: str = ""

    def by_name(self) -> dict[str, Input]:
        """Inputs by name."""
        return {each.name: each for each in self.inputs}


@dataclass(frozen=True, kw_only=True)
class Steps:
    """All steps of a run, in the order in which they ended."""

    #: Seconds since the epoch.
    at: float
    steps: tuple[Step, ...]
    #: There were more than are kept.
    cut: bool = False

    def record(self) -> dict[str, Any]:
        """As a record of the store. Nothing in it keeps layers alive."""
        return {"at": self.at, "cut": self.cut, "steps": [_plain(step) for step in self.steps]}

    @staticmethod
    def of(record: Mapping[str, Any]) -> Steps:
        """From a record. Raises KeyError, TypeError for one of another shape."""
        return Steps(
            at=record["at"],
            cut=record["cut"],
            steps=tuple(_step(each) for each in record["steps"]),
        )


def _plain(step: Step) -> dict[str, Any]:
    plain = asdict(step)
    # "layers" in a record would keep them alive.
    plain["inputs"] = [
        {"in" if name == "layers" else name: value for name, value in each.items() if value}
        for each in plain["inputs"]
    ]
    return plain


def _step(plain: Mapping[str, Any]) -> Step:
    inputs = tuple(_input(each) for each in plain["inputs"])
    return Step(**{**plain, "command": tuple(plain["command"]), "inputs": inputs})


def _input(plain: Mapping[str, Any]) -> Input:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
    values["layers"] = values.pop("in", ())
    return Input(**values)
