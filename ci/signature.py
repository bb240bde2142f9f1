"""Dagger functions as command lines: the same names, docs, arguments and types.

Pure: what a parameter becomes is a ``Flag``; ``bind`` turns what was typed into the arguments of
the function, over the Dagger API.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any

import dagger
from dagger import dag

from ci.errors import ConfigError
from ci.outline import command_name
from ci.workspace import HostWorkspace

__all__ = ["SOURCE", "Flag", "bind", "flags", "functions", "summary"]

#: The argument that names the repository to run on.
SOURCE = "source"

#: Types of Dagger's that are typed as a text on a command line.
_TEXTUAL = (dagger.Directory, dagger.File, dagger.Secret)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One option: how it is typed and what it stands for."""

    #: The parameter's name in Python.
    name: str
    #: What a command line gives: str, int, float, bool, or list[str].
    typed: Any
    #: What the function takes: dagger.Directory, str ...
    kind: Any
    doc: str
    default: Any

    @property
    def required(self) -> bool:
        """There is no default."""
        return self.default is inspect.Parameter.empty


def functions(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The Dagger functions of an object type, by their name on the command line."""
    for name, member in vars(cls).items():
        if getattr(member, "__dagger_function__", None) is not None:
            yield command_name(name), member


def summary(function: Callable[..., Any]) -> str:
    """The function's documentation."""
    return inspect.getdoc(function) or ""


def flags(function: Callable[..., Any]) -> list[Flag]:
    """The options of a function; an injected ``dagger.Workspace`` is none of them."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        kind, doc = _unwrapped(hints[name])
        if kind is dagger.Workspace:
            continue
        typed = str if kind in _TEXTUAL else kind
        found.append(Flag(name=name, typed=typed, kind=kind, doc=doc, default=parameter.default))
    return found


def bind(
    function: Callable[..., Any], typed: Mapping[str, Any], *, workspace: HostWorkspace
) -> dict[str, Any]:
    """Arguments of ``function`` for what was typed, by parameter name.

    Raises:
        ConfigError: a secret is not of the form that ``dagger call`` takes.
    """
    arguments: dict[str, Any] = {}
    by_name = {flag.name: flag for flag in flags(function)}
    for name, hint in typing.get_type_hints(function).items():
        if name in by_name:
            value = typed.get(name, by_name[name].default)
            arguments[name] = _argument(by_name[name], value, workspace)
        elif hint is dagger.Workspace:
            arguments[name] = workspace
    return arguments


def _argument(flag: Flag, value: Any, workspace: HostWorkspace) -> Any:  # noqa: ANN401
    if isinstance(value, list):  # `--only=lint,types` and `--only=lint --only=types`
        return [part for item in value for part in item.split(",")]
    if not isinstance(value, str):
        return value
    if flag.kind is dagger.Directory:
        take = workspace.directory if flag.name == SOURCE else workspace.without_history
        return take(value)
    if flag.kind is dagger.File:
        return workspace.file(value)
    if flag.kind is dagger.Secret:
        return _secret(flag.name, value, workspace)
    return value


def _secret(name: str, value: str, workspace: HostWorkspace) -> dagger.Secret:
    """A secret as ``dagger call`` names it: ``env:NAME``, ``file:PATH``, ``cmd:COMMAND``."""
    provider, colon, rest = value.partition(":")
    if not colon or provider not in ("env", "file", "cmd", "op", "vault"):
        raise ConfigError(
            f"--{name.replace('_', '-')}",
            got="a text",  # which may well be the secret
            expected="env:NAME, file:PATH or cmd:COMMAND",
            hint="put the secret into a variable and name that",
        )
    rest = rest.removeprefix("//")
    if provider == "file":
        rest = workspace.inside(rest)
    return dag.secret(f"{provider}://{rest}")


def _unwrapped(hint: Any) -> tuple[Any, str]:  # noqa: ANN401
    """The type and the documentation in ``Annotated[T | None, Doc(...)]``."""
    doc = ""
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        doc = next((e.documentation for e in extras if isinstance(e, dagger.Doc)), "")
    if typing.get_origin(hint) in (UnionType, typing.Union):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint, doc
    return hint, doc
