"""Two runs compared: for each command that ran again, the inputs that are not what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ci.engine.why.step import Input, Step, Steps

__all__ = ["Answer", "Cause", "Change", "explain"]

#: Of the inputs of two steps, how many must be the same for one to be the other's successor where
#: their commands differ.
_ALIKE = 0.5
_SAME, _IDENTICAL = 2.0, 5.0


class Cause(StrEnum):
    """Why a command ran, or did not."""

    #: It did not run: its result was in the store.
    CACHED = "cached"
    #: Something that it depends on is not what it was.
    CHANGED = "changed"
    #: No earlier run had a command like it.
    NEW = "new"
    #: The last time it failed, and what fails is not kept.
    FAILED = "failed"
    #: The last time it was stopped.
    STOPPED = "stopped"
    #: Nothing changed: the store has its result no more.
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Change:
    """An input that is not what it was. None is on the side where it is missing."""

    old: Input | None
    new: Input | None

    @property
    def name(self) -> str:
        """Of the input."""
        found = self.new or self.old
        assert found is not None  # noqa: S101 - one side is there
        return found.name


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Why one command ran."""

    step: Step
    cause: Cause
    #: What came before it, and when; None where nothing did.
    before: Step | None = None
    at: float = 0.0
    changes: tuple[Change, ...] = ()


def explain(run: Steps, earlier: Sequence[Steps]) -> list[Answer]:
    """An answer for each step of a run, from those before it (newest first)."""
    taken: set[int] = set()
    found: dict[int, tuple[Step, float]] = {}
    ran = [step for step in run.steps if not step.cached]
    # The same command in any run comes before another one that is much like it: a run whose last
    # step was in the store did not ask for those below.
    for least in (_SAME, _ALIKE):
        for step in ran:
            if id(step) not in found and (before := _counterpart(step, earlier, taken, least)):
                found[id(step)] = before
                taken.add(id(before[0]))
    return [_answer(step, found.get(id(step))) for step in run.steps]


def _answer(step: Step, found: tuple[Step, float] | None) -> Answer:
    if step.cached:
        return Answer(step=step, cause=Cause.CACHED)
    if found is None:
        return Answer(step=step, cause=Cause.NEW)
    before, at = found
    changes: tuple[Change, ...] = ()
    if before.key != step.key:
        cause, changes = Cause.CHANGED, _changes(before, step)
    elif before.kept:
        cause = Cause.GONE
    else:
        cause = Cause.STOPPED if before.exit_code is None else Cause.FAILED
    return Answer(step=step, cause=cause, before=before, at=at, changes=changes)


def _counterpart(
    step: Step, earlier: Sequence[Steps], taken: set[int], least: float
) -> tuple[Step, float] | None:
    """The step of the newest run that is most, and at least so much, like this one; the time."""
    for run in earlier:
        free = [other for other in run.steps if id(other) not in taken]
        best = max(free, key=lambda other: _likeness(step, other), default=None)
        if best is not None and _likeness(step, best) >= least:
            return best, run.at
    return None


def _likeness(step: Step, other: Step) -> float:
    """0 for strangers; 2 and more for the same command, and the more in the same stage."""
    if step.key == other.key:
        return _IDENTICAL
    mine = {(each.name, each.digest) for each in step.inputs}
    theirs = {(each.name, each.digest) for each in other.inputs}
    shared = len(mine & theirs) / max(len(mine | theirs), 1)
    if step.command == other.command:
        return _SAME + shared + (step.stage == other.stage)
    if step.stage != other.stage:
        return 0.0
    return shared


def _changes(before: Step, step: Step) -> tuple[Change, ...]:
    old, new = before.by_name(), step.by_name()
    names = [*new, *(name for name in old if name not in new)]
    return tuple(
        Change(old=old.get(name), new=new.get(name))
        for name in names
        if name not in old or name not in new or old[name].digest != new[name].digest
    )
