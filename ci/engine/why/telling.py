"""The answer to ``ci engine why`` as text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from ci.engine.trees.delta import Delta
from ci.engine.why.compare import Answer, Cause, Change
from ci.engine.why.step import Input, Step

__all__ = ["tell"]

_WIDTH = 88
_FILES = 8

_REASONS = {
    Cause.CACHED: "did not run: its result was in the store",
    Cause.NEW: "no run before had a command like it",
    Cause.FAILED: "nothing changed; it failed the last time, and what fails is not kept",
    Cause.STOPPED: "nothing changed; it was stopped the last time",
    Cause.GONE: "nothing changed; its result is in the store no more: pruned, or found damaged",
}

Files = Callable[[Input, Input], Delta | None]


def tell(
    answers: Sequence[Answer], files: Files, *, wanted: str = "", zone: datetime | None = None
) -> str:
    """What ran again, in the order of the run, each with all that changed of what it depends on.

    Args:
        answers: Of all steps of the run.
        files: Which files differ between an input and what it was.
        wanted: Name of a stage, or part of a command: only those, cached ones too, and what ran
            before them and made them run.
        zone: The moment of the run's end, in the zone to tell times in; None is the local one.
    """
    chosen = [each for each in answers if _is_wanted(each.step, wanted)]
    if wanted:
        chosen = _with_causes(chosen, answers)
    else:
        chosen = [each for each in chosen if each.cause is not Cause.CACHED]
    ran = sum(each.cause is not Cause.CACHED for each in answers)
    lines = [_headline(ran, len(answers))]
    again = {each.step.key: each.step for each in answers if each.cause is not Cause.CACHED}
    for each in chosen:
        lines += ["", _title(each.step), *("  " + line for line in _reason(each, files, again))]
    if wanted and not chosen:
        lines += ["", f"No command of the last run is of stage {wanted!r} or contains that text."]
    if any(each.before is not None for each in chosen):
        newest = max(each.at for each in chosen)
        when = datetime.fromtimestamp(newest, tz=zone.tzinfo if zone else None).astimezone()
        lines += ["", f"Compared with the run that ended at {when:%Y-%m-%d %H:%M:%S}."]
    return "\n".join(lines)


def _is_wanted(step: Step, wanted: str) -> bool:
    return not wanted or wanted == step.stage or wanted in " ".join(step.command)


def _with_causes(chosen: Sequence[Answer], answers: Sequence[Answer]) -> list[Answer]:
    """These, and those that made them run again, as far back as it goes; in the run's order."""
    ran = {each.step.key: each for each in answers if each.cause is not Cause.CACHED}
    found = {id(each) for each in chosen}
    pending = list(chosen)
    while pending:
        for change in pending.pop().changes:
            cause = ran.get(change.new.made_by) if change.new else None
            if cause is not None and id(cause) not in found:
                found.add(id(cause))
                pending.append(cause)
    return [each for each in answers if id(each) in found]


def _headline(ran: int, total: int) -> str:
    if not total:
        return "The last run here ran no commands."
    every = f"All {total} commands" if total > 1 else "The one command"
    if not ran:
        return f"{every} of the last run came from the store."
    if ran == total:
        return f"{every} ran."
    return f"{ran} of {total} commands ran; {total - ran} came from the store."


def _title(step: Step) -> str:
    stage = f"{step.stage}: " if step.stage else ""
    return stage + _command(step, _WIDTH - len(stage))


def _command(step: Step, width: int) -> str:
    """A script by its first line; by the comment that heads it, where one does."""
    lines = [line.strip() for line in _script(step).strip().splitlines()] or [""]
    is_headed = lines[0].startswith("# ")
    cut = lines[0].removeprefix("# ") + (" ..." if len(lines) > 1 and not is_headed else "")
    return cut if len(cut) <= width else cut[: width - 3] + "..."


def _script(step: Step) -> str:
    """A shell's script, or the command as one would type it."""
    words = step.command
    is_script = len(words) == 3 and re.fullmatch(r"-\w*c", words[1])
    return words[2] if is_script else shlex.join(words)


def _reason(answer: Answer, files: Files, again: dict[str, Step]) -> Iterator[str]:
    if answer.cause is not Cause.CHANGED:
        yield _REASONS[answer.cause]
        return
    for change in answer.changes:
        yield from _change(change, answer, files, again)


def _change(change: Change, answer: Answer, files: Files, again: dict[str, Step]) -> Iterator[str]:
    old, new = change.old, change.new
    if new is None:
        yield f"{change.name}: is there no more"
    elif old is None:
        yield f"{change.name}: is new" + (f" ({new.shown})" if new.shown else "")
    elif change.name == "command" and answer.before is not None:
        yield from _commands(answer.before, answer.step)
    elif change.name == "the step before":
        yield _step_before(again.get(new.made_by))
    elif new.layers or old.layers or new.made_by:
        yield from _files(change.name, old, new, files, again.get(new.made_by))
    elif new.shown != old.shown and old.shown:
        yield f"{change.name}: {old.shown} is now {new.shown or 'not set'}"
    elif new.shown and new.shown not in change.name:
        yield f"{change.name}: has another value ({new.shown})"
    elif change.name.startswith("variable ") or change.name.startswith("secret "):
        yield f"{change.name}: has another value"
    else:
        yield f"{change.name}: is not what it was"


def _commands(before: Step, step: Step) -> Iterator[str]:
    yield "command: has other words"
    old, new = _script(before).splitlines(), _script(step).splitlines()
    gone = [line for line in old if line not in new]
    come = [line for line in new if line not in old]
    for sign, found in (("-", gone), ("+", come)):
        for line in found[:_FILES]:
            yield f"  {sign} {line if len(line) <= _WIDTH else line[:_WIDTH] + '...'}"


def _step_before(cause: Step | None) -> str:
    if cause is None:
        return "the step before it: is another one"
    return f"the step before it ran again: {_command(cause, _WIDTH - 40)}"


def _files(name: str, old: Input, new: Input, files: Files, maker: Step | None) -> Iterator[str]:
    origin = f" (from {new.shown})" if new.shown else ""
    if maker is not None:
        origin = f" (made by: {_command(maker, _WIDTH - 40)})"
    yield f"{name}{origin}:"
    delta = files(old, new)
    if delta is None:
        yield "  other files; what they were is in the store no more"
        return
    found = [
        *(("modified", path) for path in delta.modified),
        *(("added", path) for path in delta.added if not path.endswith("/")),
        *(("removed", path) for path in delta.removed),
    ]
    for what, path in found[:_FILES]:
        yield f"  {what:<8}  {path}"
    if len(found) > _FILES:
        yield f"  and {len(found) - _FILES} more"
    if not found:
        yield "  other permissions, owners or empty folders"
