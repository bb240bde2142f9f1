"""Fields of EnvFile: variables as a ``.env`` file holds them."""

from __future__ import annotations

import re

from ci.engine.api.context import Context
from ci.engine.api.values import EnvFile, EnvVariable
from ci.engine.refusal import Refusal
from ci.engine.vertices.vertex import FileRef, NewFile, Scratch

__all__ = [
    "as_file",
    "exists",
    "get",
    "namespace",
    "variables",
    "with_variable",
    "without_variable",
]

_NAME = ".env"
_LINE = re.compile(r"(?:export\s+)?([^=\s]+)\s*=\s*(.*)")
_REFERENCE = re.compile(r"\\(.)|\$(?:\{(\w+)(?::?-([^}]*))?\}|([A-Za-z_]\w*))", re.DOTALL)


def parsed(text: str) -> EnvFile:
    """The variables of a file; empty lines and comments are passed over.

    Raises:
        Refusal: a line is no ``NAME=value``.
    """
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            raise Refusal(f"env file, line {number}", got="no '='", expected="NAME=value")
        lines.append((found[1], found[2]))
    return EnvFile(lines=tuple(lines))


def values(file: EnvFile) -> list[tuple[str, str]]:
    """The variables, quotes removed and references to earlier ones replaced."""
    known: dict[str, str] = {}
    found = []
    for name, text in file.lines:
        known[name] = _value(text, known)
        found.append((name, known[name]))
    return found


def _value(text: str, known: dict[str, str]) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]

    def replaced(found: re.Match[str]) -> str:
        escaped, braced, default, plain = found.groups()
        if escaped is not None:
            return escaped if escaped in '$"\\`' else found[0]
        return known.get(braced or plain) or default or ""

    return _REFERENCE.sub(replaced, text)


def as_file(file: EnvFile, _: Context) -> FileRef:
    """The file ``.env``."""
    text = "".join(f"{name}={value}\n" for name, value in file.lines)
    tree = NewFile(tree=Scratch(), path=f"/{_NAME}", contents=text.encode())
    return FileRef(tree=tree, path=f"/{_NAME}")


def variables(file: EnvFile, _: Context, *, raw: bool | None = None) -> list[EnvVariable]:
    """All variables; with ``raw`` as they are written."""
    return [
        EnvVariable(name=name, value=value) for name, value in (file.lines if raw else values(file))
    ]


def get(file: EnvFile, _: Context, *, name: str, raw: bool | None = None) -> str:
    """The last value of a variable, or an empty one."""
    return dict(file.lines if raw else values(file)).get(name, "")


def exists(file: EnvFile, _: Context, *, name: str) -> bool:
    """There is such a variable."""
    return name in dict(file.lines)


def with_variable(file: EnvFile, _: Context, *, name: str, value: str) -> EnvFile:
    """The variable set: where it stood, or at the end."""
    if not name or re.search(r"[=\s]", name) or "\n" in value:
        raise Refusal("env file", got=f"the variable {name!r}", expected="NAME=value on one line")
    if name not in dict(file.lines):
        return EnvFile(lines=(*file.lines, (name, value)))
    return EnvFile(lines=tuple((n, value if n == name else v) for n, v in file.lines))


def without_variable(file: EnvFile, _: Context, *, name: str) -> EnvFile:
    """The variable gone."""
    return EnvFile(lines=tuple(line for line in file.lines if line[0] != name))


def namespace(file: EnvFile, _: Context, *, prefix: str) -> EnvFile:
    """The variables whose names start with the prefix, without it."""
    return EnvFile(
        lines=tuple(
            (name.removeprefix(prefix), value)
            for name, value in file.lines
            if name.startswith(prefix) and name != prefix
        )
    )
