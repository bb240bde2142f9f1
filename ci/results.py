"""What a function returned, handed to the user: printed, exported, or followed further.

``ci run reports export --path=DIR`` selects as ``dagger call`` does: each word is a field or a
function of the value before it, and the options behind it are that function's arguments.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

import anyio
import dagger

from ci.errors import ConfigError
from ci.graph import nearest

__all__ = ["check", "follow", "rendered", "save"]

#: Methods of the SDK's objects that are no functions of the API.
_PYTHON_ONLY = {"with_"}
#: So many names are listed in a message.
_FEW = 24


def check(kind: Any, words: Sequence[str]) -> None:  # noqa: ANN401 - any type of Dagger's
    """See that the words can select from a value of this type, before there is one.

    Raises:
        ConfigError: a word is no field or function of its value, or an option is not its.
    """
    for word, options in _steps(words):
        member = _member(kind, word)
        hints = typing.get_type_hints(member if callable(member) else kind)
        if callable(member):
            _arguments(word, member, options)
            returned = hints.get("return")
        elif options:
            raise ConfigError(f"{options[0]}: no option of {word}", expected="none: it is a field")
        else:
            returned = hints.get(_names(kind)[word])
        kind = kind if returned is typing.Self else _resolved(_plain(returned))


async def follow(value: Any, words: Sequence[str]) -> Any:  # noqa: ANN401 - any value of Dagger's
    """The value that the words select from ``value``.

    Raises:
        ConfigError: a word is no field or function of its value, or an option is not its.
    """
    for word, options in _steps(words):
        _member(type(value), word)
        member = getattr(value, _names(type(value))[word])
        if callable(member):
            member = member(**_arguments(word, member, options))
        value = await member if inspect.iscoroutine(member) else member
    return value


async def rendered(value: Any) -> str:  # noqa: ANN401
    """The text to print for a value."""
    match value:
        case None:
            return ""
        case dagger.Directory():
            return "\n".join(await value.entries())
        case dagger.File():
            return await value.contents()
        case list() | tuple():
            return "\n".join([await rendered(item) for item in value])
        case dagger.client.base.Type():
            kind = type(value).__name__
            return f"{kind}: write it with --output=PATH, or select from it"
        case _:
            return "\n".join(_names(type(value))) or str(value)


async def save(value: Any, path: Path) -> None:  # noqa: ANN401
    """Write a value to the host: a directory, a file, a container as OCI archive, or text."""
    match value:
        case dagger.Directory() | dagger.File() | dagger.Container():
            await value.export(str(path))
        case _:
            target = anyio.Path(path)
            await target.parent.mkdir(parents=True, exist_ok=True)
            await target.write_text(await rendered(value) + "\n", encoding="utf-8")


def _names(kind: Any) -> dict[str, str]:  # noqa: ANN401
    """The fields and functions of a type: attributes by what is typed on a command line."""
    if isinstance(kind, type) and issubclass(kind, dagger.client.base.Type):
        found = {name for name, _ in inspect.getmembers(kind, inspect.isfunction)} - _PYTHON_ONLY
    elif hasattr(kind, "__dagger_object_type__"):
        functions = {n for n, f in vars(kind).items() if hasattr(f, "__dagger_function__")}
        found = functions | set(getattr(kind, "__dataclass_fields__", ()))
    else:
        found = set()
    names = sorted(name for name in found if not name.startswith("_"))
    return {name.rstrip("_").replace("_", "-"): name for name in names}


def _wants_value(option: str) -> bool:
    return option.startswith("-") and "=" not in option


def _steps(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each word with the options behind it."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        options: list[str] = []
        while rest and (rest[0].startswith("-") or (options and _wants_value(options[-1]))):
            options.append(rest.pop(0))
        yield word, options


def _member(kind: Any, word: str) -> Any:  # noqa: ANN401
    """The function that ``word`` names in a type, or None for a field of that name.

    Raises:
        ConfigError: it names neither.
    """
    names = _names(kind)
    if word not in names:
        near = nearest(word, names)
        hint = f"did you mean {near!r}?" if near else ""
        if not hint and Path(word).is_dir():
            hint = f"a repository is given as --source={word}"
        few = "one of " + ", ".join(names) if len(names) <= _FEW else "a field or function of its"
        raise ConfigError(
            f"{word}: no field of {getattr(kind, '__name__', kind)}",
            expected=few if names else "nothing behind a plain value",
            hint=hint,
        )
    member = getattr(kind, names[word], None)
    return member if callable(member) else None


def _arguments(word: str, function: Any, options: Sequence[str]) -> dict[str, Any]:  # noqa: ANN401
    hints = typing.get_type_hints(function)
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    arguments: dict[str, Any] = {}
    rest = list(options)
    while rest:
        option, _, value = rest.pop(0).partition("=")
        name = option.lstrip("-").replace("-", "_")
        if name not in known:
            raise ConfigError(
                f"{option}: no option of {word}",
                expected="one of " + ", ".join(f"--{each.replace('_', '-')}" for each in known)
                if known
                else "none",
            )
        kind = _plain(hints.get(name, str))
        if not value and rest and kind is not bool:
            value = rest.pop(0)
        arguments[name] = _converted(option, value, kind)
    return arguments


def _plain(hint: Any) -> Any:  # noqa: ANN401
    if typing.get_origin(hint) in (UnionType, typing.Union):
        return next(each for each in typing.get_args(hint) if each is not type(None))
    return hint


def _resolved(hint: Any) -> Any:  # noqa: ANN401
    """A type of the SDK that its own annotations name before it exists, as beartype has them."""
    return getattr(dagger, getattr(hint, "__hint_name_beartype__", ""), hint)


def _converted(option: str, value: str, kind: Any) -> Any:  # noqa: ANN401
    if kind is bool:
        return value.lower() not in ("false", "0")
    if kind is int:
        try:
            return int(value)
        except ValueError:
            raise ConfigError(option, got=repr(value), expected="a whole number") from None
    return value.split(",") if typing.get_origin(kind) is list else value
