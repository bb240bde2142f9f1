"""Several commands in one exec, and all that they wrote in one answer.

An engine takes its time for each question, so a stage asks two: it runs its commands, and reads.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import shorten

import dagger

from ci.errors import StageErrored

__all__ = ["REPORT", "Command", "Ended", "batch"]

#: In an argument: the path of the file that the command is to write its report to.
REPORT = "{report}"
_OUT = "/run/batch"
_TAIL = 8000
_TITLE = 200
#: Begins a part of the answer. No tool writes it.
_MARK = "--towpath-batch-a7c5d1:"
_PARTS = ("code", "stdout", "stderr", "report")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, and where it runs."""

    args: Sequence[str]
    workdir: str = "."
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    name: str
    code: int
    stdout: str
    stderr: str
    #: What it wrote to ``REPORT``; empty where it wrote none.
    report: str

    def check(self, *accept: int) -> Ended:
        """This, if its exit code is one of those.

        Raises:
            StageErrored: it is not.
        """
        if self.code in accept:
            return self
        raise StageErrored(
            self.name,
            got=f"exit code {self.code}\n{(self.stdout + self.stderr)[-_TAIL:].strip()}",
            expected=f"one of {', '.join(map(str, accept))}",
            hint="the machine may be short of memory" if self.code == 128 + 9 else "",
        )


async def batch(
    container: dagger.Container, commands: Mapping[str, Command], *, at_once: bool = True
) -> Mapping[str, Ended]:
    """Run the named commands to their ends, whatever their exit codes.

    Args:
        container: What they run in; it needs a POSIX shell.
        commands: By name; a name is of letters, digits and dashes.
        at_once: All at once; else one after another, in their order.

    Raises:
        ExecError: the shell itself failed, or something that comes before it.
        StageErrored: a command left no exit code.
    """
    ended = container.with_exec(["sh", "-c", _script(commands, at_once=at_once)])
    return _parse(await ended.file(f"{_OUT}/answer").contents())


def _script(commands: Mapping[str, Command], *, at_once: bool) -> str:
    lines = [_title(commands), f"mkdir -p {_OUT}; cd /"]
    for name, command in commands.items():
        place = f"{_OUT}/{name}"
        variables = "".join(f"{key}={shlex.quote(value)} " for key, value in command.env.items())
        words = shlex.join(word.replace(REPORT, f"{place}.report") for word in command.args)
        files = f"< /dev/null > {place}.stdout 2> {place}.stderr"
        line = f"cd {shlex.quote(command.workdir)} && {variables}{words} {files}"
        lines.append(f"( {line}; echo $? > {place}.code ){' &' if at_once else ''}")
    lines.append("wait")
    lines.append(f"for name in {' '.join(commands)}; do for part in {' '.join(_PARTS)}; do")
    lines.append(f'  printf \'\\n{_MARK}%s:%s\\n\' "$name" "$part"')
    lines.append(f'  cat "{_OUT}/$name.$part" 2> /dev/null || true')
    lines.append(f"done; done > {_OUT}/answer")
    return "\n".join(lines)


def _title(commands: Mapping[str, Command]) -> str:
    """What the script is called where people see it: the commands, without the plumbing."""
    words = "; ".join(shlex.join(command.args) for command in commands.values())
    return "# " + shorten(words, _TITLE, placeholder="...")


def _parse(answer: str) -> dict[str, Ended]:
    found: dict[str, dict[str, str]] = {}
    for section in f"\n{answer}".split(f"\n{_MARK}")[1:]:
        title, _, text = section.partition("\n")
        name, _, part = title.partition(":")
        found.setdefault(name, {})[part] = text
    return {name: _ended(name, parts) for name, parts in found.items()}


def _ended(name: str, parts: Mapping[str, str]) -> Ended:
    code = parts["code"].strip()
    if not code.isdecimal():
        raise StageErrored(
            name, got="no exit code", expected="one", hint="the machine may be short of disk space"
        )
    return Ended(
        name=name,
        code=int(code),
        stdout=parts["stdout"],
        stderr=parts["stderr"],
        report=parts["report"],
    )
